"""What benchmarks share: flags, where and when they ran, whose turn it is, the file that they leave."""

import json
import os
import platform
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from trainer.fit import cpu_name, device_name, git_commit, peak_memory

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
            "load_average": os.getloadavg()[0],
            "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
            "git_commit": git_commit(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "device": device_name(device),
        "settings": settings,
        "rounds": 1,
    }


def in_turn(sides: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """(round, side): each side once a round, in reverse in every other one, so that none always comes first."""
    for number in range(1, rounds + 1):
        yield from ((number, side) for side in (sides if number % 2 else sides[::-1]))


def wait_for(device: str) -> None:
    """Until all that was asked of the device is done, so that a clock read next is honest."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def peaks(device: str) -> dict[str, int | None]:
    """The highest use of memory by this process so far, resident and on the GPU."""
    return dict(zip(("peak_host_bytes", "peak_device_bytes"), peak_memory(device), strict=True))


def write(result: dict[str, Any], args: Namespace) -> None:
    """After every measurement, so that an interrupted benchmark leaves what it has."""
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1) + "\n")
