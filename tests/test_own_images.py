"""The whole way of a folder of one's own images: train, export, evaluate, publish, host, serve."""

import csv
import io
import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.own_images import write_images
from model import Classifier, artifact
from model.artifact import SAMPLE_FILES
from model.cifar10 import CLASS_NAMES
from model.resnet import ResNet
from tests.conftest import TINY_FLAGS, made_up_images, reseal, train, write_dataset
from tests.hub_client import REPO, contents, environment
from tests.serving import running_app
from tests.test_data import train_loader
from tests.test_image_folder import draw, draw_every_kind, fill
from tests.test_space import SPACE, front_matter, write_tree
from tests.visitor import open_tab, upload, visit
from trainer.__main__ import call, run
from trainer.augment import to_float
from trainer.config import ConfigError, TrainConfig
from trainer.data import load_data, split_train_val
from trainer.pretrained import load_pretrained
from trainer.publish import publish
from trainer.space import create_space

COLORS = {"Käfer": (200, 60, 40), "red $熊猫": (40, 180, 60), "zebras": (60, 60, 200)}
SECRET = "holiday-with-anna"
SETTINGS = ["--image-size", "48", "--fit", "pad", "--flip", "none"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """20 images of each class in train/, 4 in test/, in its color, of 70 x 50 pixels; 5 zebras more of other kinds; an
    image that cannot be read, one that is in both parts, and what programs leave behind."""
    folder, random = tmp_path_factory.mktemp("own") / "photos", np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 4)):
        for name, color in COLORS.items():
            (folder / part / name / "deep").mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(np.array(color) + random.integers(-40, 40, (50, 70, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / "deep" / f"{SECRET}-{i}.png")
    zebras = folder / "train" / "zebras"
    draw_every_kind(zebras, COLORS["zebras"])
    shutil.copy(zebras / "deep" / f"{SECRET}-0.png", folder / "test" / "zebras" / "twice.png")
    (zebras / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    (zebras / "notes.txt").write_text("not an image")
    (zebras / ".DS_Store").write_bytes(b"\0")
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> Path:
    """The folder of a run, image size 48; what it printed is in stdout.txt."""
    run_dir = tmp_path_factory.mktemp("own-runs") / "run"
    with redirect_stdout(io.StringIO()) as output, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # matplotlib's, of letters that its font lacks
        call([*TINY_FLAGS, *SETTINGS, "--images", str(photos), "--output-dir", str(run_dir)])
    (run_dir / "stdout.txt").write_text(output.getvalue())
    return run_dir


def test_what_is_left_out_of_a_folder_is_told(trained):
    printed, (unreadable,) = (trained / "stdout.txt").read_text(), (trained / "unreadable.txt").read_text().splitlines()
    assert "Unreadable images left out: 1 (train/zebras/broken.jpg)" in printed
    assert "test images that are in train too, so that its accuracy comes out too high: 1 (test/zebras" in printed
    assert unreadable.startswith("train/zebras/broken.jpg: This image is damaged") and "upload" not in unreadable


def test_the_artifact_speaks_of_these_classes_and_names_no_file(trained, photos):
    classifier = Classifier.load(trained / "artifact")
    training, config = classifier.metrics.training, classifier.config
    assert classifier.class_names == tuple(sorted(COLORS))
    assert (config.image_size, config.fit, training.dataset) == (48, "pad", "photos")
    split = training.split
    assert (split.train, split.val, split.test) == (59, 6, 13)
    assert training.hyperparameters["images"] == "photos" and classifier.metrics.val.flip_tta is None
    assert sum(map(sum, classifier.metrics.test.confusion_matrix)) == 13
    card = (trained / "artifact" / "README.md").read_text()
    assert "ResNet-8 on photos" in card and "| zebras | 5 |" in card and "CIFAR" not in card.split("## Training")[0]
    assert "\nlicense:" not in card and "split: validation" in card and "ImageOps.pad(image, (48, 48)" in card
    for name, content in contents(trained / "artifact").items():
        assert SECRET.encode() not in content and str(photos).encode() not in content, name
    present = contents(trained / "artifact").keys()
    assert not present & set(SAMPLE_FILES) and len([name for name in present if name.startswith("tensorboard/")]) == 1
    with (trained / "artifact" / "predictions.csv").open() as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == list(range(13))


def test_evaluate_and_export_find_the_folder_where_it_is_now(trained, photos, tmp_path, capsys):
    moved = shutil.copytree(photos, tmp_path / "moved")
    assert run(["evaluate", str(trained / "artifact")]) == 2
    assert "was trained on photos: name that folder with --images" in capsys.readouterr().err
    assert run(["evaluate", str(trained / "artifact"), "--images", str(moved)]) == 0
    assert run(["export", str(trained), "--images", str(moved), "--samples"]) == 0
    listing = json.loads((trained / "artifact" / "samples" / "samples.json").read_text())
    assert listing["tile"] == 48 and len(listing["test"]["images"]) == 13
    assert Classifier.load(trained / "artifact").metrics.training.dataset == "photos"
    (moved / "train" / "zebras" / "deep" / f"{SECRET}-3.png").unlink()
    for command in (["export", str(trained)], ["--resume", "--output-dir", str(trained)]):
        assert run([*command, "--images", str(moved)]) == 2
        assert "was trained on other data" in capsys.readouterr().err


def test_no_samples_of_a_folder_unless_they_are_asked_for(trained, photos, tmp_path, capsys):
    """Whatever it is called, and also where the run is finished already."""
    again = [*TINY_FLAGS, *SETTINGS, "--images", str(photos), "--output-dir", str(trained), "--resume"]
    for flag, there in (("--samples", True), ("--no-samples", False)):
        assert run([*again, flag]) == 0
        assert (trained / "artifact" / "samples").is_dir() is there
    folder = shutil.copytree(photos, tmp_path / "CIFAR-10")
    assert run([*TINY_FLAGS, "--images", str(folder), "--output-dir", str(tmp_path / "run")]) == 0
    artifact_folder = tmp_path / "run" / "artifact"
    assert not (artifact_folder / "samples").exists()
    assert Classifier.load(artifact_folder).metrics.training.dataset == "CIFAR-10 (folder)"
    assert run(["evaluate", str(artifact_folder), "--images", str(folder)]) == 0
    fill(folder, {"train/more": 5, "test/more": 1})
    assert run(["evaluate", str(artifact_folder), "--images", str(folder)]) == 2
    assert "has other classes than CIFAR-10 (folder)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--images", "nowhere"], "--images nowhere is not a folder"),
        (["--images", ""], "is not a folder"),
        (["--images", ".", "--output-dir", "runs/x"], "--output-dir runs/x lies inside --images"),
        (["--images", ".", "--data-dir", "data"], "--data-dir has no effect with --images: leave one out"),
        (["--images", ".", "--download-from", "hub"], "--download-from has no effect with --images"),
        (["evaluate", "x", "--images", ".", "--data-dir", "data"], "--data-dir has no effect with --images"),
        (["export", "x", "--images", ".", "--data-dir", "data"], "--data-dir has no effect with --images"),
        (["--image-size", "64"], "--image-size has no effect without --images"),
        (["--images", ".", "--image-size", "40"], "it must be from 32 to 128 in steps of 16"),
    ],
)
def test_wrong_flags_are_told_before_anything_is_read(flags, words, capsys):
    assert run(flags) == 2 and words in capsys.readouterr().err


@pytest.fixture
def zebra(tmp_path) -> Path:
    Image.new("RGB", (90, 60), COLORS["zebras"]).save(tmp_path / "zebra.png")
    return tmp_path / "zebra.png"


@contextmanager
def hosted(run_dir: Path, hub, folder: Path) -> Iterator[str]:
    """The address of the page of a Space, its model published with samples; the Space's files run, as Spaces would."""
    call(["export", str(run_dir), "--samples"])
    publish(run_dir / "artifact", REPO)
    create_space(SPACE, REPO)
    env = environment(hub, folder / "home") | hub.repo(SPACE, "space").variables
    with running_app(folder, env=env, root=write_tree(hub, folder / "space")) as address:
        yield address


def test_published_and_hosted_the_page_speaks_of_these_classes(trained, hub, zebra, tmp_path):
    with hosted(trained, hub, tmp_path) as address:
        page = httpx.get(address).text
        sent = {"image": zebra.read_bytes()}
        answer = httpx.post(f"{address}/api/predict", files=sent, params={"top_k": 3}).json()
        sent_twice = [("images", sent["image"])] * 2
        batch = httpx.post(f"{address}/api/predict/batch", files=sent_twice, params={"top_k": 3}).json()
        heat = httpx.post(f"{address}/api/activation-map", files=sent, params={"label": "Käfer"}).json()
        about = httpx.get(f"{address}/api/model").json()
    expected = Classifier.load(trained / "artifact").predict(Image.open(zebra), top_k=3)
    assert [(each["label"], pytest.approx(each["confidence"])) for each in answer["confidences"]] == expected
    assert [each["confidences"] for each in batch] == [answer["confidences"]] * 2
    assert np.shape(heat["map"]) == (12, 12) and about["image_size"] == 48
    assert "Image classifier: photos" in page
    matter = front_matter(hub)
    assert matter["title"] == "Image classifier: photos" and "datasets" not in matter
    assert SAMPLE_FILES[0] in matter["preload_from_hub"][0]


@pytest.mark.slow
def test_a_visitor_of_the_space_sees_these_classes_and_gets_an_answer(browser, trained, hub, zebra, tmp_path):
    expected = Classifier.load(trained / "artifact").predict(Image.open(zebra), top_k=3)
    with hosted(trained, hub, tmp_path) as address, visit(browser, address) as page:
        page.locator("#head", has_text="Recognizes 3 classes: Käfer, red $熊猫 and zebras").wait_for()
        upload(page, zebra)
        page.locator("#answer h2", has_text=expected[0][0]).wait_for()
        shown = page.locator("#answer .bar").all_inner_texts()
        assert [text.split("\n")[0] for text in shown] == [label for label, _ in expected]
        open_tab(page, "Test images")
        page.locator("#test-images .count", has_text="13 of 13 images").wait_for()


def test_a_space_works_without_samples(trained, hub):
    call(["export", str(trained)])
    publish(trained / "artifact", REPO)
    create_space(SPACE, REPO)
    assert artifact.SAMPLES not in str(front_matter(hub))


# The trainer


def history(run_dir: Path) -> list[dict[str, str]]:
    """Without what depends on the clock."""
    with (run_dir / artifact.HISTORY).open() as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in csv.DictReader(file)
        ]


def test_cifar10_in_folders_trains_as_its_batches_do(tmp_path):
    """The same images in a folder's order, class by class, with the same validation images: the same history."""
    images, labels = made_up_images(300, np.random.RandomState(0))
    order = np.argsort(labels, kind="stable")
    images, labels = images[order], labels[order]
    (tmp_path / "data").mkdir()
    batches = iter(zip(np.split(images, 5), np.split(labels, 5), strict=True))
    data_dir = write_dataset(tmp_path / "data", lambda count, random: next(batches, (images, labels)))
    split = split_train_val(labels)
    for part, chosen in (("train", split.train), ("val", split.val), ("test", np.arange(300))):
        write_images(tmp_path / "photos" / part, images[chosen], [CLASS_NAMES[label] for label in labels[chosen]])
    official = train(data_dir, tmp_path / "official")
    call([*TINY_FLAGS, "--images", str(tmp_path / "photos"), "--output-dir", str(tmp_path / "folder")])
    assert history(tmp_path / "folder") == history(official) and len(history(official)) == 2
    scores = [artifact.read(run_dir / "artifact").metrics for run_dir in (official, tmp_path / "folder")]
    assert scores[0].val == scores[1].val and scores[0].test == scores[1].test


@pytest.mark.parametrize("side", [32, 64])
def test_crop_padding_and_cutout_scale_with_the_image_size(side):
    images = torch.full((200, side, side, 3), 255, dtype=torch.uint8)
    (padded, _), *_ = train_loader(images, batch_size=200, crop_padding=4)
    black = (padded == 0).flatten(2).all(1)  # (200, S * S)
    outside = black.view(-1, side, side).all(2).sum(1)  # rows of each
    assert outside.max() == 4 * side / 32
    (blanked, _), *_ = train_loader(images, batch_size=200, crop_padding=0, cutout=8)
    assert (blanked != 1).all(1).flatten(1).sum(1).max() == (8 * side / 32) ** 2


@pytest.mark.parametrize("crop", [{"crop_padding": 0}, {"crop": "resized", "crop_scale": (1, 1), "crop_ratio": (1, 1)}])
def test_flip_none_mirrors_no_image(crop):
    images = torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8)
    (shown, labels), *_ = train_loader(images, batch_size=64, flip="none", **crop)
    assert (shown - to_float(images[labels])).abs().max() < 1e-6


# Networks that were trained on a folder before


def pretrained_on(trained: Path, folder: Path) -> None:
    """What a run on `folder` says of beginning with the network of `trained`."""
    source = str(trained / "artifact")
    load_pretrained(TrainConfig(depth=8, initial_weights=source), load_data(TrainConfig(images=str(folder)), Path()))


def test_a_folder_is_the_same_where_its_images_are_whatever_its_name(trained, photos, tmp_path, capsys):
    renamed = shutil.copytree(photos, tmp_path / "renamed")
    pretrained_on(trained, renamed)  # holds out the same images
    for name in COLORS:  # now others, which the network has learned
        (renamed / "val" / name).mkdir(parents=True)
        image = renamed / "train" / name / "deep" / f"{SECRET}-7.png"
        image.rename(renamed / "val" / name / image.name)
    with pytest.raises(ConfigError, match="--initial-weights .* trained with other validation images than this run"):
        pretrained_on(trained, renamed)
    draw(renamed / "val" / "zebras" / f"{SECRET}-7.png", seed=7)
    pretrained_on(trained, renamed)  # one image differs: another folder
    assert "called" not in capsys.readouterr().out
    pretrained_on(trained, fill(tmp_path / "photos", dict.fromkeys(COLORS, 20)))
    assert "was trained on other images that are called photos, too" in capsys.readouterr().out


def test_of_an_older_network_the_name_of_its_folder_decides(trained, photos, tmp_path):
    shutil.copytree(trained / "artifact", tmp_path / "artifact")
    metrics = artifact.read(tmp_path / "artifact").metrics
    split = replace(metrics.training.split, images_sha256=None, val_sha256="0" * 64)
    artifact.write_metrics(tmp_path / "artifact", replace(metrics, training=replace(metrics.training, split=split)))
    reseal(tmp_path / "artifact")
    pretrained_on(tmp_path, shutil.copytree(photos, tmp_path / "renamed"))
    with pytest.raises(ConfigError, match="trained with other validation images"):
        pretrained_on(tmp_path, photos)


def test_a_network_of_other_classes_lends_its_body(photos, tiny_artifact, tmp_path):
    """--initial-weights from CIFAR-10: with no step to speak of, all but the last layer and the statistics is its."""
    flags = ["--images", str(photos), "--initial-weights", str(tiny_artifact), "--learning-rate", "1e-12"]
    call([*TINY_FLAGS[:2], "--device", "cpu", "--precision", "32-true", "--weight-decay", "0", "--max-epochs", "1",
          *flags, "--output-dir", str(tmp_path / "run")])  # fmt: skip
    before, after = (
        ResNet.from_pretrained(folder).state_dict() for folder in (tiny_artifact, tmp_path / "run/artifact")
    )
    assert after["fc.weight"].shape[0] == 3
    for name, value in after.items():
        if not name.startswith(("fc.", "mean", "std")) and "running" not in name and "tracked" not in name:
            assert torch.allclose(value, before[name], atol=1e-6), name
