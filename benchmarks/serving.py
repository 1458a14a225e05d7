"""Predictions per second, REST and page against the demo that people write, with many concurrent clients.

    python -m benchmarks.serving --output benchmarks/results/serving-NAME.json

    rest    python app.py: one POST to /api/predict
    page    the same server: the three requests of the page and of gradio_client
    plain   benchmarks/plain_demo.py, a gr.Interface as it comes: the same three requests, the same network in PyTorch

Both servers have the same artifact, start anew in every round, and share the cores with the clients. A cell is a number
of clients and a size of image.
"""

from pathlib import Path
from typing import Any

from benchmarks import load, machine, tables
from benchmarks.photos import draw
from benchmarks.server import APP, running
from model.hub import BUNDLED

SIDES = {"rest": ("app", "rest"), "page": ("app", "gradio"), "plain": ("plain", "plain")}
"""Side -> server and protocol (see benchmarks/load.py)."""

CELLS = [(1, 0.2), (8, 0.2), (32, 0.2), (128, 0.2), (32, 0.1), (32, 0.5), (32, 2.0), (32, 5.0)]
"""Clients, megabytes of an image."""
QUICK = [(1, 0.1), (16, 0.2)]

PARSER = machine.parser(__doc__, repeats=3)
PARSER.add_argument("--artifact", type=Path, default=BUNDLED, help="artifact folder that both serve")
PARSER.add_argument("--seconds", type=float, default=8, help="in which the clients of a cell begin requests")
PARSER.add_argument("--quick", action="store_true", help="one short round of few cells")


def add_round(
    number: int, cells: list[dict[str, Any]], photos: dict[float, list[bytes]], artifact: Path, seconds: float
) -> None:
    """To every side of every cell; who comes first changes from cell to cell. `photos`: megabytes -> JPEGs."""
    plain = ("-m", "benchmarks.plain_demo", str(artifact))
    with running(APP[0], "--model", str(artifact), *APP[1:]) as app, running(*plain) as demo:
        servers = {"app": app, "plain": demo}

        def measure(side: str, cell: dict[str, Any], mark: str, **limit: float) -> dict[str, Any]:
            server, protocol = SIDES[side]
            images = photos[cell["megabytes"]]
            return load.ask(servers[server], protocol, images, cell["clients"], f"{number}-{mark}-{side}", **limit)

        for side in SIDES:  # gradio imports on the first call
            measure(side, cells[0] | {"clients": 1}, "warm", requests=4)
        for index, cell in enumerate(cells):
            first = (number + index) % len(SIDES)
            for side in [*SIDES][first:] + [*SIDES][:first]:
                cell["sides"][side]["runs"].append(measure(side, cell, str(index), seconds=seconds))


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    loads, rounds, seconds = (QUICK, 1, 1.0) if args.quick else (CELLS, args.repeats, args.seconds)
    cells = [
        {"clients": clients, "megabytes": size, "sides": {side: {"runs": []} for side in SIDES}}
        for clients, size in loads
    ]
    result = machine.describe("serving", {"seconds_a_cell": seconds}, *machine.SERVING) | {"cells": cells}
    photos = {cell["megabytes"]: [draw(int(cell["megabytes"] * 1e6), seed) for seed in range(2)] for cell in cells}
    for number in range(rounds):
        add_round(number, cells, photos, args.artifact, seconds)
        result["rounds"] = number + 1
        machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()
