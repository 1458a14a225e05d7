"""Checkpoints that survive: written whole or not at all, checked when read, with the one before kept beside."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from trainer.errors import TrainingError
from trainer.run import RunError

FOLDER = "checkpoints"
BEST, LAST = "best.ckpt", "last.ckpt"


def previous(path: Path) -> Path:
    """Where the checkpoint before `path` is kept: last.ckpt -> last.previous.ckpt."""
    return path.with_suffix(f".previous{path.suffix}")


def selection(row: dict[str, float]) -> tuple[float, float]:
    """By which the best epoch of a history is chosen: the highest val accuracy, of equal ones the lowest val loss."""
    return row["val_accuracy"], -row["val_loss"]


class EpochCheckpoints(Checkpoint):
    """After every epoch: best.ckpt if none before was as good, then last.ckpt.

    The module's `history`, which every checkpoint holds, says which epoch is best. Lightning's ModelCheckpoint forgets
    it where the run's folder was moved (https://github.com/Lightning-AI/pytorch-lightning/issues/14443).
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.epochs = 0  # that last.ckpt holds

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if max(module.history, key=selection) is module.history[-1]:
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)
        self.epochs = len(module.history)

    def in_words(self, total: int) -> str:
        """Where a run of `total` epochs is, to go on from "interrupted by SIGINT"."""
        saved = {0: "no epoch is saved", 1: "1 epoch is saved"}.get(self.epochs, f"{self.epochs} epochs are saved")
        return f"{f' in epoch {self.epochs + 1}' if self.epochs < total else ''}; {saved}"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames: an interrupted save leaves the earlier checkpoints whole.

    Raises TrainingError where the file cannot be written; Lightning would go on after some of those failures.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        temporary = path.with_suffix(".tmp")
        content = io.BytesIO()  # torch would hide an error of the file behind one of its own
        torch.save(checkpoint, content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(content.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
                if path.exists():
                    os.replace(path, previous(path))
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise TrainingError(
                f"{path} could not be saved ({error.strerror}); earlier checkpoints are intact: free space or fix "
                "the folder, then continue with --resume"
            ) from error


class DamagedCheckpoint(ValueError):
    """The file is no whole checkpoint; the message says why."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """On the CPU. Raises RunError where the file cannot be read, DamagedCheckpoint where a single bit of it flipped:
    torch.load alone does not look at the checksums that every record of its zip format carries."""
    try:
        file = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from None
    try:
        with zipfile.ZipFile(file) as archive:
            record = archive.testzip()
        if record is None:
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own words recommend to load it nevertheless
        raise DamagedCheckpoint("it holds something else than tensors and plain values") from None
    except Exception as error:  # zip and torch have many kinds
        raise DamagedCheckpoint(next(iter(str(error).splitlines()), type(error).__name__)) from None
    raise DamagedCheckpoint(f"the checksum of its record {record} is wrong")
