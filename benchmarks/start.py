"""Seconds from the command to the first page, and resident memory then: the page against a bare one with PyTorch.

    python -m benchmarks.start --output docs/benchmarks/start-NAME.json

    app     python app.py with the bundled model
    bare    benchmarks/bare_page.py: one line of text in gr.Blocks, and `import torch`

In turn, each in a process of its own. Memory is read when the page was served and nothing happened for two seconds.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks import machine, tables
from benchmarks.server import app_command, environment, free_port, running
from trainer.fit import device_name

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

SIDES = ("app", "bare")
SETTLE_SECONDS = 2


def command(side: str, port: int) -> list[str]:
    return app_command(port) if side == "app" else [sys.executable, "-m", "benchmarks.bare_page", str(port)]


def start(side: str) -> dict[str, float]:
    port = free_port()
    with tempfile.TemporaryDirectory() as uploads:
        with running(command(side, port), port, environment(Path(uploads))) as server:
            took, used = server.start_seconds, server.processor_seconds()
            time.sleep(SETTLE_SECONDS)
            return {"seconds": took, "processor_seconds": used, "resident_bytes": server.resident_bytes()}


def combined(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Every run, and the medians of the rounds' own ratios."""
    ratios = {
        f"{key}_ratio": median(ours[key] / bare[key] for ours, bare in zip(runs["app"], runs["bare"], strict=True))
        for key in ("seconds", "processor_seconds", "resident_bytes")
    }
    return {side: {"runs": runs[side]} for side in SIDES} | ratios


@app.command()
def main(
    repeats: Annotated[int, typer.Option(min=1, help="Rounds.")] = 5,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Compare the page's start with that of a bare Gradio page that imports PyTorch."""
    result = {
        "benchmark": "start",
        "machine": machine.describe("gradio", "onnxruntime", "uvloop", "httptools"),
        "device": device_name("cpu"),
        "settings": {"settle_seconds": SETTLE_SECONDS},
    }
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(repeats):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            runs[side].append(start(side))
        result |= {"rounds": number + 1} | combined(runs)
        machine.write(result, output)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    app()
