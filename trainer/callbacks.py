"""What happens around the training loop: the printed table, history.csv, the image panel, checkpoints."""

import csv
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.plugins.io import TorchCheckpointIO

from model import artifact
from trainer.module import TrainingModule
from trainer.report import prediction_panel

BEST, LAST = "best.ckpt", "last.ckpt"
PANEL_IMAGES = 40


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
        print(" ".join(f"{label:>{width}}" for _, label, width, _ in self.COLUMNS), flush=True)

    def on_validation_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            rows = csv.DictWriter(file, fieldnames=artifact.HISTORY_COLUMNS)
            rows.writeheader()
            rows.writerows(module.history)
        os.replace(temporary, self.path)
        row = module.history[-1]
        print(" ".join(f"{row[name]:{width}{spec}}" for name, _, width, spec in self.COLUMNS), flush=True)


class PredictionPanel(L.Callback):
    """Writes the first val images with true and predicted class to TensorBoard after every epoch."""

    def __init__(self, class_names: tuple[str, ...]):
        self.class_names = class_names

    def on_validation_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        images, labels = next(iter(trainer.val_dataloaders))
        pixels = (images[:PANEL_IMAGES] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        predicted = module.first_val_predictions[:PANEL_IMAGES].tolist()
        panel = prediction_panel(pixels, labels[:PANEL_IMAGES].tolist(), predicted, self.class_names)
        trainer.logger.experiment.add_image("val/predictions", panel, trainer.global_step - 1, dataformats="HWC")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames: an interrupted save leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        temporary = f"{path}.tmp"
        super().save_checkpoint(checkpoint, temporary, storage_options)
        os.replace(temporary, path)


class MovableCheckpoint(ModelCheckpoint):
    """Remembers the best epoch also where the run folder was moved before --resume.

    Lightning forgets it then, and the next epoch, however bad, would become best.ckpt.
    """

    def load_state_dict(self, state: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return os.path.join(self.dirpath, os.path.basename(path)) if path else path

        paths = {name: here(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {here(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state | paths | {"dirpath": self.dirpath, "best_k_models": scores})


def checkpoints(folder: Path) -> list[ModelCheckpoint]:
    """Two, because one with `save_last=True` writes last.ckpt only when the best improves."""
    best = MovableCheckpoint(
        folder, filename=Path(BEST).stem, monitor="val/accuracy", mode="max", enable_version_counter=False
    )
    last = MovableCheckpoint(
        folder, filename=Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False
    )
    return [best, last]


def callbacks(run_dir: Path, class_names: tuple[str, ...], progress_bar: bool) -> list[L.Callback]:
    bar = [TQDMProgressBar(leave=False)] if progress_bar else []
    return [
        *bar,
        History(run_dir / artifact.HISTORY),
        PredictionPanel(class_names),
        LearningRateMonitor(logging_interval="epoch"),
        *checkpoints(run_dir / "checkpoints"),
    ]
