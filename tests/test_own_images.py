"""The whole way of a folder of one's own images: train, export, evaluate, publish, host, serve."""

import csv
import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from model import Classifier, artifact
from model.artifact import SAMPLE_FILES
from model.resnet import ResNet
from tests.conftest import TINY_FLAGS
from tests.hub_client import REPO, contents
from tests.serving import running_app
from trainer.__main__ import call, run
from trainer.publish import publish
from trainer.space import create_space

COLORS = {"Käfer": (200, 60, 40), "red $pandas": (40, 180, 60), "zebras": (60, 60, 200)}
SECRET = "holiday-with-anna"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """20 images of 70 x 50 pixels of each class, in its color, and a file that is none."""
    folder, random = tmp_path_factory.mktemp("own") / "photos", np.random.default_rng(0)
    for name, color in COLORS.items():
        (folder / name / "deep").mkdir(parents=True)
        for i in range(20):
            pixels = np.clip(np.array(color) + random.integers(-40, 40, (50, 70, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / "deep" / f"{SECRET}-{i}.png")
    (folder / "zebras" / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> Path:
    """The folder of a run, image size 48, with its default name."""
    runs = tmp_path_factory.mktemp("own-runs")
    call([*TINY_FLAGS, "--images", str(photos), "--image-size", "48", "--fit", "pad", "--flip", "none",
          "--output-dir", str(runs / "run")])  # fmt: skip
    return runs / "run"


def test_the_artifact_speaks_of_these_classes_and_names_no_file(trained, photos):
    classifier = Classifier.load(trained / "artifact")
    training, config = classifier.metrics.training, classifier.config
    assert classifier.class_names == tuple(sorted(COLORS))
    assert (config.image_size, config.fit, training.dataset) == (48, "pad", "photos")
    split = training.split
    assert (split.train, split.val, split.test) == (48, 6, 6)
    assert training.hyperparameters["images"] == "photos" and classifier.metrics.val.flip_tta is None
    assert sum(map(sum, classifier.metrics.test.confusion_matrix)) == 6
    card = (trained / "artifact" / "README.md").read_text()
    assert "ResNet-8 on photos" in card and "| zebras | 2 |" in card and "CIFAR" not in card.split("## Training")[0]
    for name, content in contents(trained / "artifact").items():
        assert SECRET.encode() not in content and str(photos).encode() not in content, name
    present = contents(trained / "artifact").keys()
    assert not present & set(SAMPLE_FILES) and len([name for name in present if name.startswith("tensorboard/")]) == 1
    with (trained / "artifact" / "predictions.csv").open() as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == list(range(6))


def test_evaluate_and_export_find_the_folder_where_it_is_now(trained, photos, tmp_path, capsys):
    moved = shutil.copytree(photos, tmp_path / "moved")
    assert run(["evaluate", str(trained / "artifact")]) == 2
    assert "was trained on photos: name that folder with --images" in capsys.readouterr().err
    assert run(["evaluate", str(trained / "artifact"), "--images", str(moved)]) == 0
    assert run(["export", str(trained), "--images", str(moved), "--samples"]) == 0
    listing = json.loads((trained / "artifact" / "samples" / "samples.json").read_text())
    assert listing["tile"] == 48 and len(listing["test"]["images"]) == 6
    assert Classifier.load(trained / "artifact").metrics.training.dataset == "photos"
    (moved / "zebras" / "deep" / f"{SECRET}-3.png").unlink()
    assert run(["export", str(trained), "--images", str(moved)]) == 2
    assert "was trained on other data" in capsys.readouterr().err


def test_no_samples_of_a_folder_unless_they_are_asked_for(trained, photos, tmp_path, capsys):
    """Whatever it is called, and also where the run is finished already."""
    again = [
        "--images",
        str(photos),
        "--image-size",
        "48",
        "--fit",
        "pad",
        "--flip",
        "none",
        "--output-dir",
        str(trained),
    ]
    for flag, there in (("--samples", True), ("--no-samples", False)):
        assert run([*TINY_FLAGS, *again, "--resume", flag]) == 0
        assert (trained / "artifact" / "samples").is_dir() is there
    folder = shutil.copytree(photos, tmp_path / "CIFAR-10")
    assert run([*TINY_FLAGS, "--images", str(folder), "--output-dir", str(tmp_path / "run")]) == 0
    artifact_folder = tmp_path / "run" / "artifact"
    assert not (artifact_folder / "samples").exists()
    assert Classifier.load(artifact_folder).metrics.training.dataset == "CIFAR-10 (folder)"
    assert run(["evaluate", str(artifact_folder), "--images", str(folder)]) == 0
    (folder / "more").mkdir()
    for i in range(5):
        Image.new("RGB", (9, 9), (i, i, i)).save(folder / "more" / f"{i}.png")
    assert run(["evaluate", str(artifact_folder), "--images", str(folder)]) == 2
    assert "has other classes than CIFAR-10 (folder)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--images", "nowhere"], "--images nowhere is not a folder"),
        (["--images", ""], "is not a folder"),
        (["--images", ".", "--output-dir", "runs/x"], "--output-dir runs/x lies inside --images"),
        (["--image-size", "64"], "--image-size has no effect without --images"),
        (["--images", ".", "--image-size", "40"], "it must be from 32 to 128 in steps of 16"),
    ],
)
def test_wrong_flags_are_told_before_anything_is_read(flags, words, capsys):
    assert run(flags) == 2 and words in capsys.readouterr().err


def test_published_and_hosted_the_page_shows_these_classes(trained, hub, tmp_path):
    call(["export", str(trained), "--samples"])
    publish(trained / "artifact", REPO)
    create_space("ann/page", REPO)
    matter = yaml.safe_load(hub.files("ann/page", repo_type="space")["README.md"].decode().split("---\n")[1])
    assert matter["title"] == "Image classifier: photos" and "datasets" not in matter
    assert SAMPLE_FILES[0] in matter["preload_from_hub"][0]
    zebra = Image.new("RGB", (90, 60), COLORS["zebras"])
    zebra.save(tmp_path / "zebra.png")
    with running_app(tmp_path, "--model", str(trained / "artifact")) as address:
        page = httpx.get(address).text
        sent = {"image": (tmp_path / "zebra.png").read_bytes()}
        answer = httpx.post(f"{address}/api/predict", files=sent, params={"top_k": 3}).json()
        sent_twice = [("images", sent["image"])] * 2
        batch = httpx.post(f"{address}/api/predict/batch", files=sent_twice, params={"top_k": 3}).json()
        heat = httpx.post(f"{address}/api/activation-map", files=sent, params={"label": "Käfer"}).json()
        about = httpx.get(f"{address}/api/model").json()
    expected = Classifier.load(trained / "artifact").predict(zebra, top_k=3)
    assert [(each["label"], pytest.approx(each["confidence"])) for each in answer["confidences"]] == expected
    assert [each["confidences"] for each in batch] == [answer["confidences"]] * 2
    assert np.shape(heat["map"]) == (12, 12) and about["image_size"] == 48
    assert "Image classifier: photos" in page


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


def test_a_space_works_without_samples(trained, hub):
    call(["export", str(trained)])
    publish(trained / "artifact", REPO)
    create_space("ann/page", REPO)
    assert artifact.SAMPLES not in str(hub.files("ann/page", repo_type="space")["README.md"])
