"""What happens around the training loop: the printed table, history.csv, the bar, the image panel, early ends."""

import csv
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, TQDMProgressBar

from model import artifact
from trainer.checkpoints import FOLDER, EpochCheckpoints
from trainer.errors import SIGNALS, NonFiniteLoss
from trainer.module import TrainingModule
from trainer.report import prediction_panel
from trainer.run import log_and_print

PANEL_IMAGES = 40
PANELS = 50
"""At most so many of a run: one has 150 kB and takes longer than an epoch on a fast GPU."""
STEPS_BETWEEN_LOOKS = 50
"""How often the host looks at what an accelerator computed: each look waits for it. On the CPU every step."""


class History(L.Callback):
    """Rewrites history.csv and prints one line after every epoch, before the checkpoints of that epoch are written."""

    COLUMNS = (
        ("epoch", "epoch", 5, "d"),
        ("learning_rate", "lr", 9, ".2g"),
        ("train_loss", "train loss", 11, ".4f"),
        ("train_accuracy", "train acc", 10, ".2%"),
        ("val_loss", "val loss", 9, ".4f"),
        ("val_accuracy", "val acc", 8, ".2%"),
        ("images_per_second", "images/s", 9, ",.0f"),
        ("seconds", "seconds", 8, ".1f"),
    )

    def __init__(self, path: Path):
        self.path = path

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        if trainer.is_global_zero:
            log_and_print(" ".join(f"{label:>{width}}" for _, label, width, _ in self.COLUMNS))

    def on_validation_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        if not trainer.is_global_zero:
            return
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            rows = csv.DictWriter(file, fieldnames=artifact.HISTORY_COLUMNS)
            rows.writeheader()
            rows.writerows(module.history)
        os.replace(temporary, self.path)
        row = module.history[-1]
        log_and_print(" ".join(f"{row[name]:{width}{spec}}" for name, _, width, spec in self.COLUMNS))


class PredictionPanel(L.Callback):
    """Writes the first val images with true and predicted class to TensorBoard, after the last epoch and others at
    equal distances: after every one in a run of up to 50."""

    def __init__(self, class_names: tuple[str, ...]):
        self.class_names = class_names

    def on_validation_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        if not (trainer.is_global_zero and panel_is_due(trainer.current_epoch + 1, module.total_epochs)):
            return
        images, labels = next(iter(trainer.val_dataloaders))
        pixels = (images[:PANEL_IMAGES] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        predicted = module.first_val_predictions[:PANEL_IMAGES].tolist()
        panel = prediction_panel(pixels, labels[:PANEL_IMAGES].tolist(), predicted, self.class_names)
        trainer.logger.experiment.add_image("val/predictions", panel, trainer.global_step - 1, dataformats="HWC")


def panel_is_due(epoch: int, total_epochs: int) -> bool:
    """Whether `epoch`, from 1, is one of the at most 50 with a panel."""
    return (total_epochs - epoch) % math.ceil(total_epochs / PANELS) == 0


class ProgressBar(TQDMProgressBar):
    """Counts epochs from 1, as the table does. Shows the epoch's mean loss and images/s so far, and the val accuracy
    of the epoch before."""

    def on_train_epoch_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        super().on_train_epoch_start(trainer, module)
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}")

    def get_metrics(self, trainer: L.Trainer, module: TrainingModule) -> dict[str, str]:
        loss, _, images = module.train_sums.tolist()  # of this process
        shown = {}
        if images:
            speed = len(module.learning_rates) * trainer.train_dataloader.batch_size / module.epoch_seconds()
            shown = {"loss": f"{loss / images:.3f}", "images/s": f"{speed:,.0f}"}
        if module.history:
            shown["val acc"] = f"{module.history[-1]['val_accuracy']:.2%}"
        return shown


class StopOnNonFiniteLoss(L.Callback):
    """Raises NonFiniteLoss, in every process alike, before a network that computes NaN is saved."""

    def __init__(self, look_every: int):
        self.look_every = look_every  # steps

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        validation_follows = trainer.is_last_batch or trainer.global_step >= module.total_steps
        if (batch_index + 1) % self.look_every and not validation_follows:
            return
        losses = module.step_losses[: batch_index + 1]
        bad = (~losses.isfinite()).nonzero()
        first = torch.tensor(float(bad[0]) if len(bad) else math.inf, device=module.device)
        first = float(trainer.strategy.reduce(first, reduce_op="min"))
        if first < math.inf:
            index = int(first)
            loss = float(trainer.strategy.reduce(losses[index].clone(), reduce_op="sum"))  # finite in other processes
            step = trainer.current_epoch * module.steps_per_epoch + index + 1
            raise NonFiniteLoss("training", loss, step, trainer.current_epoch + 1, module.learning_rates[index])


class StopBeforeDeadline(L.Callback):
    """Ends the run after an epoch if another one that takes as long would end after `deadline`, in seconds of
    time.monotonic()."""

    def __init__(self, deadline: float):
        self.deadline = deadline

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        self.epoch_ended = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        before, self.epoch_ended = self.epoch_ended, time.monotonic()
        late = 2 * self.epoch_ended - before > self.deadline
        if trainer.strategy.reduce_boolean_decision(late, all=False):
            trainer.should_stop = True


class HandleSignals(L.Callback):
    """SIGINT and SIGTERM get these handlers: Lightning's own, which it sets before, waits for the other processes
    (https://github.com/Lightning-AI/pytorch-lightning/issues/20806)."""

    def __init__(self, handler: Any):
        self.handler = handler

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        for signum in SIGNALS:
            signal.signal(signum, self.handler)


def callbacks(
    run_dir: Path, class_names: tuple[str, ...], progress_bar: bool, device: str, deadline: float, on_signal: Any
) -> list[L.Callback]:
    look_every = 1 if device == "cpu" else STEPS_BETWEEN_LOOKS
    bar = [ProgressBar(refresh_rate=look_every, leave=False)] if progress_bar else []
    return [
        *bar,
        HandleSignals(on_signal),
        History(run_dir / artifact.HISTORY),
        PredictionPanel(class_names),
        LearningRateMonitor(logging_interval="epoch"),
        StopOnNonFiniteLoss(look_every),
        StopBeforeDeadline(deadline),
        EpochCheckpoints(run_dir / FOLDER),
    ]
