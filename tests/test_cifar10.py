"""The official files: which they are, what they hold, what is said of others."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from model import cifar10
from tests.conftest import TEST_IMAGES, TRAIN_PER_BATCH
from ui import download as page


def test_md5_table_is_the_one_torchvision_checks():
    official = dict(CIFAR10.train_list + CIFAR10.test_list) | {CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}
    assert official == cifar10.MD5


def test_the_page_downloads_the_archive_that_torchvision_downloads():
    assert (page.URL, page.MD5, page.BYTES) == (CIFAR10.url, CIFAR10.tgz_md5, 170_498_071)


OFFICIAL = Path(os.environ.get("CIFAR10_DIR", "nowhere"))


@pytest.mark.skipif(not (OFFICIAL / cifar10.FOLDER).is_dir(), reason="needs the official files: set CIFAR10_DIR")
def test_sha256_table_mean_and_std_are_those_of_the_official_images():
    images, labels = cifar10.read_train(OFFICIAL)
    np.testing.assert_allclose(cifar10.MEAN, (images / 255).mean((0, 1, 2)), rtol=0, atol=5e-9)
    np.testing.assert_allclose(cifar10.STD, (images / 255).std((0, 1, 2)), rtol=0, atol=5e-9)
    batches = [*zip(np.split(images, 5), np.split(labels, 5), strict=True), cifar10.read_test(OFFICIAL)]
    found = [hashlib.sha256(i.tobytes() + n.astype("<i8").tobytes()).hexdigest() for i, n in batches]
    assert dict(zip([*cifar10.TRAIN_BATCHES, *cifar10.TEST_BATCHES], found, strict=True)) == cifar10.SHA256


def test_batches_are_read_in_file_order_with_the_pixels_that_torchvision_reads(tiny_cifar, monkeypatch):
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, name, [(file, cifar10.MD5[file]) for file, _ in getattr(CIFAR10, name)])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": cifar10.MD5["batches.meta"]})
    for train, read, count in (
        (True, cifar10.read_train, 5 * TRAIN_PER_BATCH),
        (False, cifar10.read_test, TEST_IMAGES),
    ):
        oracle, (images, labels) = CIFAR10(str(tiny_cifar), train), read(tiny_cifar)
        assert images.shape == (count, 32, 32, 3) and images.dtype == np.uint8 and labels.dtype == np.int64
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


def test_the_data_folder_is_the_flag_then_the_environment_then_data(monkeypatch):
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    assert str(cifar10.data_dir()) == "data"
    monkeypatch.setenv("CIFAR10_DIR", "/elsewhere")
    assert str(cifar10.data_dir()) == "/elsewhere"
    assert str(cifar10.data_dir("flag")) == "flag"
