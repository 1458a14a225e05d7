import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from model.cifar10 import CLASS_NAMES, DatasetError, read_test
from ui.test_images import PER_CLASS, TestImages, find_test_images, read_samples, verdict_html


def classifier_at(folder: Path, names=CLASS_NAMES) -> SimpleNamespace:
    return SimpleNamespace(folder=folder, class_names=names)


@pytest.fixture
def samples(tiny_artifact, tmp_path) -> Path:
    """A copy of the artifact's samples/ that a test may damage."""
    return Path(shutil.copytree(tiny_artifact / "samples", tmp_path / "samples"))


def test_the_samples_of_an_artifact_are_the_official_images_of_their_index(tiny_artifact, tiny_cifar):
    official, labels = read_test(tiny_cifar)
    found = find_test_images(classifier_at(tiny_artifact), Path("nowhere"))
    assert len(found.indices) == 10 * PER_CLASS
    assert np.array_equal(found.images, official[found.indices])
    assert found.labels == labels[found.indices].tolist()


def test_without_samples_20_images_of_each_class_come_from_the_cifar_folder_always_the_same(tiny_cifar, tmp_path):
    official, labels = read_test(tiny_cifar)
    found = find_test_images(classifier_at(tmp_path), tiny_cifar)
    again = find_test_images(classifier_at(tmp_path), tiny_cifar)
    assert np.bincount(found.labels).tolist() == [PER_CLASS] * 10
    assert len(set(found.indices)) == 10 * PER_CLASS
    assert np.array_equal(found.images, official[found.indices])
    assert found.labels == labels[found.indices].tolist()
    assert found.indices == again.indices


def test_with_neither_samples_nor_data_it_says_where_it_looked_and_what_to_do(tmp_path):
    with pytest.raises(DatasetError) as caught:
        find_test_images(classifier_at(tmp_path), tmp_path / "data")
    message = str(caught.value)
    assert str(tmp_path / "data") in message and "data_batch_1" in message
    assert "cifar-10-python.tar.gz" in message and "--data-dir" in message


def test_a_cifar_folder_does_not_serve_a_model_of_other_classes(tiny_cifar, tmp_path):
    with pytest.raises(DatasetError, match="its classes are not those of CIFAR-10"):
        find_test_images(classifier_at(tmp_path, ("cat", "dog")), tiny_cifar)


def test_a_damaged_cifar_file_is_named(made_up_cifar, tmp_path):
    """The made-up files do not have the official md5."""
    with pytest.raises(DatasetError, match="test_batch is damaged or altered"):
        find_test_images(classifier_at(tmp_path), made_up_cifar)


def edit(samples: Path, change) -> None:
    about = json.loads((samples / "samples.json").read_text())
    change(about)
    (samples / "samples.json").write_text(json.dumps(about))


def with_tiles_of_64(samples: Path) -> None:
    edit(samples, lambda about: about.update(tile=64))
    sheet = Image.open(samples / "test.png")
    sheet.resize((sheet.width * 2, sheet.height * 2)).save(samples / "test.png")


@pytest.mark.parametrize(
    "damage",
    [
        lambda samples: (samples / "samples.json").unlink(),
        lambda samples: (samples / "samples.json").write_text("{"),
        lambda samples: (samples / "samples.json").write_text("[]"),
        lambda samples: (samples / "test.png").unlink(),
        lambda samples: (samples / "test.png").write_bytes((samples / "test.png").read_bytes()[:500]),
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
        lambda samples: Image.new("1", (30_000, 30_000)).save(samples / "test.png"),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(index=float("inf"))),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].update(label=10)),
        lambda samples: edit(samples, lambda about: about["test"]["images"][3].pop("index")),
        lambda samples: edit(samples, lambda about: about["test"].update(images=7)),
    ],
)
def test_damaged_samples_are_refused_with_what_to_do(samples, damage):
    damage(samples)
    with pytest.raises(DatasetError) as caught:
        read_samples(samples, 10)
    assert "Export the artifact again, or delete that folder" in str(caught.value)


def images_of(labels: list[int]) -> TestImages:
    return TestImages(np.zeros((len(labels), 32, 32, 3), np.uint8), labels, list(range(len(labels))))


def test_all_classes_take_turns_with_five_of_each_at_most():
    assert images_of([0] * 7 + [1] * 2 + [2]).positions() == [0, 7, 9, 1, 8, 2, 3, 4]


def test_one_class_shows_all_of_its_images():
    assert images_of([0, 1, 0, 1, 1]).positions(1) == [1, 3, 4]


def test_the_verdict_says_right_or_wrong_in_words():
    right = verdict_html(("cat", 0.934), "cat", 17)
    wrong = verdict_html(("dog", 0.51), "cat", 1234)
    assert "<strong>Right</strong>" in right and "The network says <b>cat</b> (93%). It is <b>cat</b>." in right
    assert "<strong>Wrong</strong>" in wrong and "The network says <b>dog</b> (51%). It is <b>cat</b>." in wrong
    assert "Test image 1,234" in wrong


def test_a_class_name_cannot_bring_markup_into_the_verdict():
    assert "<i>" not in verdict_html(("<i>x", 0.5), "<i>y", 0)
