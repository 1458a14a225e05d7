"""`python -m tests.tiny_trainer FLAGS`: the trainer, which takes the data folder $CIFAR10_DIR for the official one."""

import os
from pathlib import Path

from model import cifar10
from tests.conftest import md5_of
from trainer.__main__ import main

if __name__ == "__main__":
    cifar10.MD5 = md5_of(Path(os.environ["CIFAR10_DIR"]))
    main()
