"""A config becomes a run folder with a best checkpoint.

RUN_DIR/run.json            the config, where and with what it runs, the split
RUN_DIR/history.csv         one row per epoch
RUN_DIR/checkpoints/        best.ckpt (highest val accuracy), last.ckpt (for --resume)
RUN_DIR/tensorboard/        event files
"""

import logging
import os
import platform
import subprocess
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from model import cifar10
from trainer.callbacks import LAST, AtomicCheckpointIO, callbacks
from trainer.config import ConfigError, TrainConfig
from trainer.data import SPLIT_SEED, CIFAR10DataModule, TrainingData, load_training_data, steps_per_epoch
from trainer.module import TrainingModule, build_network
from trainer.run import check_same_run, note_resumed, start_run


def fit(config: TrainConfig, data_dir: Path, run_dir: Path, resume: bool, progress_bar: bool = True) -> None:
    """Trains until `config.max_epochs`, writing into `run_dir` (see the module's docstring).

    With `resume`, goes on from run_dir/checkpoints/last.ckpt, which must come from the same config. Raises
    RunError, ConfigError, or DatasetError before it changes anything.
    """
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    data = load_training_data(data_dir, config.train_images)
    description = describe_run(config, data, device, precision)
    last = run_dir / "checkpoints" / LAST
    if resume:
        check_same_run(run_dir, description)
        if epochs_done(last) >= config.max_epochs:
            return
        note_resumed(run_dir, description)
    else:
        start_run(run_dir, description)
    L.seed_everything(config.seed, verbose=False)
    network = build_network(config, data.mean, data.std).to(memory_format=torch.channels_last)
    if config.compile:
        network.compile()
    loaders = CIFAR10DataModule(data, config)
    module = TrainingModule(network, config, steps_per_epoch(len(data.split.train), config.batch_size))
    with warnings.catch_warnings():
        quieten_lightning()
        trainer = L.Trainer(
            accelerator=device,
            devices=1,
            precision=precision,
            max_epochs=config.max_epochs,
            logger=TensorBoardLogger(run_dir, name="", version="tensorboard"),
            callbacks=callbacks(run_dir, cifar10.CLASS_NAMES, progress_bar),
            plugins=[AtomicCheckpointIO()],
            num_sanity_val_steps=0,
            log_every_n_steps=1,  # everything is logged once per epoch anyway
            enable_progress_bar=progress_bar,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=loaders, ckpt_path=last if epochs_done(last) else None)


def epochs_done(last: Path) -> int:
    """What the checkpoint has behind it; 0 where there is none."""
    return torch.load(last, map_location="cpu", weights_only=True)["epoch"] + 1 if last.exists() else 0


def resolve_device(device: str) -> str:
    """The `auto` rule of TrainConfig.device: one of cuda, mps, cpu. Raises ConfigError if it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, there in available.items() if there)
    if not available[device]:
        here = ", ".join(name for name, there in available.items() if there)
        raise ConfigError(f"--device is {device}, which this machine or this PyTorch build lacks; available: {here}")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """The `auto` rule of TrainConfig.precision. bf16 on a CPU without AMX is ten times slower than float32."""
    if precision != "auto":
        return precision
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older versions of PyTorch
    has_amx = device == "cpu" and capabilities.get("amx_bf16", False)
    return "bf16-mixed" if device == "cuda" or has_amx else "32-true"


def describe_run(config: TrainConfig, data: TrainingData, device: str, precision: str) -> dict[str, Any]:
    """Everything about a run that is known before its first step, as JSON values."""
    packages = ("torch", "torchvision", "lightning", "numpy")
    return {
        "hyperparameters": config.hyperparameters(),
        "device": device_name(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "git_commit": git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "split": {
            "train": len(data.split.train),
            "val": len(data.split.val),
            "seed": SPLIT_SEED,
            "sha256": data.split.sha256(),
        },
        "mean": data.mean,
        "std": data.std,
    }


def device_name(device: str) -> str:
    if device == "cuda":
        return f"CUDA: {torch.cuda.get_device_name()}"
    if device == "mps":
        return f"MPS: {platform.processor() or platform.machine()}"
    return f"CPU: {cpu_name()}, {os.cpu_count()} cores"


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit of this source tree, marked where files differ from it; None outside a git checkout."""
    source = Path(__file__).resolve().parent
    try:
        command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def quieten_lightning() -> None:
    """Hides its banners, and warnings about things that are meant to be so here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # our loaders need none
        ".*LearningRateMonitor.*no learning rate schedulers.*",  # plateau: stepped by the module
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*lr_scheduler.step.*optimizer.step.*",
        ".*The dataloader.*might be a bottleneck.*",
        ".*isinstance.treespec, LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=message)
