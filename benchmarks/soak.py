"""Soak test: whether the server's memory, stored files and open descriptors level off.

    python -m benchmarks.soak --output benchmarks/results/soak-NAME.json

One `python app.py` answers, first over REST and then as the page is asked, with small images whose bytes all differ.
After every so many predictions it is left alone for a moment and looked at.
"""

import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks import load, machine, tables
from benchmarks.photos import draw
from benchmarks.server import APP, Server, running

SIDES = {"rest": "rest", "page": "gradio"}
"""Side -> protocol (see benchmarks/load.py), in this order."""

IMAGE_BYTES, IMAGES = 8_000, 100

PARSER = machine.parser(__doc__)
PARSER.add_argument("--predictions", type=int, default=20_000, help="of each side (default: %(default)s)")
PARSER.add_argument("--every", type=int, default=1_000, help="predictions between two looks (default: %(default)s)")
PARSER.add_argument("--clients", type=int, default=16)


def sample(server: Server, predictions: int) -> dict[str, int]:
    """Files may go while they are counted. The folder's lock, which is empty, is not counted."""
    sizes = []
    for folder, _, names in os.walk(server.uploads):  # which, unlike rglob, passes over folders that go meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                sizes.append((Path(folder) / name).stat().st_size)
    return {
        "predictions": predictions,
        "resident_bytes": server.resident_bytes(),
        "open_files": len(list((server.state / "fd").iterdir())),
        "upload_files": sum(size > 0 for size in sizes),
    }


def slope(samples: list[dict[str, int]], key: str) -> float:
    """Growth per 1,000 predictions over the last half, by least squares."""
    half = samples[-max(2, len(samples) // 2) :]
    return float(np.polyfit([each["predictions"] / 1000 for each in half], [each[key] for each in half], 1)[0])


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    settings = {"predictions": args.predictions, "clients": args.clients, "image_bytes": IMAGE_BYTES}
    result = machine.describe("soak", settings, *machine.SERVING) | {"sides": {}}
    images = [draw(IMAGE_BYTES, seed) for seed in range(IMAGES)]
    with running(*APP) as server:
        for side, protocol in SIDES.items():
            samples = [sample(server, 0)]
            found = result["sides"][side] = {"samples": samples, "seconds": 0.0, "busy": 0, "errors": Counter()}
            for asked in range(args.every, args.predictions + 1, args.every):
                run = load.ask(server, protocol, images, args.clients, f"{side}-{asked}", requests=args.every)
                found["seconds"] += run["seconds"]
                found["busy"] += run["busy"]
                found["errors"].update(run["errors"])
                time.sleep(0.5)
                samples.append(sample(server, asked))
                found["last_half_per_1000"] = {"resident_bytes": slope(samples, "resident_bytes")}
                machine.write(result, args)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()
