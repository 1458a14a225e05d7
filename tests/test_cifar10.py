import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from model import cifar10
from tests.conftest import TEST_IMAGES, TRAIN_PER_BATCH


def test_md5_table_is_the_one_torchvision_checks():
    from torchvision.datasets import CIFAR10

    official = dict(CIFAR10.train_list + CIFAR10.test_list) | {CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}
    assert official == cifar10.MD5


OFFICIAL = Path(os.environ.get("CIFAR10_DIR", "nowhere"))


@pytest.mark.skipif(not (OFFICIAL / cifar10.FOLDER).is_dir(), reason="needs the official files: set CIFAR10_DIR")
def test_sha256_table_mean_and_std_are_those_of_the_official_images():
    images, labels = cifar10.read_train(OFFICIAL)
    np.testing.assert_allclose(cifar10.MEAN, (images / 255).mean((0, 1, 2)), rtol=0, atol=5e-9)
    np.testing.assert_allclose(cifar10.STD, (images / 255).std((0, 1, 2)), rtol=0, atol=5e-9)
    batches = [*zip(np.split(images, 5), np.split(labels, 5), strict=True), cifar10.read_test(OFFICIAL)]
    found = [hashlib.sha256(i.tobytes() + n.astype("<i8").tobytes()).hexdigest() for i, n in batches]
    assert dict(zip([*cifar10.TRAIN_BATCHES, *cifar10.TEST_BATCHES], found, strict=True)) == cifar10.SHA256


def test_batches_are_read_in_file_order_as_height_width_channel(tiny_cifar):
    images, labels = cifar10.read_train(tiny_cifar)
    assert images.shape == (5 * TRAIN_PER_BATCH, 32, 32, 3) and images.dtype == np.uint8
    assert labels.shape == (5 * TRAIN_PER_BATCH,) and labels.dtype == np.int64
    second = pickle.loads((tiny_cifar / cifar10.FOLDER / "data_batch_2").read_bytes(), encoding="latin1")
    # The official layout: 1,024 red values row by row, then green, then blue.
    row, column, channel = 5, 9, 2
    assert images[TRAIN_PER_BATCH + 3, row, column, channel] == second["data"][3, channel * 1024 + row * 32 + column]
    assert labels[TRAIN_PER_BATCH + 3] == second["labels"][3]


def test_torchvision_reads_the_same_pixels(tiny_cifar, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    oracle = CIFAR10(str(tiny_cifar), train=False)
    images, labels = cifar10.read_test(tiny_cifar)
    assert len(images) == TEST_IMAGES
    assert np.array_equal(images, oracle.data) and labels.tolist() == oracle.targets


def test_an_altered_file_is_named_with_both_digests_and_never_unpickled(tiny_cifar, tmp_path):
    shutil.copytree(tiny_cifar, tmp_path / "data")
    target = tmp_path / "data" / cifar10.FOLDER / "data_batch_3"
    target.write_bytes(b"cos\nsystem\n(S'touch /tmp/unpickled'\ntR.")  # a pickle that would run a command
    with pytest.raises(cifar10.DatasetError) as caught:
        cifar10.read_train(tmp_path / "data")
    message = str(caught.value)
    assert str(target) in message and cifar10.MD5["data_batch_3"] in message and "delete it" in message


def test_a_missing_file_is_named_with_what_to_do(tiny_cifar, tmp_path):
    shutil.copytree(tiny_cifar, tmp_path / "data")
    (tmp_path / "data" / cifar10.FOLDER / "test_batch").unlink()
    assert cifar10.missing_files(tmp_path / "data") == ["test_batch"]
    with pytest.raises(cifar10.DatasetError, match="test_batch is missing: unpack cifar-10-python.tar.gz"):
        cifar10.read_test(tmp_path / "data")


def test_all_files_of_a_folder_that_may_not_be_looked_into_are_missing(tmp_path):
    assert cifar10.missing_files(tmp_path / ("x" * 300)) == list(cifar10.MD5)


def test_checking_the_files_names_a_damaged_one_without_reading_the_others_content(tiny_cifar, tmp_path):
    cifar10.check_files(tiny_cifar)
    shutil.copytree(tiny_cifar, tmp_path / "data")
    (tmp_path / "data" / cifar10.FOLDER / "batches.meta").write_bytes(b"")
    with pytest.raises(cifar10.DatasetError, match="batches.meta is damaged"):
        cifar10.check_files(tmp_path / "data")


def test_only_the_files_that_were_asked_for_are_checked(tiny_cifar, tmp_path):
    shutil.copytree(tiny_cifar, tmp_path / "data")
    (tmp_path / "data" / cifar10.FOLDER / "data_batch_2").write_bytes(b"")
    cifar10.check_files(tmp_path / "data", ["test_batch", "batches.meta"])
    with pytest.raises(cifar10.DatasetError, match="data_batch_2 is damaged"):
        cifar10.check_files(tmp_path / "data", ["test_batch", "data_batch_2"])


def test_the_data_folder_is_the_flag_then_the_environment_then_data(monkeypatch):
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    assert str(cifar10.data_dir()) == "data"
    monkeypatch.setenv("CIFAR10_DIR", "/elsewhere")
    assert str(cifar10.data_dir()) == "/elsewhere"
    assert str(cifar10.data_dir("flag")) == "flag"
