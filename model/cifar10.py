"""Facts about CIFAR-10 (Krizhevsky 2009) and a reader of its official python batches. Needs numpy only.

The same images may lie there as a copy from the Hugging Face Hub, which `trainer/download.py` writes.
"""

import hashlib
import io
import os
import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np

NAME = "CIFAR-10"

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""In label order, as `batches.meta` lists them."""

IMAGE_SIZE = 32

MEAN = (0.49139968, 0.48215841, 0.44653091)
"""Per channel (R, G, B) over the 50,000 training images, in [0, 1]: `(images / 255).mean((0, 1, 2))`.
Only a network's default: the trainer computes its own on the images it trains on."""

STD = (0.24703223, 0.24348513, 0.26158784)
"""`(images / 255).std((0, 1, 2))` over the same 50,000 images."""

PUBLISHED = {"he-et-al": 0.9249, "report": 0.8677, "report-val": 0.8716}
"""Accuracies that others state: ResNet-32 on test (He et al. 2015, table 6: error 7.51), the course report that this
project began with on test and on its validation images. Neither states an interval."""

FOLDER = "cifar-10-batches-py"

ARCHIVE = "cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html)"

MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
"""Of the official files, the same that `torchvision.datasets.CIFAR10` checks."""

HUB_FOLDER = "cifar-10-hub"
"""Where the Hub's copy lies, a file NAME.npz per batch: `images` uint8 (n, 32, 32, 3), `labels` int64 (n,). Files with
the official md5 cannot be made of it, because it lacks the images' file names."""

SHA256 = {
    "data_batch_1": "5c3aa79ef222352f26d831f464b4e498b7ac64504c67e061f0888d2f598eac17",
    "data_batch_2": "8623c28744fe66bc93881232aa70f8aaf58464c513bf24ec11fdfd4c38494a97",
    "data_batch_3": "acf6124661f089f92d55359de67d4b8027dbf012b490254fe9095a4fff6ff3ed",
    "data_batch_4": "894a3fc10589cd2905c03c1da1fb4322a157a63c3cf1126c763c8f79d089d5b6",
    "data_batch_5": "fe2d07d13456ba4fa93bafc942aafed888109eb86fa15852d9b872761aeb1c74",
    "test_batch": "e54a434ec35094516eacbaac0f2f9550358d985e9d1f71b47d41d333c15ba304",
}
"""Of the content of each official batch, whatever file holds it:
`hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()`, images and labels as they are read."""

TRAIN_BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))
TEST_BATCHES = ("test_batch",)


class DatasetError(ValueError):
    """A dataset is missing, unreadable, or not what it must be (CIFAR-10: the official files; a folder of images: see
    `trainer/image_folder.py`); the message names what is wrong and says what to do."""


def data_dir(given: str | Path | None = None) -> Path:
    """The folder that holds (or shall hold) the folders of the batches: `given`, else $CIFAR10_DIR, else ./data."""
    return Path(given or os.environ.get("CIFAR10_DIR") or "data")


def missing_files(folder: Path) -> list[str]:
    """Names of the official files that `folder`/cifar-10-batches-py lacks; none where the Hub's copy is complete."""
    if _hub_copy_is_complete(folder):
        return []
    return [name for name in MD5 if not os.path.isfile(folder / FOLDER / name)]


def check_files(folder: Path, names: Iterable[str] = tuple(MD5)) -> None:
    """Raises DatasetError unless each of these files (default: all) is there, in either form, and unaltered.

    Unpickles none of them.
    """
    for name in names:
        if not _is_from_hub(folder, name):
            _official_bytes(folder / FOLDER / name)
        elif name in SHA256:  # the copy needs no batches.meta
            _read_hub_batch(hub_path(folder, name))


def read_train(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The official training set in file order: uint8 images (50000, 32, 32, 3), int64 labels (50000,).

    Raises DatasetError. A file is unpickled only after its md5 proved it to be the official one; where there is no
    official file, the Hub's copy is read.
    """
    return _read(Path(folder), TRAIN_BATCHES)


def read_test(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The official test set, as `read_train` gives the training set: 10,000 images. Raises DatasetError."""
    return _read(Path(folder), TEST_BATCHES)


def hub_path(folder: Path, name: str) -> Path:
    """The file of HUB_FOLDER that holds batch `name`."""
    return folder / HUB_FOLDER / f"{name}.npz"


def batch_sha256(images: np.ndarray, labels: np.ndarray) -> str:
    """What SHA256 lists for an official batch."""
    return hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()


def _hub_copy_is_complete(folder: Path) -> bool:
    return all(os.path.isfile(hub_path(folder, name)) for name in SHA256)


def _is_from_hub(folder: Path, name: str) -> bool:
    return not os.path.isfile(folder / FOLDER / name) and _hub_copy_is_complete(folder)


def _read(folder: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    batches = [
        _read_hub_batch(hub_path(folder, name)) if _is_from_hub(folder, name) else _read_batch(folder / FOLDER / name)
        for name in names
    ]
    images = np.concatenate([images for images, _ in batches])
    return images, np.concatenate([labels for _, labels in batches])


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    raw = _official_bytes(path)
    batch = pickle.loads(raw, encoding="latin1")  # written by Python 2
    images = batch["data"].reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE).transpose(0, 2, 3, 1)  # -> (N, 32, 32, 3)
    return np.ascontiguousarray(images), np.asarray(batch["labels"], dtype=np.int64)


def _read_hub_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    raw = _bytes(path)
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as batch:
            images, labels = batch["images"], batch["labels"]
        found = batch_sha256(images, labels)
    except Exception as error:  # numpy, zipfile and zlib raise a dozen kinds for a damaged file
        found = f"unknown ({type(error).__name__}: {error})"
    if found != SHA256[path.stem]:
        raise DatasetError(
            f"{path} is damaged or altered: the sha256 of its images and labels is {found}, the official batch's is "
            f"{SHA256[path.stem]}; delete it and run `python -m trainer --download-from hub`, or unpack {ARCHIVE} into "
            f"{path.parent.parent}"
        )
    return images, labels


def _official_bytes(path: Path) -> bytes:
    raw = _bytes(path)
    found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if found != MD5[path.name]:
        raise DatasetError(
            f"{path} is damaged or altered: its md5 is {found}, the official file's is {MD5[path.name]}; "
            f"delete it and unpack {ARCHIVE} into {path.parent.parent} again"
        )
    return raw


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing: unpack {ARCHIVE} into {path.parent.parent}") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
