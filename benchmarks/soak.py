"""Many predictions on end: whether the page's memory, files and open descriptors level off.

    python -m benchmarks.soak --output docs/benchmarks/soak-NAME.json

One `python app.py` answers benchmarks/load.py, with small pictures whose bytes all differ. After every so many
predictions it is left alone for a moment and looked at.
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import machine, serving, tables
from benchmarks.pictures import draw
from benchmarks.server import Server, app_command, environment, free_port, running
from trainer.fit import device_name

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

PICTURE_BYTES = 8_000
PICTURES = 100
SETTLE_SECONDS = 0.5


def sample(server: Server, uploads: Path, predictions: int) -> dict[str, int]:
    """Files and folders may go while they are counted: os.walk passes over those."""
    sizes = []
    for folder, _, names in os.walk(uploads):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sizes.append(os.stat(os.path.join(folder, name)).st_size)
    return {
        "predictions": predictions,
        "resident_bytes": server.resident_bytes(),
        "open_files": server.open_files(),
        "upload_files": len(sizes),
        "upload_bytes": sum(sizes),
    }


def slope(samples: list[dict[str, int]], key: str) -> float:
    """Growth per 1,000 predictions over the last half, by least squares."""
    half = samples[-max(2, len(samples) // 2) :]
    return float(np.polyfit([each["predictions"] / 1000 for each in half], [each[key] for each in half], 1)[0])


def soaked(samples: list[dict[str, int]]) -> dict[str, Any]:
    keys = ("resident_bytes", "open_files", "upload_files")
    return {"samples": samples, "last_half_per_1000": {key: slope(samples, key) for key in keys}}


@app.command()
def main(
    predictions: Annotated[int, typer.Option(min=3, help="How many in all.")] = 20_000,
    every: Annotated[int, typer.Option(min=1, help="Predictions between two looks.")] = 1_000,
    clients: Annotated[int, typer.Option(min=1, help="At once.")] = 16,
    artifact: Annotated[Path | None, typer.Option(help="Artifact folder (default: the bundled model).")] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Watch the page's memory and files over many predictions."""
    result = {
        "benchmark": "soak",
        "machine": machine.describe("gradio", "onnxruntime", "uvloop", "httptools"),
        "device": device_name("cpu"),
        "settings": {"predictions": predictions, "clients": clients, "picture_bytes": PICTURE_BYTES},
        "rounds": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{seed}.jpg" for seed in range(PICTURES)]
        for seed, path in enumerate(files):
            path.write_bytes(draw(PICTURE_BYTES, seed))
        uploads, port = Path(folder) / "uploads", free_port()
        with running(app_command(port, artifact), port, environment(uploads)) as server:
            samples, totals = [sample(server, uploads, 0)], {"busy": 0, "errors": {}, "seconds": 0.0}
            for asked in range(every, predictions + 1, every):
                run = serving.ask(server, "app", files, clients, f"soak-{asked}", "--requests", str(every))
                totals["busy"] += run["busy"]
                totals["seconds"] += run["seconds"]
                for kind, count in run["errors"].items():
                    totals["errors"][kind] = totals["errors"].get(kind, 0) + count
                time.sleep(SETTLE_SECONDS)
                samples.append(sample(server, uploads, asked))
                result |= totals | soaked(samples)
                machine.write(result, output)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    app()
