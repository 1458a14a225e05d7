"""Downloads CIFAR-10 for the page: the official archive, streamed to disk. (The page has no torchvision.)"""

import hashlib
import os
import shutil
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from model import cifar10
from model.cifar10 import DatasetError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
"""Of the archive, as on the dataset's page, https://www.cs.toronto.edu/~kriz/cifar.html."""
BYTES = 170_498_071
"""Of the archive; no more than that is read."""

STALL_SECONDS = 30
TOTAL_SECONDS = 3600
CHUNK = 1 << 20

Progress = Callable[[float, str], object]
"""Takes the share that is done, in [0, 1], and what is being done."""

_running = threading.Lock()


def download(data_dir: Path, progress: Progress) -> None:
    """Writes `data_dir`/cifar-10-batches-py, whole or not at all. Raises DatasetError: what failed, and what to do.

    One at a time. The archive is checked against the official md5 before anything of it is moved there.
    """
    if not _running.acquire(blocking=False):
        raise DatasetError("CIFAR-10 is being downloaded already: wait a moment, then open this tab again.")
    try:
        cifar10.check_files(data_dir)
    except DatasetError:  # missing or damaged
        _download(data_dir, progress)
    finally:
        _running.release()


def _download(data_dir: Path, progress: Progress) -> None:
    partial = data_dir / ".cifar-10.part"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        archive = partial / "archive.tar.gz"
        _fetch(archive, progress)
        progress(1.0, "Unpacking")
        with tarfile.open(archive, "r:gz") as members:  # the official one, by its md5
            members.extractall(partial, filter="data")
        (data_dir / cifar10.FOLDER).mkdir(exist_ok=True)
        for name in cifar10.MD5:  # one by one: what else lies there is somebody's
            os.replace(partial / cifar10.FOLDER / name, data_dir / cifar10.FOLDER / name)
    except DatasetError:
        raise
    except (OSError, HTTPException) as error:  # URLError, HTTPError and time-outs are OSErrors
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise DatasetError(f"CIFAR-10 could not be downloaded ({reason}). Try again later.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetch(archive: Path, progress: Progress) -> None:
    md5, received, deadline = hashlib.md5(usedforsecurity=False), 0, time.monotonic() + TOTAL_SECONDS
    with urllib.request.urlopen(URL, timeout=STALL_SECONDS) as answer, archive.open("wb") as file:
        # read1: what has come so far; read would wait for all of it, and never see the deadline
        while time.monotonic() < deadline and (chunk := answer.read1(min(CHUNK, BYTES - received))):
            received += len(chunk)
            md5.update(chunk)
            file.write(chunk)
            progress(received / BYTES, f"{received / 1e6:.0f} of {BYTES / 1e6:.0f} MB")
    if md5.hexdigest() != MD5:
        raise DatasetError(
            "What was downloaded is not the official CIFAR-10 archive, or not all of it. Try again later."
        )
