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
    return SimpleNamespace(folder=folder, class_names=names)


@pytest.fixture
def samples(tiny_artifact, tmp_path) -> Path:
    """A copy of the artifact's samples/ that a test may damage."""
    return Path(shutil.copytree(tiny_artifact / "samples", tmp_path / "samples"))


def test_the_samples_of_an_artifact_are_both_sheets_each_image_once_as_in_the_test_set(tiny_artifact, tiny_cifar):
    official, labels = read_test(tiny_cifar)
    found = find_images(classifier_at(tiny_artifact), Path("nowhere"))
    about = json.loads((tiny_artifact / "samples" / "samples.json").read_text())
    sheets = [{entry["index"] for entry in about[name]["images"]} for name in ("test", "mistakes")]
    assert sheets[0] & sheets[1] and sheets[1] - sheets[0]  # the case that matters
    assert found.indices == sorted(sheets[0] | sheets[1])
    assert np.array_equal(found.images, official[found.indices])
    assert found.labels == labels[found.indices].tolist()
    assert {found.indices[position] for position in found.drawn} == sheets[0] and len(found.drawn) == len(sheets[0])


def test_a_complete_cifar_folder_is_preferred_to_the_samples(tiny_artifact, tiny_cifar):
    official, labels = read_test(tiny_cifar)
    found = find_images(classifier_at(tiny_artifact), tiny_cifar)
    assert found.indices == list(found.drawn) == list(range(250)) and found.labels == labels.tolist()
    assert np.array_equal(found.images, official)


def test_an_incomplete_cifar_folder_does_not_hide_the_samples(tiny_artifact, tiny_cifar, tmp_path):
    shutil.copytree(tiny_cifar / FOLDER, tmp_path / FOLDER)
    (tmp_path / FOLDER / "data_batch_3").unlink()
    assert len(find_images(classifier_at(tiny_artifact), tmp_path).indices) < 250


def test_with_neither_samples_nor_data_it_says_so(tmp_path):
    with pytest.raises(NoDataset) as caught:
        find_images(classifier_at(tmp_path), tmp_path / "data")
    assert str(caught.value) == "The model on this page has no sample images."


def test_a_cifar_folder_does_not_serve_a_model_of_other_classes(tiny_artifact, tiny_cifar, tmp_path):
    with pytest.raises(DatasetError, match="its classes are not those of CIFAR-10"):
        find_images(classifier_at(tmp_path, ("cat", "dog")), tiny_cifar)
    names = tuple(reversed(CLASS_NAMES))
    assert len(find_images(classifier_at(tiny_artifact, names), tiny_cifar).indices) < 250


def test_a_damaged_cifar_folder_is_named_to_the_host_and_not_to_visitors(made_up_cifar, tmp_path, caplog):
    """The made-up files do not have the official md5."""
    with pytest.raises(NoDataset) as caught:
        find_images(classifier_at(tmp_path), made_up_cifar)
    assert str(caught.value) == "The CIFAR-10 files on this server are damaged or altered."
    assert str(made_up_cifar) in caplog.text and "test_batch is damaged or altered" in caplog.text


def test_a_damaged_cifar_folder_does_not_hide_the_samples(tiny_artifact, made_up_cifar, caplog):
    found = find_images(classifier_at(tiny_artifact), made_up_cifar)
    assert found.indices == read_samples(tiny_artifact / "samples", 10).indices
    assert "test_batch is damaged or altered" in caplog.text


def test_a_network_without_mistakes_has_one_sheet(samples):
    edit(samples, lambda about: about["mistakes"].update(images=[]))
    (samples / "mistakes.png").unlink()
    assert len(read_samples(samples, 10).indices) == 200


def edit(samples: Path, change) -> None:
    about = json.loads((samples / "samples.json").read_text())
    change(about)
    (samples / "samples.json").write_text(json.dumps(about))


def with_tiles_of_64(samples: Path) -> None:
    edit(samples, lambda about: about.update(tile=64))
    sheet = Image.open(samples / "test.png")
    sheet.resize((sheet.width * 2, sheet.height * 2)).save(samples / "test.png")


def with_a_short_chunk(png: bytes) -> bytes:
    """Behind the pixels, where Pillow finds it when it loads them."""
    at = png.index(b"IEND") - 4
    return png[:at] + chunk(b"gAMA", b"\0") + png[at:]


def with_a_broken_chunk(png: bytes) -> bytes:
    """Its pixels come in two chunks, with one between them whose name is none: Pillow finds that when it loads them."""
    at = png.index(b"IDAT") - 4
    end = at + 8 + int.from_bytes(png[at : at + 4], "big")
    halves = png[at + 8 : at + 108], png[at + 108 : end]
    return png[:at] + chunk(b"IDAT", halves[0]) + chunk(bytes(4), b"") + chunk(b"IDAT", halves[1]) + png[end + 4 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda samples: (samples / "samples.json").unlink(),
        lambda samples: (samples / "samples.json").write_text("{"),
        lambda samples: (samples / "samples.json").write_text("[]"),
        lambda samples: (samples / "test.png").unlink(),
        lambda samples: (samples / "test.png").write_bytes((samples / "test.png").read_bytes()[:500]),
        lambda samples: (samples / "test.png").write_bytes(with_a_broken_chunk((samples / "test.png").read_bytes())),
        lambda samples: (samples / "test.png").write_bytes(with_a_short_chunk((samples / "test.png").read_bytes())),
        lambda samples: Image.new("RGB", (640, 32)).save(samples / "test.png"),
        lambda samples: Image.new("RGB", (640, 320)).save(samples / "test.png", format="JPEG"),
        lambda samples: with_tiles_of_64(samples),
        lambda samples: edit(samples, lambda about: about.update(columns=0)),
        lambda samples: edit(samples, lambda about: about.update(columns=-1)),
        lambda samples: edit(samples, lambda about: about.update(columns=10**12)),
        lambda samples: edit(samples, lambda about: about.update(columns=2.5)),
        lambda samples: edit(samples, lambda about: about["test"].update(images=about["test"]["images"] * 6)),
        lambda samples: edit(samples, lambda about: about["test"].update(images=[])),
        lambda samples: (samples / "samples.json").write_text("[" * 100_000),
        lambda samples: Image.new("1", (20_000, 9_000)).save(samples / "test.png"),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(index=float("inf"))),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(label=10)),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].pop("index")),
        lambda samples: edit(samples, lambda about: about["test"].update(images=7)),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(label=-1)),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(label="0")),
        lambda samples: edit(samples, lambda about: about.pop("mistakes")),
        lambda samples: (samples / "mistakes.png").unlink(),
        lambda samples: edit(samples, lambda about: about["mistakes"].update(sheet="../test.png")),
        lambda samples: edit(samples, lambda about: about["mistakes"]["images"][0].update(label=10)),
    ],
)
def test_damaged_samples_are_refused_with_what_to_do(samples, damage):
    damage(samples)
    with pytest.raises(DatasetError) as caught:
        read_samples(samples, 10)
    assert "Export the artifact again, or delete that folder" in str(caught.value)
