"""Soak test: whether the server's memory, stored files and open descriptors level off.

    python -m benchmarks.soak --output docs/benchmarks/soak-NAME.json

One `python app.py` answers benchmarks/load.py, first over REST and then as the page is asked, with small images whose
bytes all differ. After every so many predictions it is left alone for a moment and looked at.
"""

import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import machine, serving, tables
from benchmarks.pictures import draw
from benchmarks.server import Server, app_command, environment, free_port, running
from trainer.fit import device_name

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

PROTOCOLS = {"rest": "rest", "page": "gradio"}
"""Side -> protocol (see benchmarks/load.py), in this order."""

PICTURE_BYTES = 8_000
PICTURES = 100
SETTLE_SECONDS = 0.5


def sample(server: Server, uploads: Path, predictions: int) -> dict[str, int]:
    """Files and folders may go while they are counted: os.walk passes over those. The folder's lock, which is empty, is
    not counted."""
    sizes = []
    for folder, _, names in os.walk(uploads):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sizes.append(os.stat(os.path.join(folder, name)).st_size)
    return {
        "predictions": predictions,
        "resident_bytes": server.resident_bytes(),
        "open_files": server.open_files(),
        "upload_files": sum(size > 0 for size in sizes),
        "upload_bytes": sum(sizes),
    }


def slope(samples: list[dict[str, int]], key: str) -> float:
    """Growth per 1,000 predictions over the last half, by least squares."""
    half = samples[-max(2, len(samples) // 2) :]
    return float(np.polyfit([each["predictions"] / 1000 for each in half], [each[key] for each in half], 1)[0])


def soak(
    server: Server, uploads: Path, files: list[Path], side: str, clients: int, every: int, predictions: int
) -> Iterator[dict[str, Any]]:
    """Yields, after each part, what was found so far."""
    samples, counts = [sample(server, uploads, 0)], {"seconds": 0.0, "busy": 0, "errors": Counter()}
    for asked in range(every, predictions + 1, every):
        run = serving.ask(server, PROTOCOLS[side], files, clients, f"{side}-{asked}", "--requests", str(every))
        for key in counts:
            counts[key] += Counter(run[key]) if key == "errors" else run[key]
        time.sleep(SETTLE_SECONDS)
        samples.append(sample(server, uploads, asked))
        growth = {key: slope(samples, key) for key in ("resident_bytes", "open_files", "upload_files")}
        yield {"samples": samples, "last_half_per_1000": growth} | counts


@app.command()
def main(
    predictions: Annotated[int, typer.Option(min=3, help="How many of each side.")] = 20_000,
    every: Annotated[int, typer.Option(min=1, help="Predictions between two looks.")] = 1_000,
    clients: Annotated[int, typer.Option(min=1, help="At once.")] = 16,
    artifact: Annotated[Path | None, typer.Option(help="Artifact folder (default: the bundled model).")] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Watch the server's memory and files over many predictions."""
    result = {
        "benchmark": "soak",
        "machine": machine.describe("gradio", "onnxruntime", "uvloop", "httptools"),
        "device": device_name("cpu"),
        "settings": {"predictions": predictions, "clients": clients, "picture_bytes": PICTURE_BYTES},
        "rounds": 1,
        "sides": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{seed}.jpg" for seed in range(PICTURES)]
        for seed, path in enumerate(files):
            path.write_bytes(draw(PICTURE_BYTES, seed))
        uploads, port = Path(folder) / "uploads", free_port()
        with running(app_command(port, artifact), port, environment(uploads)) as server:
            for side in PROTOCOLS:
                for found in soak(server, uploads, files, side, clients, every, predictions):
                    result["sides"][side] = found
                    machine.write(result, output)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    app()
