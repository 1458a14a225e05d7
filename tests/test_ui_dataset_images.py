"""Where the test images come from: a CIFAR-10 folder, or the samples of the artifact."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from model.cifar10 import CLASS_NAMES, FOLDER, DatasetError, read_test
from tests.image_files import chunk
from ui.dataset_images import NoDataset, find_images, read_samples


def classifier_at(folder: Path, names=CLASS_NAMES) -> SimpleNamespace:
    config = SimpleNamespace(class_names=names, image_size=32)
    metrics = SimpleNamespace(training=SimpleNamespace(dataset="CIFAR-10"))
    return SimpleNamespace(folder=folder, class_names=names, config=config, metrics=metrics)


@pytest.fixture
def samples(tiny_artifact, tmp_path) -> Path:
    """A copy of the artifact's samples/ that a test may damage."""
    return Path(shutil.copytree(tiny_artifact / "samples", tmp_path / "samples"))


def test_the_samples_of_an_artifact_are_both_sheets_each_image_once(tiny_artifact, tiny_cifar):
    official, labels = read_test(tiny_cifar)
    found = find_images(classifier_at(tiny_artifact), Path("nowhere"))
    about = json.loads((tiny_artifact / "samples" / "samples.json").read_text())
    sheets = [{entry["index"] for entry in about[name]["images"]} for name in ("test", "mistakes")]
    assert sheets[0] & sheets[1] and sheets[1] - sheets[0]  # the case that matters
    assert found.indices == sorted(sheets[0] | sheets[1])
    assert np.array_equal(found.images, official[found.indices])
    assert found.labels == labels[found.indices].tolist()
    assert {found.indices[position] for position in found.drawn} == sheets[0] and len(found.drawn) == len(sheets[0])


def test_a_complete_cifar_folder_is_preferred_to_the_samples(tiny_artifact, tiny_cifar, tmp_path):
    official, labels = read_test(tiny_cifar)
    found = find_images(classifier_at(tiny_artifact), tiny_cifar)
    assert found.indices == list(found.drawn) == list(range(250)) and found.labels == labels.tolist()
    assert np.array_equal(found.images, official)
    shutil.copytree(tiny_cifar / FOLDER, tmp_path / FOLDER)
    (tmp_path / FOLDER / "data_batch_3").unlink()
    assert len(find_images(classifier_at(tiny_artifact), tmp_path).indices) < 250


def test_a_cifar_folder_does_not_serve_a_model_of_other_classes(tiny_artifact, tiny_cifar, tmp_path):
    with pytest.raises(DatasetError, match="brings no sample images"):
        find_images(classifier_at(tmp_path, ("cat", "dog")), tiny_cifar)
    names = tuple(reversed(CLASS_NAMES))
    assert len(find_images(classifier_at(tiny_artifact, names), tiny_cifar).indices) < 250


def test_with_neither_samples_nor_data_it_says_so(tmp_path):
    with pytest.raises(NoDataset, match="The model on this page has no sample images."):
        find_images(classifier_at(tmp_path), tmp_path / "data")


def test_a_damaged_cifar_folder_is_named_to_the_host_and_hides_no_samples(
    tiny_artifact, made_up_cifar, tmp_path, caplog
):
    """The made-up files do not have the official md5."""
    with pytest.raises(NoDataset) as caught:
        find_images(classifier_at(tmp_path), made_up_cifar)
    assert str(caught.value) == "The CIFAR-10 files on this server are damaged or altered."
    assert str(made_up_cifar) in caplog.text and "test_batch is damaged or altered" in caplog.text
    found = find_images(classifier_at(tiny_artifact), made_up_cifar)
    assert found.indices == read_samples(tiny_artifact / "samples", 10, 32).indices


def edit(samples: Path, change) -> None:
    about = json.loads((samples / "samples.json").read_text())
    change(about)
    (samples / "samples.json").write_text(json.dumps(about))


def test_a_network_without_mistakes_has_one_sheet(samples):
    edit(samples, lambda about: about["mistakes"].update(images=[]))
    (samples / "mistakes.png").unlink()
    assert len(read_samples(samples, 10, 32).indices) == 200


def broken_png(png: bytes) -> bytes:
    """Its pixels come in two chunks, with one between them whose name is none: Pillow finds that when it loads them."""
    at = png.index(b"IDAT") - 4
    end = at + 8 + int.from_bytes(png[at : at + 4], "big")
    halves = png[at + 8 : at + 108], png[at + 108 : end]
    return png[:at] + chunk(b"IDAT", halves[0]) + chunk(bytes(4), b"") + chunk(b"IDAT", halves[1]) + png[end + 4 :]


def short_chunk_png(png: bytes) -> bytes:
    """One behind the pixels, where Pillow finds it when it loads them."""
    at = png.index(b"IEND") - 4
    return png[:at] + chunk(b"gAMA", b"\0") + png[at:]


CHANGES = {
    "zero columns": lambda about: about.update(columns=0),
    "too many columns": lambda about: about.update(columns=10**12),
    "half a column": lambda about: about.update(columns=2.5),
    "large tiles": lambda about: about.update(tile=64),
    "too many images": lambda about: about["test"].update(images=about["test"]["images"] * 6),
    "no images": lambda about: about["test"].update(images=[]),
    "a number for images": lambda about: about["test"].update(images=7),
    "an infinite index": lambda about: about["test"]["images"][3].update(index=float("inf")),
    "no index": lambda about: about["test"]["images"][3].pop("index"),
    "an unknown label": lambda about: about["test"]["images"][3].update(label=10),
    "a negative label": lambda about: about["test"]["images"][3].update(label=-1),
    "a label as text": lambda about: about["test"]["images"][3].update(label="0"),
    "one sheet": lambda about: about.pop("mistakes"),
}
FILES = {
    "none": lambda samples: (samples / "samples.json").unlink(),
    "half of JSON": lambda samples: (samples / "samples.json").write_text("{"),
    "a list": lambda samples: (samples / "samples.json").write_text("[]"),
    "deep JSON": lambda samples: (samples / "samples.json").write_text("[" * 100_000),
    "no PNG": lambda samples: (samples / "test.png").unlink(),
    "half a PNG": lambda samples: (samples / "test.png").write_bytes((samples / "test.png").read_bytes()[:500]),
    "a broken PNG": lambda samples: (samples / "test.png").write_bytes(broken_png((samples / "test.png").read_bytes())),
    "a short chunk": lambda samples: (samples / "test.png").write_bytes(
        short_chunk_png((samples / "test.png").read_bytes())
    ),
    "a small sheet": lambda samples: Image.new("RGB", (640, 32)).save(samples / "test.png"),
    "a JPEG": lambda samples: Image.new("RGB", (640, 320)).save(samples / "test.png", format="JPEG"),
    "a bomb": lambda samples: Image.new("1", (20_000, 9_000)).save(samples / "test.png"),
}


def with_a_sheet_of_another_folder(samples: Path) -> None:
    (samples / "mistakes.png").rename(samples.parent / "mistakes.png")
    edit(samples, lambda about: about["mistakes"].update(sheet="../mistakes.png"))


FILES["a sheet of another folder"] = with_a_sheet_of_another_folder
DAMAGE = FILES | {name: (lambda samples, change=change: edit(samples, change)) for name, change in CHANGES.items()}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_samples_are_refused_with_what_to_do(samples, damage):
    damage(samples)
    with pytest.raises(DatasetError, match="Export the artifact again, or delete that folder"):
        read_samples(samples, 10, 32)
