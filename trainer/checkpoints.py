"""Checkpoints that survive: written whole or not at all, checked when read, with the one before kept beside."""

import io
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from trainer.run import RunError
from trainer.stops import TrainingError

FOLDER = "checkpoints"
BEST, LAST = "best.ckpt", "last.ckpt"


def previous(path: Path) -> Path:
    """Where the checkpoint before `path` is kept: last.ckpt -> last.previous.ckpt."""
    return path.with_suffix(f".previous{path.suffix}")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames: an interrupted save leaves the earlier checkpoints whole.

    Raises TrainingError where the file cannot be written; Lightning would go on after some of those failures.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                os.replace(path, previous(path))
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            with suppress(OSError):
                temporary.unlink()
            raise TrainingError(
                f"{path} could not be saved ({_reason(error)}); earlier checkpoints are intact: free space or fix "
                "the folder, then continue with --resume"
            ) from error


def _reason(error: BaseException) -> str:
    """The operating system's words, also where torch wrapped its error in one of its own."""
    causes = [error]
    while causes[-1].__cause__ or causes[-1].__context__:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    words = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return words[0] if words else _first_line(error)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


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
            if (record := archive.testzip()) is not None:
                raise DamagedCheckpoint(f"the checksum of its record {record} is wrong")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except DamagedCheckpoint:
        raise
    except pickle.UnpicklingError:  # torch's own words recommend to load it nevertheless
        raise DamagedCheckpoint("it holds something else than tensors and plain values") from None
    except Exception as error:  # zip and torch have many kinds
        raise DamagedCheckpoint(_first_line(error)) from None


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
