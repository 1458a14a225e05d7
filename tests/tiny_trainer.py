"""`python -m tests.tiny_trainer FLAGS`: the trainer, which takes the data folder $CIFAR10_DIR for the official one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model import cifar10
from tests.conftest import TINY_FLAGS, md5_of

PROJECT = Path(__file__).resolve().parent.parent


def start(data_dir: Path, run_dir: Path, *flags: str, launcher: tuple[str, ...] = (), **environment: str):
    """In a process of its own, the first of a session, whose output is read from pipes."""
    command = [sys.executable, "-u", *launcher, "-m", "tests.tiny_trainer", *TINY_FLAGS, *flags]
    environment = os.environ | {"CIFAR10_DIR": str(data_dir), "OMP_NUM_THREADS": "1"} | environment
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen([*command, "--output-dir", str(run_dir)], cwd=PROJECT, env=environment, **options)


def wait_for_epoch(process: subprocess.Popen, epoch: int) -> None:
    for line in process.stdout:
        if line.split()[:1] == [str(epoch)]:
            return
    pytest.fail(process.stderr.read())


if __name__ == "__main__":
    from trainer.__main__ import main

    cifar10.MD5 = md5_of(Path(os.environ["CIFAR10_DIR"]))
    main()
