"""`python -m tests.pausing_trainer FLAGS`: tests.tiny_trainer, which leaves RUN_DIR/paused in its 13th step and waits
there for a signal."""

import os
import time
from pathlib import Path

from model import cifar10
from tests.conftest import md5_of
from trainer.__main__ import main
from trainer.callbacks import StopOnSignal
from trainer.module import TrainingModule

PATIENCE = 300  # seconds
step_of = TrainingModule.training_step


def step(self, *batch):
    if self.global_step == 12:
        (stop,) = [callback for callback in self.trainer.callbacks if isinstance(callback, StopOnSignal)]
        (Path(self.logger.save_dir) / "paused").touch()
        end = time.monotonic() + PATIENCE
        while stop.received is None and time.monotonic() < end:
            time.sleep(0.01)
    return step_of(self, *batch)


if __name__ == "__main__":
    cifar10.MD5 = md5_of(Path(os.environ["CIFAR10_DIR"]))
    TrainingModule.training_step = step
    main()
