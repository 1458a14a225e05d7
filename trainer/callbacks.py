"""What happens around the training loop: the printed table, history.csv, the image panel, checkpoints."""

import csv
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.plugins.io import TorchCheckpointIO

from trainer.module import TrainingModule
from trainer.report import prediction_panel

BEST, LAST = "best.ckpt", "last.ckpt"
HISTORY = "history.csv"
PANEL_IMAGES = 40


class History(L.Callback):
    """Rewrites history.csv and prints one line after every epoch."""

    COLUMNS = (
        ("epoch", "5d"),
        ("learning_rate", "10.2g"),
        ("train_loss", "10.4f"),
        ("train_accuracy", "9.2%"),
        ("val_loss", "10.4f"),
        ("val_accuracy", "9.2%"),
        ("images_per_second", "9,.0f"),
        ("seconds", "8.1f"),
    )
    HEADER = "epoch         lr train loss train acc   val loss   val acc  images/s  seconds"

    def __init__(self, path: Path):
        self.path = path

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        print(self.HEADER, flush=True)

    def on_train_epoch_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            rows = csv.DictWriter(file, fieldnames=list(module.history[0]))
            rows.writeheader()
            rows.writerows(module.history)
        os.replace(temporary, self.path)
        row = module.history[-1]
        print(" ".join(format(row[name], spec) for name, spec in self.COLUMNS), flush=True)


class PredictionPanel(L.Callback):
    """Writes the first val images with true and predicted class to TensorBoard after every epoch."""

    def __init__(self, class_names: tuple[str, ...]):
        self.class_names = class_names

    def on_validation_epoch_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        images, labels = next(iter(trainer.val_dataloaders))
        images, labels = images[:PANEL_IMAGES], labels[:PANEL_IMAGES]
        with torch.inference_mode():
            predicted = module.network(images).argmax(1)
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        panel = prediction_panel(pixels, labels.tolist(), predicted.tolist(), self.class_names)
        trainer.logger.experiment.add_image("val/predictions", panel, trainer.current_epoch + 1, dataformats="HWC")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames: an interrupted save leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        temporary = f"{path}.tmp"
        super().save_checkpoint(checkpoint, temporary, storage_options)
        os.replace(temporary, path)


def checkpoints(folder: Path) -> list[ModelCheckpoint]:
    """Two, because one with `save_last=True` writes last.ckpt only when the best improves."""
    best = ModelCheckpoint(
        folder, filename=Path(BEST).stem, monitor="val/accuracy", mode="max", enable_version_counter=False
    )
    last = ModelCheckpoint(folder, filename=Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    return [best, last]


def callbacks(run_dir: Path, class_names: tuple[str, ...], progress_bar: bool) -> list[L.Callback]:
    bar = [TQDMProgressBar(leave=False)] if progress_bar else []
    return [
        *bar,
        History(run_dir / HISTORY),
        PredictionPanel(class_names),
        LearningRateMonitor(logging_interval="epoch"),
        *checkpoints(run_dir / "checkpoints"),
    ]
