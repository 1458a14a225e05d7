"""The trainer's download of CIFAR-10: the official archive, and the Hub's copy checked against it."""

import io
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from model import cifar10
from tests.conftest import TRAIN_PER_BATCH
from tests.hub_client import point_client_at
from trainer import download
from trainer.data import load_training_data

TRAIN, TEST = download.HUB_FILES
HUB_ORDER = (4, 3, 2, 5, 1)
BY_HAND = r"unpack cifar-10-python\.tar\.gz .* into .*data, or name a folder .* with --data-dir$"


def png(pixels: np.ndarray, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def write_parquet(path: Path, images, labels, encode=png, column: str = "img") -> None:
    rows = [{"bytes": encode(image), "path": f"{k}.png"} for k, image in enumerate(images)]
    path.parent.mkdir(exist_ok=True, parents=True)
    pyarrow.parquet.write_table(pyarrow.table({column: rows, "label": labels}), path)


def train_rows(data_dir: Path, order=HUB_ORDER) -> tuple[np.ndarray, np.ndarray]:
    """Writable copies of the training images and labels, the batches in this order."""
    rows = np.concatenate([np.arange(TRAIN_PER_BATCH) + TRAIN_PER_BATCH * (k - 1) for k in order])
    images, labels = cifar10.read_train(data_dir)
    return images[rows], labels[rows]


@pytest.fixture
def copy(tiny_cifar, tmp_path, monkeypatch) -> Path:
    """The folder of a made-up dataset repository that holds the images of `tiny_cifar`, and that downloads copy."""

    def hf_hub_download(repo, file, *, repo_type, etag_timeout):
        assert (repo, repo_type) == ("uoft-cs/cifar10", "dataset") and etag_timeout == download.STALL_SECONDS
        return str(folder / file)

    folder = tmp_path / "hub"
    write_parquet(folder / TRAIN, *train_rows(tiny_cifar))
    write_parquet(folder / TEST, *cifar10.read_test(tiny_cifar))
    monkeypatch.setattr(download, "hf_hub_download", hf_hub_download)
    return folder


@pytest.fixture
def copied(copy, tmp_path) -> Path:
    """A data folder with the Hub's copy."""
    download.download_if_missing(tmp_path / "data", "hub")
    return tmp_path / "data"


def refused(data_dir: Path) -> str:
    """The message with which the download from the Hub ends; nothing must have been written."""
    with pytest.raises(cifar10.DatasetError) as caught:
        download.download_if_missing(data_dir, "hub")
    message = str(caught.value)
    assert not (data_dir / cifar10.HUB_FOLDER).exists()
    assert "\n" not in message and re.search("; or leave out --download-from hub, " + BY_HAND, message)
    return message


def test_without_a_network_the_error_says_where_else_the_images_are(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.CIFAR10.__init__", refuse)
    with pytest.raises(cifar10.DatasetError, match=rf"no route to host.*--download-from hub`, {BY_HAND}"):
        load_training_data(tmp_path / "data")


def test_a_silent_host_of_the_official_archive_is_given_up(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "torchvision.datasets.CIFAR10.__init__", lambda *args, **kwargs: seen.append(socket.getdefaulttimeout())
    )
    download.download_if_missing(tmp_path)
    assert seen == [download.STALL_SECONDS] and socket.getdefaulttimeout() is None


@pytest.mark.parametrize("source", ["official", "hub"])
def test_nothing_is_downloaded_where_the_official_files_are(tiny_cifar, monkeypatch, source):
    monkeypatch.setattr(download, f"download_{'from_hub' if source == 'hub' else source}", pytest.fail)
    download.download_if_missing(tiny_cifar, source)


def test_processes_that_start_together_download_once(tmp_path, monkeypatch, tiny_cifar, capsys):
    downloads = []

    def slow(data_dir):
        downloads.append(data_dir)
        time.sleep(0.3)
        shutil.copytree(tiny_cifar / cifar10.FOLDER, data_dir / cifar10.FOLDER)

    monkeypatch.setattr(download, "download_official", slow)
    threads = [threading.Thread(target=download.download_if_missing, args=(tmp_path / "data",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert downloads == [tmp_path / "data"]
    assert capsys.readouterr().out.count("Waiting for another process") == 2


def test_the_hubs_copy_gives_the_official_arrays_in_their_order(copied, tiny_cifar):
    data_dir = copied
    assert load_training_data(data_dir).split.sha256() == load_training_data(tiny_cifar).split.sha256()
    for read in (cifar10.read_train, cifar10.read_test):
        for ours, official in zip(read(data_dir), read(tiny_cifar), strict=True):
            assert ours.dtype == official.dtype and np.array_equal(ours, official)
    names = {f"{name}.npz" for name in cifar10.TRAIN_BATCHES + cifar10.TEST_BATCHES}
    assert {path.name for path in (data_dir / "cifar-10-hub").iterdir()} == names
    assert cifar10.missing_files(data_dir) == []


def test_one_altered_pixel_is_refused_with_both_digests(copy, tiny_cifar, tmp_path):
    images, labels = train_rows(tiny_cifar)
    images[2 * TRAIN_PER_BATCH + 7, 31, 0, 2] ^= 1
    write_parquet(copy / TRAIN, images, labels)
    message = refused(tmp_path / "data")
    assert re.search(r"differs from the official images: part 3 of 5 of .*train-\S+ has the sha256", message)
    third = slice(2 * TRAIN_PER_BATCH, 3 * TRAIN_PER_BATCH)
    found = cifar10.batch_sha256(images[third], labels[third])
    assert found in message and cifar10.SHA256["data_batch_2"] in message
    assert found != cifar10.batch_sha256(images[third], labels[third] + 256)  # the same lowest bytes


def test_a_repeated_batch_is_refused(copy, tiny_cifar, tmp_path):
    write_parquet(copy / TRAIN, *train_rows(tiny_cifar, (4, 3, 2, 5, 5)))
    assert "differs from the official images" in refused(tmp_path / "data")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, images, labels: path.write_bytes(path.read_bytes()[:-100]),
        lambda path, images, labels: write_parquet(path, images, labels, encode=lambda image: png(image, "BMP")),
        lambda path, images, labels: write_parquet(path, images[..., 0], labels),
    ],
)
def test_what_is_no_table_of_rgb_images_is_refused_with_its_name(copy, tiny_cifar, tmp_path, damage):
    damage(copy / TEST, *cifar10.read_test(tiny_cifar))
    assert re.search(r"test-00000-of-00001\.parquet cannot be read \(\w+: .*\): delete it", refused(tmp_path / "data"))


def test_the_file_to_delete_is_not_the_link_of_the_clients_cache(copy, tmp_path):
    (copy / TEST).write_bytes(b"damaged")
    (copy / TEST).rename(copy / "blob")
    (copy / TEST).symlink_to(copy / "blob")
    assert f"{copy / 'blob'} cannot be read" in refused(tmp_path / "data")


def test_a_certificate_that_is_not_trusted_is_named(tmp_path, monkeypatch):
    """As behind a proxy that opens what it passes on."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1 -subj /CN=localhost"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=reject, args=(server, context), daemon=True).start()
        address = f"https://localhost:{server.getsockname()[1]}"
        point_client_at(address, tmp_path / "cache", monkeypatch)
        message = refused(tmp_path / "data")
    assert message.startswith("The connection to the Hub failed for uoft-cs/cifar10 (")
    assert "CERTIFICATE_VERIFY_FAILED" in message and "name that file in SSL_CERT_FILE" in message


def reject(server: socket.socket, context: ssl.SSLContext) -> None:
    """Handshakes, which the client breaks off."""
    while True:
        try:
            context.wrap_socket(server.accept()[0], server_side=True)
        except ssl.SSLError:
            continue
        except OSError:
            return


def altered(path: Path) -> None:
    with np.load(path) as batch:
        images, labels = batch["images"], batch["labels"]
    labels[0] += 1
    np.savez(path, images=images, labels=labels)


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (altered, r"[0-9a-f]{64}"),
        (lambda path: np.savez(path, images=np.array([{}]), labels=np.zeros(1)), r"unknown \(ValueError: .*pickle.*\)"),
    ],
    ids=["altered", "pickle"],
)
def test_a_damaged_batch_is_named_with_both_digests_and_what_to_do(copied, damage, found):
    target = copied / "cifar-10-hub" / "data_batch_3.npz"
    damage(target)
    for read in (cifar10.read_train, cifar10.check_files, load_training_data):
        with pytest.raises(cifar10.DatasetError) as caught:
            read(copied)
        message = str(caught.value)
        assert re.match(rf"{target} is damaged.*sha256 of its images and labels is {found}", message)
        assert cifar10.SHA256["data_batch_3"] in message
        assert "delete it and run `python -m trainer --download-from hub`" in message
    cifar10.check_files(copied, ["test_batch", "batches.meta"])


def test_a_damaged_test_batch_is_found_before_the_training(copied):
    flipped(copied / "cifar-10-hub" / "test_batch.npz")
    with pytest.raises(cifar10.DatasetError, match=r"test_batch.npz is damaged .* is unknown \(BadZipFile: .*\)"):
        load_training_data(copied)


def test_a_deleted_batch_is_downloaded_again(copied, tiny_cifar):
    (copied / "cifar-10-hub" / "data_batch_3.npz").unlink()
    assert cifar10.missing_files(copied) == list(cifar10.MD5)
    with pytest.raises(cifar10.DatasetError, match="test_batch is missing: unpack cifar-10-python.tar.gz"):
        cifar10.read_test(copied)
    download.download_if_missing(copied, "hub")
    assert np.array_equal(cifar10.read_train(copied)[0], cifar10.read_train(tiny_cifar)[0])


def test_an_interrupted_write_leaves_nothing_that_counts(copy, tmp_path, monkeypatch):
    savez, calls = np.savez, []

    def interrupted(file, **arrays):
        calls.append(file)
        if len(calls) == 6:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        savez(file, **arrays)

    data_dir = tmp_path / "data"
    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(cifar10.DatasetError, match=r"test_batch\.npz cannot be written \(No space left on device\)"):
        download.download_if_missing(data_dir, "hub")
    assert len(list((data_dir / "cifar-10-hub").iterdir())) == 5
    download.download_if_missing(data_dir, "hub")
    assert cifar10.missing_files(data_dir) == []


def test_a_data_folder_that_is_a_file_is_refused_in_one_sentence(copy, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(cifar10.DatasetError, match="cannot be written .*: choose another --data-dir"):
        download.download_if_missing(tmp_path / "data", "hub")


def test_official_files_are_preferred_one_by_one(copied, tiny_cifar):
    shutil.copytree(tiny_cifar / cifar10.FOLDER, copied / cifar10.FOLDER)
    altered(copied / "cifar-10-hub" / "data_batch_3.npz")
    cifar10.check_files(copied)
    for name in ("data_batch_2", "batches.meta"):
        (copied / cifar10.FOLDER / name).unlink()
    assert np.array_equal(cifar10.read_train(copied)[0], cifar10.read_train(tiny_cifar)[0])
    (copied / cifar10.FOLDER / "data_batch_3").write_bytes(b"")
    with pytest.raises(cifar10.DatasetError, match="cifar-10-batches-py/data_batch_3 is damaged or altered: its md5"):
        cifar10.read_train(copied)
