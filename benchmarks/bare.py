"""The upper limit: a bare PyTorch loop over one batch that lies ready on the device.

`python -m benchmarks.bare RUN_DIR` repeats the training step of the run in RUN_DIR (same network, optimizer, precision,
memory format and compilation; no data pipeline, no metrics, no Lightning) and prints what it measured as JSON.
"""

import argparse
import json
import math
import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.machine import wait_for
from trainer.augment import to_float
from trainer.config import TrainConfig
from trainer.data import steps_per_epoch
from trainer.fit import compile_if_asked, peak_memory, resolve_device, resolve_precision
from trainer.module import TrainingModule, build_network
from trainer.run import read_run

WARMUP_STEPS = 10


def ready_optimizer(network: nn.Module, config: TrainConfig, device: str) -> Optimizer:
    """The trainer's own; a schedule of so many steps leaves it at the low rate of the first one, for good."""
    configured = TrainingModule(network, config, steps_per_epoch=10**6).to(device).configure_optimizers()
    return configured["optimizer"] if isinstance(configured, dict) else configured


def ready_batch(batch_size: int, device: str) -> tuple[Tensor, Tensor]:
    """Noise, in the memory layout of the trainer's batches: the time of a step does not depend on the pixels."""
    pixels = torch.randint(256, (batch_size, 32, 32, 3), dtype=torch.uint8, device=device)
    return to_float(pixels), torch.randint(10, (batch_size,), device=device)


def autocast(precision: str, device: str) -> AbstractContextManager:
    """As in Lightning's MixedPrecision plugin."""
    if precision == "32-true":
        return nullcontext()
    return torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False)


def measure(run: dict[str, Any]) -> dict[str, Any]:
    """As many steps as an epoch of the run has, after WARMUP_STEPS."""
    config = TrainConfig.from_hyperparameters(run["hyperparameters"])
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    torch.backends.cudnn.benchmark = device == "cuda" and not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as Lightning does
    torch.use_deterministic_algorithms(config.deterministic)
    network = build_network(config, run["mean"], run["std"]).to(device, memory_format=torch.channels_last)
    compile_if_asked(network, config)
    optimizer = ready_optimizer(network, config, device)
    images, labels = ready_batch(min(config.batch_size, run["split"]["train"]), device)

    def seconds_of(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            with autocast(precision, device):
                loss = F.cross_entropy(network(images).float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        wait_for(device)
        seconds = time.perf_counter() - started
        assert math.isfinite(loss.item())
        return seconds

    steps = steps_per_epoch(run["split"]["train"], config.batch_size)
    warmup_seconds = seconds_of(WARMUP_STEPS)
    return {
        "images_per_second": steps * len(labels) / seconds_of(steps),
        "warmup_seconds": warmup_seconds,
        "peak_device_bytes": peak_memory(device)[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    run = read_run(parser.parse_args().run_dir)
    torch.manual_seed(run["hyperparameters"]["seed"])
    print(json.dumps(measure(run)))


if __name__ == "__main__":
    main()
