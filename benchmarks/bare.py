"""The upper limit: a bare PyTorch loop over one batch that lies ready on the device.

`python -m benchmarks.bare RUN_DIR` repeats the training step of the run in RUN_DIR (same network, optimizer, precision,
memory format and compilation; no data pipeline, no metrics, no Lightning) and prints what it measured as JSON.
"""

import json
import math
import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from benchmarks.machine import peaks, wait_for
from trainer.augment import to_float
from trainer.config import TrainConfig
from trainer.data import steps_per_epoch
from trainer.fit import compile_if_asked, resolve_device, resolve_precision
from trainer.module import TrainingModule, build_network
from trainer.run import read_run

WARMUP_STEPS = 10


def ready_optimizer(network: nn.Module, config: TrainConfig, device: str) -> Optimizer:
    """The trainer's own; a schedule of so many steps leaves it at the low rate of the first one, for good."""
    configured = TrainingModule(network, config, steps_per_epoch=10**6).to(device).configure_optimizers()
    return configured["optimizer"] if isinstance(configured, dict) else configured


def main(run_dir: Path) -> None:
    """As many steps as an epoch of the run has, after WARMUP_STEPS."""
    run = read_run(run_dir)
    config = TrainConfig.from_hyperparameters(run["hyperparameters"])
    torch.manual_seed(config.seed)
    device = resolve_device(config.device)
    mixed = resolve_precision(config.precision, device) != "32-true"
    torch.backends.cudnn.benchmark = device == "cuda" and not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as Lightning does
    torch.use_deterministic_algorithms(config.deterministic)
    network = build_network(config, 10, run["mean"], run["std"]).to(device, memory_format=torch.channels_last)
    compile_if_asked(network, config)
    optimizer = ready_optimizer(network, config, device)
    batch_size = min(config.batch_size, run["split"]["train"])
    # Noise, in the memory layout of the trainer's batches: the time of a step does not depend on the pixels.
    images = to_float(torch.randint(256, (batch_size, 32, 32, 3), dtype=torch.uint8, device=device))
    labels = torch.randint(10, (batch_size,), device=device)

    def seconds_of(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(device, torch.bfloat16, enabled=mixed, cache_enabled=False):  # as Lightning does
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
    found = {"images_per_second": steps * batch_size / seconds_of(steps), "warmup_seconds": warmup_seconds}
    print(json.dumps(found | peaks(device)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
