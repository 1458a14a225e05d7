"""Predictions per second of the page against the demo that people write, asked by many clients at once.

    python -m benchmarks.serving --output docs/benchmarks/serving-NAME.json
    python -m benchmarks.serving --quick

    app     python app.py
    plain   benchmarks/plain_demo.py: gr.Interface as it comes, the same network in PyTorch, picture by picture

Both serve the same artifact, started anew in every round, and are loaded in turn by benchmarks/load.py, a process of
its own, with JPEGs that benchmarks/pictures.py draws. A cell is a number of clients and a size of picture. Where the
machine has three cores or more, both servers get the same two and the load the rest; else they share all.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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

SIDES = ("app", "plain")
EXTRA = {"app": [5, "crop"], "plain": []}
"""What a call has behind the picture."""

Cell = tuple[int, float]
"""Clients, megabytes of a picture."""

CELLS: list[Cell] = [(1, 0.2), (8, 0.2), (32, 0.2), (128, 0.2), (32, 0.1), (32, 0.5), (32, 2.0), (32, 5.0)]
QUICK: list[Cell] = [(1, 0.1), (16, 0.2)]

PICTURES = 2
"""Of each size; every request alters the bytes."""

WARM_UP = 4
"""Requests before the first cell: gradio imports on the first call."""


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


def command(side: str, port: int, artifact: Path) -> list[str]:
    if side == "app":
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


def ask(server: Server, side: str, files: list[Path], clients: int, mark: str, *limit: str) -> dict[str, Any]:
    """What a load process counted, and the processor time that the server took for it."""
    flags = ["--clients", str(clients), "--extra", json.dumps(EXTRA[side]), "--mark", mark, *limit]
    used = server.processor_seconds()
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", server.address, *map(str, files), *flags],
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
    """Every cell of both sides, on servers that start with it; who comes first changes from round to round."""
    (server_cores, client_cores), found = split(all_cores()), {}
    with ExitStack() as stack:
        up: dict[str, Server] = {}
        for side in SIDES:
            uploads, port = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
            with on(server_cores):
                up[side] = stack.enter_context(running(command(side, port, artifact), port, environment(uploads)))
        with on(client_cores):
            for side in SIDES:
                ask(up[side], side, files[cells[0][1]], 1, f"warm-{number}", "--requests", str(WARM_UP))
            for index, (clients, size) in enumerate(cells):
                order = SIDES if (number + index) % 2 == 0 else SIDES[::-1]
                limit, mark = ("--seconds", str(seconds)), f"{number}-{index}"
                found[clients, size] = {side: ask(up[side], side, files[size], clients, mark, *limit) for side in order}
    return found


def combined(rounds: list[dict[Cell, dict[str, dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Per cell every round of both sides, and the median of the rounds' own ratios of answers per second."""
    cells = []
    for clients, size in rounds[0]:
        runs = {side: [each[clients, size][side] for each in rounds] for side in SIDES}
        pairs = zip(*([run["requests_per_second"] for run in runs[side]] for side in SIDES), strict=True)
        ratios = [ours / plain for ours, plain in pairs if plain]
        cells.append(
            {"clients": clients, "megabytes": size}
            | {side: {"runs": runs[side]} for side in SIDES}
            | {"app_over_plain": median(ratios) if ratios else None}
        )
    return cells


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
    """Compare the page with the plain gr.Interface demo under load."""
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
