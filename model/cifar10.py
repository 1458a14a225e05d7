"""Facts about CIFAR-10 (Krizhevsky 2009) and a reader of its official python batches. Needs numpy only."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""In label order, as `batches.meta` lists them."""

IMAGE_SIZE = 32

MEAN = (0.49139968, 0.48215841, 0.44653091)
"""Per channel (R, G, B) over the 50,000 training images, in [0, 1]: `(images / 255).mean((0, 1, 2))`.
Only a network's default: the trainer computes its own on the images it trains on."""

STD = (0.24703223, 0.24348513, 0.26158784)
"""`(images / 255).std((0, 1, 2))` over the same 50,000 images."""

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

TRAIN_BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))
TEST_BATCHES = ("test_batch",)


class DatasetError(ValueError):
    """A CIFAR-10 file is missing, unreadable or not the official one; the message names it and says what to do."""


def data_dir(given: str | Path | None = None) -> Path:
    """The folder that holds (or shall hold) `cifar-10-batches-py/`: `given`, else $CIFAR10_DIR, else ./data."""
    return Path(given or os.environ.get("CIFAR10_DIR") or "data")


def missing_files(folder: Path) -> list[str]:
    """Names of the official files that `folder`/cifar-10-batches-py lacks."""
    return [name for name in MD5 if not (folder / FOLDER / name).is_file()]


def check_files(folder: Path) -> None:
    """Raises DatasetError unless every official file is there and unaltered; unpickles none of them."""
    for name in MD5:
        _official_bytes(folder / FOLDER / name)


def read_train(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The official training set in file order: uint8 images (50000, 32, 32, 3), int64 labels (50000,).

    Raises DatasetError. A file is unpickled only after its md5 proved it to be the official one.
    """
    return _read(Path(folder), TRAIN_BATCHES)


def read_test(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The official test set, as `read_train` gives the training set: 10,000 images. Raises DatasetError."""
    return _read(Path(folder), TEST_BATCHES)


def _read(folder: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    batches = [_read_batch(folder / FOLDER / name) for name in names]
    images = np.concatenate([images for images, _ in batches])
    return images, np.concatenate([labels for _, labels in batches])


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    raw = _official_bytes(path)
    batch = pickle.loads(raw, encoding="latin1")  # written by Python 2
    images = batch["data"].reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE).transpose(0, 2, 3, 1)  # -> (N, 32, 32, 3)
    return np.ascontiguousarray(images), np.asarray(batch["labels"], dtype=np.int64)


def _official_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing: unpack {ARCHIVE} into {path.parent.parent}") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if found != MD5[path.name]:
        raise DatasetError(
            f"{path} is damaged or altered: its md5 is {found}, the official file's is {MD5[path.name]}; "
            f"delete it and unpack {ARCHIVE} into {path.parent.parent} again"
        )
    return raw
