"""Predictions per second, REST and page against the demo that people write, with many concurrent clients.

    python -m benchmarks.serving --output benchmarks/results/serving-NAME.json

    rest    python app.py: one POST to /api/predict
    page    the same server: the three requests of the page and of gradio_client
    plain   benchmarks/plain_demo.py, a gr.Interface as it comes: the same three requests, the same network in PyTorch

Both servers have the same artifact and start anew in every round. A cell is a number of clients and a size of image.
With three cores or more, the servers get two and the clients the rest; else they share all.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import load, machine, tables
from benchmarks.photos import draw
from benchmarks.server import app_command, environment, free_port, running
from model.hub import BUNDLED

SIDES = {"rest": ("app", "rest"), "page": ("app", "gradio"), "plain": ("plain", "gradio")}
"""Side -> server and protocol (see benchmarks/load.py)."""

CELLS = [(1, 0.2), (8, 0.2), (32, 0.2), (128, 0.2), (32, 0.1), (32, 0.5), (32, 2.0), (32, 5.0)]
"""Clients, megabytes of an image."""
QUICK = [(1, 0.1), (16, 0.2)]

PARSER = machine.parser(__doc__, repeats=3)
PARSER.add_argument("--artifact", type=Path, default=BUNDLED, help="artifact folder that both serve")
PARSER.add_argument("--seconds", type=float, default=8, help="in which the clients of a cell begin requests")
PARSER.add_argument("--quick", action="store_true", help="one short round of few cells")


def split(cores: set[int]) -> tuple[set[int], set[int]]:
    """Those of the servers and those of the clients."""
    first = set(sorted(cores)[:2])
    return (first, cores - first) if len(cores) > 2 else (cores, cores)


def one_round(number: int, cells: list, photos: dict, seconds: float, artifact: Path) -> list[dict[str, dict]]:
    """Every cell of every side; who comes first changes from cell to cell. `photos`: megabytes -> JPEGs."""
    server_cores, client_cores = split(machine.cores())
    with ExitStack() as stack:
        servers = {}
        for name in ("app", "plain"):
            uploads, port = stack.enter_context(tempfile.TemporaryDirectory()), free_port()
            plain = [sys.executable, "-m", "benchmarks.plain_demo", str(artifact), str(port)]
            command = app_command(port, artifact) if name == "app" else plain
            with machine.on(server_cores):
                servers[name] = stack.enter_context(running(command, port, environment(uploads)))

        def measure(side: str, clients: int, size: float, mark: str, **limit: float) -> dict[str, Any]:
            server, protocol = SIDES[side]
            return load.ask(servers[server], protocol, photos[size], clients, f"{mark}-{side}", **limit)

        with machine.on(client_cores):
            for side in SIDES:  # gradio imports on the first call
                measure(side, 1, cells[0][1], f"warm-{number}", requests=4)
            found = []
            for index, (clients, size) in enumerate(cells):
                order = sorted(SIDES, key=lambda side: (list(SIDES).index(side) - number - index) % len(SIDES))
                mark = f"{number}-{index}"
                found.append({side: measure(side, clients, size, mark, seconds=seconds) for side in order})
    return found


def combined(cells: list, rounds: list[list[dict[str, dict]]]) -> list[dict[str, Any]]:
    """Per cell and side every round, and the ratios to plain of answers per second and of the median latency."""
    found = []
    for index, (clients, size) in enumerate(cells):
        runs = {side: [each[index][side] for each in rounds] for side in SIDES}
        rates = {side: [run["requests_per_second"] for run in runs[side]] for side in SIDES}
        waits = {side: [run["latency"].get("p50", 0) for run in runs[side]] for side in SIDES}
        sides = {
            side: {
                "runs": runs[side],
                "rate_over_plain": machine.ratio(rates[side], rates["plain"]),
                "p50_over_plain": machine.ratio(waits[side], waits["plain"]),
            }
            for side in SIDES
        }
        found.append({"clients": clients, "megabytes": size, "sides": sides})
    return found


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    cells, repeats, seconds = (QUICK, 1, 1) if args.quick else (CELLS, args.repeats, args.seconds)
    servers, clients = split(machine.cores())
    cores = {"cores_shared": len(servers)} if servers == clients else {"server_cores": 2, "client_cores": len(clients)}
    result, rounds = machine.describe("serving", {"seconds_a_cell": seconds} | cores, *machine.SERVING), []
    photos = {size: [draw(int(size * 1e6), seed) for seed in range(2)] for _, size in cells}
    for number in range(repeats):
        rounds.append(one_round(number, cells, photos, seconds, args.artifact))
        result |= {"rounds": len(rounds), "cells": combined(cells, rounds)}
        machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()
