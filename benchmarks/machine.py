"""What benchmarks share: flags, where and when they ran, how they wait for the device, the file that they leave."""

import json
import os
import platform
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from trainer.fit import cpu_name, device_name, git_commit

SERVING = ("gradio", "onnxruntime", "uvloop", "httptools")
"""Packages whose versions matter to a benchmark of the server."""


def parser(text: str, repeats: int | None = None) -> ArgumentParser:
    """`repeats`: the default number of rounds, where there are rounds."""
    made = ArgumentParser(description=text, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False)
    made.add_argument("--output", type=Path, help="JSON file to write, after every round")
    if repeats:
        made.add_argument("--repeats", type=int, default=repeats, help="rounds (default: %(default)s)")
    return made


def describe(benchmark: str, settings: dict[str, Any], *packages: str, device: str = "cpu") -> dict[str, Any]:
    """How every result begins. `load_average` is of the minute before: near 0 where nothing else was running."""
    packages = ("torch", "torchvision", "lightning", "numpy", "pillow", *packages)
    return {
        "benchmark": benchmark,
        "machine": {
            "cpu": cpu_name(),
            "cores": len(cores()),
            "load_average": os.getloadavg()[0],
            "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
            "git_commit": git_commit(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "device": device_name(device),
        "settings": settings,
    }


def cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


@contextmanager
def on(chosen: set[int]) -> Iterator[None]:
    """Here and in what is started inside, these cores alone, where the system can do that."""
    before = cores()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, before)


def wait_for(device: str) -> None:
    """Until all that was asked of the device is done, so that a clock read next is honest."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def ratio(values: list[float], others: list[float]) -> float | None:
    """The median of the rounds' own ratios, so that a machine whose speed drifts favors neither; None without any."""
    ratios = [value / other for value, other in zip(values, others, strict=True) if value and other]
    return median(ratios) if ratios else None


def write(result: dict[str, Any], args: Namespace) -> None:
    """After every round, so that an interrupted benchmark leaves what it has."""
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n")
