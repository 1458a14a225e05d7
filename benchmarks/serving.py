"""Predictions per second, REST and page against the demo that people write, with many clients at once.

    python -m benchmarks.serving --output docs/benchmarks/serving-NAME.json
    python -m benchmarks.serving --quick

    rest    python app.py: one POST to /api/predict
    page    the same server: the three requests of the page and of gradio_client
    plain   benchmarks/plain_demo.py, a gr.Interface as it comes: the same three requests, the same network in PyTorch

Both servers have the same artifact and start anew in every round. The sides are loaded in turn by benchmarks/load.py, a
process of its own, with JPEGs that benchmarks/pictures.py draws. A cell is a number of clients and a size of image.
Where the machine has three cores or more, both servers get the same two and the load the rest; else they share all.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks import machine, tables
from benchmarks.pictures import draw
from benchmarks.server import PROJECT, Server, app_command, environment, free_port, running
from model.hub import BUNDLED
from trainer.fit import device_name

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

SIDES = {"rest": ("app", "rest"), "page": ("app", "gradio"), "plain": ("plain", "gradio")}
"""Side -> server and protocol (see benchmarks/load.py)."""

SERVERS = ("app", "plain")

Cell = tuple[int, float]
"""Clients, megabytes of an image."""

CELLS: list[Cell] = [(1, 0.2), (8, 0.2), (32, 0.2), (128, 0.2), (32, 0.1), (32, 0.5), (32, 2.0), (32, 5.0)]
QUICK: list[Cell] = [(1, 0.1), (16, 0.2)]

PICTURES = 2
"""Of each size; every request alters the bytes."""

WARM_UP = 4
"""Predictions of each side before the first cell: gradio imports on the first call."""


def split(cores: set[int]) -> tuple[set[int], set[int]]:
    """Those of the servers and those of the load."""
    if len(cores) < 3:
        return cores, cores
    first = set(sorted(cores)[:2])
    return first, cores - first


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """What is started inside runs on these cores alone, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def all_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def command(server: str, port: int, artifact: Path) -> list[str]:
    if server == "app":
        return app_command(port, None if artifact == BUNDLED else artifact)
    return [sys.executable, "-m", "benchmarks.plain_demo", str(artifact), str(port)]


def draw_pictures(folder: Path, cells: list[Cell]) -> dict[float, list[Path]]:
    """Megabytes -> files."""
    files: dict[float, list[Path]] = {}
    for size in sorted({size for _, size in cells}):
        files[size] = [folder / f"{size}-{seed}.jpg" for seed in range(PICTURES)]
        for seed, path in enumerate(files[size]):
            path.write_bytes(draw(int(size * 1e6), seed))
    return files


def ask(server: Server, protocol: str, files: list[Path], clients: int, mark: str, *limit: str) -> dict[str, Any]:
    """What a load process counted, and the processor time that the server took for it."""
    flags = ["--clients", str(clients), "--mark", mark, *limit]
    used = server.processor_seconds()
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", protocol, server.address, *map(str, files), *flags],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if answer.returncode:
        raise SystemExit(f"benchmarks.load ended with {answer.returncode}: {answer.stderr[-2000:]}")
    return json.loads(answer.stdout) | {"server_processor_seconds": server.processor_seconds() - used}


def one_round(
    number: int, cells: list[Cell], files: dict[float, list[Path]], seconds: float, artifact: Path
) -> dict[Cell, dict[str, dict[str, Any]]]:
    """Every cell of every side, on servers that start with it; who comes first changes from cell to cell."""
    (server_cores, client_cores), found = split(all_cores()), {}
    with ExitStack() as stack:
        up: dict[str, Server] = {}
        for name in SERVERS:
            uploads, port = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
            with on(server_cores):
                up[name] = stack.enter_context(running(command(name, port, artifact), port, environment(uploads)))

        def load(side: str, size: float, clients: int, mark: str, *limit: str) -> dict[str, Any]:
            server, protocol = SIDES[side]
            return ask(up[server], protocol, files[size], clients, f"{mark}-{side}", *limit)

        with on(client_cores):
            for side in SIDES:
                load(side, cells[0][1], 1, f"warm-{number}", "--requests", str(WARM_UP))
            for index, (clients, size) in enumerate(cells):
                limit, mark = ("--seconds", str(seconds)), f"{number}-{index}"
                order = rotated(list(SIDES), number + index)
                found[clients, size] = {side: load(side, size, clients, mark, *limit) for side in order}
    return found


def rotated(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def combined(rounds: list[dict[Cell, dict[str, dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Per cell and side every round, and the medians of the rounds' own ratios to plain: of answers per second, and of
    the median latency."""
    cells = []
    for clients, size in rounds[0]:
        runs = {side: [each[clients, size][side] for each in rounds] for side in SIDES}
        sides = {
            side: {
                "runs": runs[side],
                "rate_over_plain": ratio(runs, side, rate),
                "p50_over_plain": ratio(runs, side, p50),
            }
            for side in SIDES
        }
        cells.append({"clients": clients, "megabytes": size, "sides": sides})
    return cells


def rate(run: dict[str, Any]) -> float:
    return run["requests_per_second"]


def p50(run: dict[str, Any]) -> float:
    return run["latency"]["p50"] if run["latency"] else 0.0


def ratio(runs: dict[str, list[dict[str, Any]]], side: str, value: Callable[[dict[str, Any]], float]) -> float | None:
    """None where no round has an answer of both."""
    pairs = [(value(ours), value(plain)) for ours, plain in zip(runs[side], runs["plain"], strict=True)]
    ratios = [ours / plain for ours, plain in pairs if ours and plain]
    return median(ratios) if ratios else None


def settings(seconds: float) -> dict[str, float]:
    servers, clients = split(all_cores())
    cores = {"cores_shared": len(servers)} if servers == clients else {}
    return {"seconds_a_cell": seconds} | (cores or {"server_cores": len(servers), "client_cores": len(clients)})


@app.command()
def main(
    artifact: Annotated[Path, typer.Option(help="Artifact folder that both serve.")] = BUNDLED,
    seconds: Annotated[float, typer.Option(help="Time in which the clients of a cell begin requests.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
    quick: Annotated[bool, typer.Option(help="One short round of few cells, to see that it works.")] = False,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Compare REST and page with the plain gr.Interface demo under load."""
    cells, repeats, seconds = (QUICK, 1, 1) if quick else (CELLS, repeats, seconds)
    result = {
        "benchmark": "serving",
        "machine": machine.describe("gradio", "onnxruntime", "uvloop", "httptools"),
        "device": device_name("cpu"),
        "settings": settings(seconds),
    }
    rounds: list[dict[Cell, dict[str, dict[str, Any]]]] = []
    with tempfile.TemporaryDirectory() as folder:
        files = draw_pictures(Path(folder), cells)
        for number in range(repeats):
            rounds.append(one_round(number, cells, files, seconds, artifact))
            result |= {"rounds": len(rounds), "cells": combined(rounds)}
            machine.write(result, output)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    app()
