"""What happens around the training loop: the printed table, history.csv, the bar, the image panel, early ends."""

import csv
import math
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, TQDMProgressBar

from model import artifact
from trainer.checkpoints import FOLDER, LAST, checkpoints
from trainer.module import TrainingModule
from trainer.report import prediction_panel
from trainer.run import say
from trainer.stops import SIGNALS, Interrupted, NonFiniteLoss

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
            say(" ".join(f"{label:>{width}}" for _, label, width, _ in self.COLUMNS))

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
        say(" ".join(f"{row[name]:{width}{spec}}" for name, _, width, spec in self.COLUMNS))


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

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        super().on_train_start(trainer, module)
        self._begin_epoch(trainer)  # a run that is resumed in mid-epoch does not start that epoch again

    def on_train_epoch_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        super().on_train_epoch_start(trainer, module)
        self._begin_epoch(trainer)

    def _begin_epoch(self, trainer: L.Trainer) -> None:
        self.train_progress_bar.total = self.total_train_batches
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}")

    def get_metrics(self, trainer: L.Trainer, module: TrainingModule) -> dict[str, str]:
        loss, _, images = module.train_sums.tolist()  # of this process; a resumed run's first has those of all
        shown = {}
        if images:
            speed = len(module.learning_rates) * trainer.train_dataloader.batch_size / module.epoch_seconds()
            shown = {"loss": f"{loss / images:.3f}", "images/s": f"{speed:,.0f}"}
        if module.history:
            shown["val acc"] = f"{module.history[-1]['val_accuracy']:.2%}"
        return shown


def raise_if_not_finite(trainer: L.Trainer, module: TrainingModule, batch_index: int) -> None:
    """Raises NonFiniteLoss, in every process alike, if a step of this epoch up to `batch_index` had such a loss."""
    losses = module.step_losses[: batch_index + 1]
    bad = (~losses.isfinite()).nonzero()
    first = torch.tensor(float(bad[0]) if len(bad) else math.inf, device=module.device)
    first = float(trainer.strategy.reduce(first, reduce_op="min"))
    if first < math.inf:
        index = int(first)
        loss = float(trainer.strategy.reduce(losses[index].clone(), reduce_op="sum"))  # finite in other processes
        epoch = trainer.current_epoch
        step = epoch * module.steps_per_epoch + index + 1
        raise NonFiniteLoss("training", loss, step, epoch + 1, module.learning_rates[index])


class StopOnNonFiniteLoss(L.Callback):
    """Ends the run before a network that computes NaN is saved."""

    def __init__(self, look_every: int):
        self.look_every = look_every  # steps

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        if (batch_index + 1) % self.look_every == 0 or ends_epoch(trainer, module):
            raise_if_not_finite(trainer, module, batch_index)


def ends_epoch(trainer: L.Trainer, module: TrainingModule) -> bool:
    """Whether validation follows the step at hand."""
    return trainer.is_last_batch or trainer.global_step >= module.total_steps


class StopOnSignal(L.Callback):
    """SIGINT or SIGTERM: finishes the step at hand, writes last.ckpt, raises Interrupted in every process alike.

    A second signal does not wait for that. In the last step of an epoch the epoch is closed first. Several processes
    ask each other every `look_every` steps only, because they wait for one another then.
    """

    def __init__(self, last: Path, look_every: int):
        self.last = last
        self.look_every = look_every
        self.received: int | None = None

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        for signum in SIGNALS:  # instead of Lightning's handlers, which would end with exit code 0 or 1
            signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise Interrupted(signum)
        self.received = signum

    def on_train_epoch_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        if self._agreed(trainer):
            self._stop()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        ask = trainer.world_size == 1 or (batch_index + 1) % self.look_every == 0
        if ask and not ends_epoch(trainer, module) and self._agreed(trainer):
            raise_if_not_finite(trainer, module, batch_index)  # never over a good checkpoint
            trainer.save_checkpoint(self.last)
            self._stop()

    def on_train_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        if self._agreed(trainer):
            self._stop()

    def _agreed(self, trainer: L.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)

    def _stop(self) -> None:
        raise Interrupted(self.received or signal.SIGTERM, agreed=True)


def callbacks(run_dir: Path, class_names: tuple[str, ...], progress_bar: bool, device: str) -> list[L.Callback]:
    look_every = 1 if device == "cpu" else STEPS_BETWEEN_LOOKS
    bar = [ProgressBar(refresh_rate=look_every, leave=False)] if progress_bar else []
    return [
        *bar,
        History(run_dir / artifact.HISTORY),
        PredictionPanel(class_names),
        LearningRateMonitor(logging_interval="epoch"),
        StopOnNonFiniteLoss(look_every),
        StopOnSignal(run_dir / FOLDER / LAST, look_every),
        *checkpoints(run_dir / FOLDER),
    ]
