"""Brings CIFAR-10 into a data folder: the official archive, or the Hugging Face Hub's copy, checked against it.

Imports torchvision and pyarrow only where it needs them, so that `python -m trainer --help` answers at once.
"""

import io
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from model import cifar10
from model.cifar10 import DatasetError

Source = Literal["official", "hub"]

HUB_REPO = "uoft-cs/cifar10"
HUB_FILES = {
    "plain_text/train-00000-of-00001.parquet": cifar10.TRAIN_BATCHES,
    "plain_text/test-00000-of-00001.parquet": cifar10.TEST_BATCHES,
}
"""A row is `img` (`bytes` of a PNG, `path`) and `label`. The batches are whole, but not in the order of their names."""

STALL_SECONDS = 20
"""A server that sends nothing for so long has failed; a slow one gets all the time it needs. The Hub's client then asks
six times more, with a patience of its own: without a network it gives up after half a minute, on a server that takes
connections but never answers after 7 minutes (measured with huggingface_hub 1.33 and 2.4)."""


def download_if_missing(data_dir: Path, source: Source = "official") -> None:
    """Raises DatasetError where that fails; it says how else to get the images."""
    if cifar10.missing_files(data_dir):
        with one_at_a_time(data_dir):
            _download_if_still_missing(data_dir, source)


def _download_if_still_missing(data_dir: Path, source: Source) -> None:
    missing = cifar10.missing_files(data_dir)
    if not missing:
        return
    about, download = {
        "official": ("170 MB; often faster: --download-from hub", download_official),
        "hub": (f"144 MB, the copy at huggingface.co/datasets/{HUB_REPO}", download_from_hub),
    }[source]
    print(f"{data_dir / cifar10.FOLDER} lacks {', '.join(missing)}: downloading CIFAR-10 ({about})", flush=True)
    download(data_dir)


@contextmanager
def one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Processes that train together start together: one of them downloads, the others wait for it here."""
    lock = FileLock(data_dir / ".download.lock")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Waiting for another process that downloads into {data_dir}", flush=True)
        lock.acquire()
    except OSError as error:
        raise DatasetError(f"{data_dir} cannot be written ({error.strerror}): choose another --data-dir") from None
    try:
        yield
    finally:
        lock.release()


def download_official(data_dir: Path) -> None:
    """The official archive, through torchvision."""
    from torchvision.datasets import CIFAR10  # not at the top: it takes seconds and is rarely needed

    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)  # torchvision sets none and would wait for a silent host forever
    try:
        CIFAR10(str(data_dir), download=True)
    except (OSError, RuntimeError) as error:  # URLError and HTTPError are OSErrors
        raise DatasetError(
            f"CIFAR-10 could not be downloaded ({error}): take the Hub's copy with `python -m trainer --download-from "
            "hub`, " + by_hand(data_dir)
        ) from None
    finally:
        socket.setdefaulttimeout(default)


def by_hand(data_dir: Path) -> str:
    return (
        f"unpack {cifar10.ARCHIVE} into {data_dir}, or name a folder that holds {cifar10.FOLDER}/ or "
        f"{cifar10.HUB_FOLDER}/ with --data-dir"
    )


def download_from_hub(data_dir: Path) -> None:
    """The Hub's copy, written into `data_dir`/cifar-10-hub only after all of it proved to be the official images."""
    try:
        batches = {}
        for file, names in HUB_FILES.items():
            path = fetch(file)
            batches |= recognise(path, *read_parquet(path), names)
    except DatasetError as error:
        raise DatasetError(f"{error}; or leave out --download-from hub, {by_hand(data_dir)}") from None
    for name, (images, labels) in batches.items():
        write_batch(cifar10.hub_path(data_dir, name), images, labels)


def fetch(file: str) -> Path:
    """The file in the Hub's cache, where it stays; what is there already is not downloaded again."""
    try:
        import pyarrow.parquet  # noqa: F401  (asked for here, before 144 MB are downloaded in vain)
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise DatasetError(f"The Hub's copy cannot be read ({error}): pip install -r requirements.txt") from None
    try:
        path = hf_hub_download(HUB_REPO, file, repo_type="dataset", etag_timeout=STALL_SECONDS)
    except Exception as error:  # OSError, but of httpx, httpx2 or hf_xet too, by version
        raise DatasetError(f"{HUB_REPO} could not be downloaded ({_in_one_line(error)}): try again later") from None
    return Path(path).resolve()  # the blob: deleting the link to it would not make the Hub's client download it again


def read_parquet(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (N, 32, 32, 3) and int64 labels (N,), in file order. Raises DatasetError."""
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read(columns=["img", "label"])
        images = np.stack([_pixels(row["bytes"]) for row in table["img"].to_pylist()])
        return images, table["label"].to_numpy().astype(np.int64)
    except Exception as error:  # Arrow's, Pillow's and zlib's for a damaged file; KeyError for other columns
        raise DatasetError(f"{path} cannot be read ({_in_one_line(error)}): delete it and try again") from None


def _pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if image.mode != "RGB" or image.size != (cifar10.IMAGE_SIZE, cifar10.IMAGE_SIZE):
            raise ValueError(f"an image is {image.mode} and {image.width}x{image.height}, not RGB and 32x32")
        return np.asarray(image)


def recognise(
    path: Path, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> images and labels of the official batches, which follow one another in any order. Raises DatasetError."""
    awaited = {cifar10.SHA256[name]: name for name in names}
    batches = {}
    parts = zip(np.array_split(images, len(names)), np.array_split(labels, len(names)), strict=True)
    for number, part in enumerate(parts, 1):
        found = cifar10.batch_sha256(*part)
        if found not in awaited:
            raise DatasetError(
                f"The Hub's copy differs from the official images: part {number} of {len(names)} of {path} has the "
                f"sha256 {found}, expected is {' or '.join(awaited)}: delete it and try again"
            )
        batches[awaited.pop(found)] = part
    return batches


def write_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """All of the file or none of it. Raises DatasetError."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")  # two runs may share a data folder
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                np.savez(file, images=images, labels=labels)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written ({error.strerror}): choose another --data-dir") from None


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
