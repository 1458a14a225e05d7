"""Where and when a benchmark ran, how it waits for the device, and the file that it leaves."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from trainer.fit import cpu_name, git_commit


def describe(*more: str) -> dict[str, Any]:
    """Versions are those of what every benchmark uses and of the packages `more`.
    `load_average` is that of the minute before: near 0 where nothing else was running."""
    packages = ("torch", "torchvision", "lightning", "numpy", "pillow", *more)
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "git_commit": git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def wait_for(device: str) -> None:
    """Until all that was asked of the device is done, so that a clock read next is honest."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def write(result: dict[str, Any], output: Path | None) -> None:
    """Called after every round, so that an interrupted benchmark leaves what it has."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n")
