"""A config becomes a run folder with a best checkpoint.

RUN_DIR/run.json            the config, where and with what it runs, the split
RUN_DIR/train.log           the table, resumptions and how the run ended
RUN_DIR/history.csv         one row per epoch
RUN_DIR/checkpoints/        best.ckpt (highest val accuracy), last.ckpt (for --resume), and the one before each
RUN_DIR/tensorboard/        event files
"""

import logging
import math
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from model.resnet import ResNet
from trainer.callbacks import callbacks
from trainer.checkpoints import FOLDER, LAST, AtomicCheckpointIO, DamagedCheckpoint, previous, read_checkpoint
from trainer.config import ConfigError, TrainConfig, suit_few_images
from trainer.data import SPLIT_SEED, DataModule, TrainingData, load_data, steps_per_epoch
from trainer.errors import Interrupted, NonFiniteLoss, TrainingError, raise_interrupted
from trainer.module import TrainingModule, build_network
from trainer.pretrained import Pretrained, load_pretrained, start_from
from trainer.run import (
    RUN,
    UNREADABLE,
    RunError,
    check_same_run,
    log,
    log_and_print,
    log_to_file,
    note_resumed,
    note_usage,
    run_lock,
    start_run,
)


@dataclass(frozen=True)
class Progress:
    """Epochs that are trained and saved, of how many."""

    epochs: int
    total: int


def fit(
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    resume: bool = False,
    deadline: float = math.inf,
    progress_bar: bool = True,
    given: Collection[str] = (),
) -> Progress | None:
    """Trains until the config's last step, writing into `run_dir` (see the module's docstring).

    With `resume`, goes on from run_dir/checkpoints/last.ckpt, which must come from the same config, where there is one.
    Ends after the last epoch that fits before `deadline`, in seconds of time.monotonic(), but not before the first.
    `given`: settings that a flag named, which a small folder of images does not change (`suit_few_images`).
    Of several processes one alone writes, the others get None. Raises RunError, ConfigError, or DatasetError before it
    changes anything; TrainingError or Interrupted when the run ends before its time.
    """
    device = resolve_device(config.device)
    check_devices(config, device)
    precision = resolve_precision(config.precision, device)
    try:
        data = load_data(config, data_dir, run_dir.parent, progress_bar)
        config = suit_few_images(config, len(data.split.train), given)
        check_batch(config, len(data.split.train))
        pretrained = load_pretrained(config, data)
        trainer = build_trainer(config, data.class_names, run_dir, device, precision, deadline, progress_bar)
        module = build_module(config, data, pretrained)
        if trainer.is_global_zero:
            description = describe_run(config, data, pretrained, device, precision)
            return train_and_record(trainer, module, data, run_dir, resume, description)
        train_worker_rank(trainer, module, data, newest_checkpoint(run_dir) if resume else None)
    except Exception as error:
        if (explained := explain(error, config)) is None:
            raise
        raise explained from error


def train_and_record(
    trainer: L.Trainer, module: TrainingModule, data: TrainingData, run_dir: Path, resume: bool, about: dict[str, Any]
) -> Progress:
    """The part of the first process, which writes `about` the run and locks its folder."""
    if resume := resume and (run_dir / RUN).exists():
        check_same_run(run_dir, about)
    with run_lock(run_dir):
        if not resume:
            start_run(run_dir, about)
        with log_to_file(run_dir):
            note_data(run_dir, data)
            last = newest_checkpoint(run_dir) if resume else None
            if last is not None and last.instead_of:
                log_and_print(f"{last.instead_of}: continuing from {last.path.name}, epoch {last.epochs}")
                (run_dir / FOLDER / LAST).unlink()  # else the next save would keep it in the place of the one before
            if resume:
                note_resumed(run_dir, about)
            started = time.perf_counter()
            try:
                return Progress(train(trainer, module, data, last), module.total_epochs)
            finally:
                note_usage(run_dir, time.perf_counter() - started, *peak_memory(module.device.type))


def note_data(run_dir: Path, data: TrainingData) -> None:
    """What was left out of a folder of images; the whole list of what cannot be read in RUN_DIR/unreadable.txt."""
    for note in data.notes:
        log_and_print(note)
    if data.unreadable:
        (run_dir / UNREADABLE).write_text("\n".join(data.unreadable) + "\n", "utf-8", "surrogateescape")


def train_worker_rank(
    trainer: L.Trainer, module: TrainingModule, data: TrainingData, last: "Checkpoint | None"
) -> None:
    """The part of every other process: trains along and writes nothing."""
    try:
        train(trainer, module, data, last)
    except (Interrupted, NonFiniteLoss):
        sys.exit(0)  # the first process says why; Lightning would kill it for another code of this one


def train(trainer: L.Trainer, module: TrainingModule, data: TrainingData, last: "Checkpoint | None") -> int:
    """One Lightning fit, if anything is left to do. Returns how many epochs are saved then."""
    saved = trainer.checkpoint_callback
    saved.epochs = last.epochs if last else 0
    if saved.epochs >= module.total_epochs:
        return saved.epochs
    try:
        with warnings.catch_warnings():
            quieten_lightning()
            trainer.fit(module, datamodule=DataModule(data, module.config), ckpt_path=last and last.path)
    except BaseException as error:
        log.error(f"{type(error).__name__}: {error}")
        if trainer.strategy.launcher is not None:  # the processes that this one started would wait for it
            trainer.strategy.launcher.kill(signal.SIGKILL)
        if isinstance(error, Interrupted):
            raise Interrupted(error.signum, saved.in_words(module.total_epochs)) from None
        raise
    return saved.epochs


def build_module(config: TrainConfig, data: TrainingData, pretrained: dict[str, Pretrained]) -> TrainingModule:
    """Networks with the weights that the config asks for, ready for Lightning."""
    L.seed_everything(config.seed, verbose=False)
    network = build_network(config, len(data.class_names), data.mean, data.std)
    if "initial_weights" in pretrained:
        start_from(network, pretrained["initial_weights"], data.class_names)
    teachers = [pretrained["teacher"].network] if "teacher" in pretrained else []
    for each in (network, *teachers):
        each.to(memory_format=torch.channels_last)  # for fast convolutions
    module = TrainingModule(network, config, steps_per_epoch(len(data.split.train), config.batch_size), *teachers)
    for each in (network, *teachers):  # after the module copied the network for its average
        compile_if_asked(each, config)
    return module


OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "allocate memory", "not enough memory", "can't start new thread")
"""What PyTorch, CUDA and Python say of it."""


def explain(error: Exception, config: TrainConfig) -> TrainingError | None:
    """What to do about a fault, where that is known."""
    compiling = None
    if config.compile:  # PyTorch wraps the compiler's error in a class that is not public, but for those about Triton
        about_triton = isinstance(error, RuntimeError) and "triton" in str(error).lower()
        compiling = getattr(error, "inner_exception", error if about_triton else None)
    error = compiling or error
    first, *more = str(error).strip().splitlines() or [""]
    text = more[-1].strip() if more and first.endswith(":") else first
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(map(text.count, OUT_OF_MEMORY))):
        return TrainingError(
            f"the device has too little memory for --batch-size {config.batch_size}: give a lower one, or let fewer "
            f"runs share it ({text})"
        )
    if compiling is not None:
        return TrainingError(
            f"--compile failed ({type(error).__name__}: {text}): leave it out, or see that there is what it needs, a "
            "C++ compiler, on CUDA also Triton and a compiler for C"
        )
    if isinstance(error, OSError):
        return TrainingError(f"the operating system refused something to the run ({text}); go on with --resume")
    return None


def cluster_environment(config: TrainConfig) -> ClusterEnvironment:
    """How the processes of this run find each other: as torchrun or srun says, else the first starts the others.

    Lightning takes every process in a Slurm job for one that srun started
    (https://github.com/Lightning-AI/pytorch-lightning/issues/15011). Raises ConfigError.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))  # of srun, which alone sets it
    if tasks == 1:
        if config.num_nodes > 1 and "NODE_RANK" not in os.environ:
            raise ConfigError(f"--num-nodes is {config.num_nodes}: start the trainer with torchrun or srun")
        return LightningEnvironment()
    if tasks != config.world_size:
        raise ConfigError(
            f"srun started {tasks} tasks, but --devices times --num-nodes is {config.world_size}: use srun --ntasks "
            f"{config.world_size}, or change --devices"
        )
    return SLURMEnvironment(auto_requeue=False)


def compile_if_asked(network: ResNet, config: TrainConfig) -> None:
    if config.compile:
        network.compile(mode="reduce-overhead" if config.cuda_graphs else "default")


def build_trainer(
    config: TrainConfig,
    class_names: tuple[str, ...],
    run_dir: Path,
    device: str,
    precision: str,
    deadline: float,
    progress_bar: bool,
) -> L.Trainer:
    environment = cluster_environment(config)
    # The first process ends those that it started: one that ended before would leave it waiting.
    started_by_ours = isinstance(environment, LightningEnvironment) and environment.creates_processes_externally
    on_signal = signal.SIG_IGN if started_by_ours else raise_interrupted
    with warnings.catch_warnings():
        quieten_lightning()
        return L.Trainer(
            accelerator=device,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy="ddp" if config.world_size > 1 else "auto",
            precision=precision,
            max_epochs=config.max_epochs,
            logger=TensorBoardLogger(run_dir, name="", version="tensorboard"),
            callbacks=callbacks(run_dir, class_names, progress_bar, device, deadline, on_signal),
            plugins=[AtomicCheckpointIO(), environment],
            num_sanity_val_steps=0,
            log_every_n_steps=1,  # everything is logged once per epoch anyway
            enable_progress_bar=progress_bar,
            enable_model_summary=False,
            use_distributed_sampler=False,  # our loaders know their part
            deterministic=config.deterministic,
            benchmark=device == "cuda" and not config.deterministic,  # every step has the same shapes
            inference_mode=not config.cuda_graphs,
        )


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint file, how many epochs it has behind it, and the newer one that is damaged, in words."""

    path: Path
    epochs: int
    instead_of: str = ""


def newest_checkpoint(run_dir: Path) -> Checkpoint | None:
    """last.ckpt, or the one before where that is damaged. None before the first; RunError if no checkpoint is whole."""
    last = run_dir / FOLDER / LAST
    damaged = []
    for path in filter(Path.exists, (last, previous(last))):
        try:
            return Checkpoint(path, len(read_checkpoint(path)["history"]), "; ".join(damaged))
        except DamagedCheckpoint as error:
            damaged.append(f"{path} is damaged ({error})")
    if damaged:
        raise RunError(f"{'; '.join(damaged)}: start again with another --output-dir")
    return None


def check_devices(config: TrainConfig, device: str) -> None:
    """Raises ConfigError where the machine has fewer devices than asked for, or the device cannot do what is asked."""
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, config.devices)
    if config.devices > there:
        raise ConfigError(f"--devices is {config.devices}, but this machine has {there} of kind {device}")
    if config.cuda_graphs and device != "cuda":
        raise ConfigError(f"--cuda-graphs has no effect on the device {device}: leave it out")
    if config.precision == "bf16-mixed" and device == "cuda" and not has_bf16():
        raise ConfigError("--precision is bf16-mixed, which this GPU does not support: leave it out or use 16-mixed")
    if config.precision == "16-mixed" and device != "cuda":
        raise ConfigError(f"--precision is 16-mixed, which is for CUDA GPUs, not for the device {device}: leave it out")


def check_batch(config: TrainConfig, images: int) -> None:
    """Raises ConfigError where several devices would have to share less than one batch."""
    if config.world_size > 1 and images < config.batch_size:
        raise ConfigError(
            f"--batch-size is {config.batch_size}, but there are only {images} training images: with several devices "
            "every batch must be full"
        )


def peak_memory(device: str) -> tuple[int | None, int | None]:
    """Highest use so far in bytes: resident memory of this process, memory that PyTorch took on the GPU."""
    try:
        import resource
    except ImportError:  # Windows
        host = None
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return host, torch.cuda.max_memory_reserved() if device == "cuda" else None


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
    """The `auto` rule of TrainConfig.precision. bf16 on a CPU without AMX is far slower than float32."""
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16-mixed" if has_bf16() else "16-mixed"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older versions of PyTorch
    return "bf16-mixed" if device == "cpu" and capabilities.get("amx_bf16", False) else "32-true"


def has_bf16() -> bool:
    """Whether the GPU computes in bf16 itself. Those before 2020, such as the T4, only emulate it in part."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def describe_run(
    config: TrainConfig, data: TrainingData, pretrained: dict[str, Pretrained], device: str, precision: str
) -> dict[str, Any]:
    """Everything about a run that is known before its first step, as JSON values."""
    packages = ("torch", "torchvision", "lightning", "numpy")
    return {
        "hyperparameters": config.hyperparameters(),
        "device": device_name(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in packages}
        | (cuda_versions() if device == "cuda" else {}),
        "git_commit": git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "split": {
            "train": len(data.split.train),
            "val": len(data.split.val),
            "seed": SPLIT_SEED,
            "sha256": data.split.sha256(),
        },
        "dataset": data.dataset,
        "mean": data.mean,
        "std": data.std,
        "pretrained": {name: found.facts for name, found in pretrained.items()},
    }


def cuda_versions() -> dict[str, str]:
    """Of CUDA and cuDNN (of ROCm on its GPUs), as PyTorch was built with them."""
    found = {"cuda": torch.version.cuda, "hip": torch.version.hip, "cudnn": torch.backends.cudnn.version()}
    return {name: str(value) for name, value in found.items() if value is not None}


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
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # our loaders need none
        ".*LearningRateMonitor.*no learning rate schedulers.*",  # plateau: stepped by the module
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*lr_scheduler.step.*optimizer.step.*",
        ".*The dataloader.*might be a bottleneck.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*recommended to use .self.log.*sync_dist=True.*",  # what is logged was summed over the processes before
    ):
        warnings.filterwarnings("ignore", message=message)
