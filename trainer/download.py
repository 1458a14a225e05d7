"""Brings CIFAR-10 into a data folder: the official archive, or the Hugging Face Hub's copy, checked against it.

Imports torchvision and pyarrow only where it needs them, so that `python -m trainer --help` answers at once.
"""

import io
import os
import socket
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import Timeout
from huggingface_hub import hf_hub_download
from PIL import Image

from model import cifar10
from model.cifar10 import DatasetError
from model.hub import HubError, in_one_line, translate_hub_errors
from model.lock import lock

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
    """Of processes that start together, one downloads and the others wait. Raises DatasetError where that fails; it
    says how else to get the images."""
    if not cifar10.missing_files(data_dir):
        return
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock_file = data_dir / ".download.lock"
        try:
            held = lock(lock_file, timeout=0)
        except Timeout:
            print(f"Waiting for another process that downloads into {data_dir}", flush=True)
            held = lock(lock_file, timeout=-1)
    except OSError as error:
        raise DatasetError(f"{data_dir} cannot be written ({error.strerror}): choose another --data-dir") from None
    with held:
        if missing := cifar10.missing_files(data_dir):
            about = "170 MB; often faster: --download-from hub"
            if source == "hub":
                about = f"144 MB, the copy at huggingface.co/datasets/{HUB_REPO}"
            print(f"{data_dir / cifar10.FOLDER} lacks {', '.join(missing)}: downloading CIFAR-10 ({about})", flush=True)
            (download_from_hub if source == "hub" else download_official)(data_dir)


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
    batches = {}
    try:
        for file, names in HUB_FILES.items():
            with translate_hub_errors(HUB_REPO):
                path = hf_hub_download(HUB_REPO, file, repo_type="dataset", etag_timeout=STALL_SECONDS)
            blob = Path(path).resolve()  # to delete the link to it would not make the client download it again
            batches |= identify_batches(blob, *read_parquet(blob), names)
    except (HubError, DatasetError) as error:
        reason = str(error).rstrip(".")
        raise DatasetError(f"{reason}; or leave out --download-from hub, {by_hand(data_dir)}") from None
    for name, (images, labels) in batches.items():
        write_batch(cifar10.hub_path(data_dir, name), images, labels)


def read_parquet(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (N, 32, 32, 3) and int64 labels (N,), in file order. Raises DatasetError."""
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read(columns=["img", "label"])
        images = np.stack([_pixels(row["bytes"]) for row in table["img"].to_pylist()])
        return images, table["label"].to_numpy().astype(np.int64)
    except Exception as error:  # Arrow's, Pillow's and zlib's for a damaged file; KeyError for other columns
        raise DatasetError(f"{path} cannot be read ({in_one_line(error)}): delete it and try again") from None


def _pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if image.mode != "RGB" or image.size != (cifar10.IMAGE_SIZE, cifar10.IMAGE_SIZE):
            raise ValueError(f"an image is {image.mode} and {image.width}x{image.height}, not RGB and 32x32")
        return np.asarray(image)


def identify_batches(
    path: Path, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> images and labels of the official batches, which follow one another in any order. Raises DatasetError."""
    expected = {cifar10.SHA256[name]: name for name in names}
    batches = {}
    parts = zip(np.array_split(images, len(names)), np.array_split(labels, len(names)), strict=True)
    for number, part in enumerate(parts, 1):
        found = cifar10.batch_sha256(*part)
        if found not in expected:
            raise DatasetError(
                f"The Hub's copy differs from the official images: part {number} of {len(names)} of {path} has the "
                f"sha256 {found}, expected is {' or '.join(expected)}: delete it and try again"
            )
        batches[expected.pop(found)] = part
    return batches


def write_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """All of the file or none of it. Raises DatasetError."""
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, images=images, labels=labels)
        os.replace(temporary, path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written ({error.strerror}): choose another --data-dir") from None
    finally:
        temporary.unlink(missing_ok=True)
