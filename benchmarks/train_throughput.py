"""Images per second of our trainer, of the loop that people write, and of a bare PyTorch loop, one after another.

    python -m benchmarks.train_throughput --data-dir DATA
    python -m benchmarks.train_throughput --variant "--precision 32-true" --variant "--compile" -- --device cuda

    ours      `python -m trainer`, as anybody runs it
    classic   benchmarks/classic.py: Pillow pictures, loader workers, a log call per step, eager NCHW float32
    bare      benchmarks/bare.py: our training step on one ready batch, the upper limit

Each measurement is a process of its own, alone at its time. A round measures all of them once; a ratio is the median
of the rounds' own ratios, so that a machine whose speed drifts does not favour any. What is counted is the training
part of the last epoch; the first epoch, where compilation and the filling of caches happen, is stated apart.
"""

import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks import machine, tables
from model import cifar10
from trainer.config import TrainConfig, as_flag
from trainer.data import steps_per_epoch
from trainer.run import read_run

PROJECT = Path(__file__).resolve().parent.parent
PYTHON = [sys.executable]
SCALING = (5_000, 15_000, 45_000)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run_alone(module: str, *arguments: str) -> tuple[str, int]:
    """What `python -m module` printed, and its peak of resident memory in bytes.

    The peak is that of the largest process: loader workers and compiler processes are not added to it.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        command = [*PYTHON, "-m", module, *arguments]
        process = subprocess.Popen(command, cwd=PROJECT, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.wait()  # it has ended: this tells `Popen`, lest it warn
        for file in (output, errors):
            file.seek(0)
        if code := os.waitstatus_to_exitcode(status):
            sys.exit(f"{shlex.join(command[1:])} ended with {code}:\n{errors.read()[-3000:]}")
        return output.read(), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_ours(run_dir: Path, data_dir: Path, flags: list[str]) -> dict[str, Any]:
    """The trainer's own numbers: history.csv and run.json."""
    _, peak = run_alone("trainer", "--no-test", f"--data-dir={data_dir}", f"--output-dir={run_dir}", *flags)
    run = read_run(run_dir)
    with (run_dir / "history.csv").open() as file:
        epochs = [float(row["images_per_second"]) for row in csv.DictReader(file)]
    return {
        "images_per_second": epochs[-1],
        "epochs": epochs,
        "warmup_seconds": epoch_images(run) / epochs[0],
        "peak_host_bytes": peak,
        "peak_device_bytes": run.get("peak_memory_bytes", {}).get("device"),
    }


def epoch_images(run: dict[str, Any]) -> int:
    """Images that one epoch of a run trains on: the last, short batch is dropped."""
    images, batch_size = run["split"]["train"], run["hyperparameters"]["batch_size"]
    return steps_per_epoch(images, batch_size) * min(batch_size, images)


def run_rival(module: str, *arguments: str) -> dict[str, Any]:
    output, peak = run_alone(f"benchmarks.{module}", *arguments)
    return json.loads(output.splitlines()[-1]) | {"peak_host_bytes": peak}


def compare(result: dict[str, Any], data_dir: Path, flags: list[str]) -> None:
    """One round, added to `result`."""
    for number, variant in enumerate(result["variants"]):
        with tempfile.TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            variant["ours"]["runs"].append(run_ours(run_dir, data_dir, [*flags, *shlex.split(variant["flags"])]))
            note_settings(variant, run_dir)
            if number == 0:  # no variant changes anything in it
                result["classic"]["runs"].append(run_rival("classic", str(run_dir), f"--data-dir={data_dir}"))
            variant["bare"]["runs"].append(run_rival("bare", str(run_dir)))
    summarise(result)


def note_settings(variant: dict[str, Any], run_dir: Path) -> None:
    run = read_run(run_dir)
    refuse_unlike(run["hyperparameters"])
    variant.update({name: run[name] for name in ("device", "precision", "threads", "hyperparameters")})


ONLY_OURS = (
    *("flip", "trivial_augment", "cutout", "erasing", "mixup", "cutmix"),
    *("label_smoothing", "weight_decay_on", "ema_decay", "initial_weights", "teacher"),
)
"""Settings that neither the classic nor the bare loop has."""


def refuse_unlike(hyperparameters: dict[str, Any]) -> None:
    """Ends the benchmark where the loops would do different work."""
    config, usual = TrainConfig.from_hyperparameters(hyperparameters), TrainConfig()
    for name in ONLY_OURS:
        if (value := getattr(config, name)) != getattr(usual, name):
            raise SystemExit(f"the other loops have no {as_flag(name, value)}: leave it out")


def summarise(result: dict[str, Any]) -> None:
    """Medians over the rounds so far."""
    classic = result["classic"]
    classic["images_per_second"] = median(values(classic))
    for variant in result["variants"]:
        ours, bare = variant["ours"], variant["bare"]
        for side in (ours, bare):
            side["images_per_second"] = median(values(side))
        variant["ours_over_classic"] = ratio(ours, classic)
        variant["ours_over_bare"] = ratio(ours, bare)


def values(side: dict[str, Any]) -> list[float]:
    return [run["images_per_second"] for run in side["runs"]]


def ratio(side: dict[str, Any], other: dict[str, Any]) -> float:
    return median(a / b for a, b in zip(values(side), values(other), strict=True))


def scale(result: dict[str, Any], data_dir: Path, flags: list[str]) -> None:
    """One round of our trainer alone over the sizes, added to `result`."""
    for variant in result["variants"]:
        for size in variant["sizes"]:
            with tempfile.TemporaryDirectory() as folder:
                run_dir = Path(folder) / "run"
                of_size = ["--train-images", str(size["train_images"])]
                size["runs"].append(run_ours(run_dir, data_dir, [*flags, *shlex.split(variant["flags"]), *of_size]))
                note_settings(variant, run_dir)
                size["epoch_images"] = epoch_images(read_run(run_dir))
            size["images_per_second"] = median(values(size))
            size["epoch_seconds"] = size["epoch_images"] / size["images_per_second"]
            size["seconds_per_1000_images"] = 1000 / size["images_per_second"]


def empty_comparison(variants: list[str]) -> dict[str, Any]:
    return {
        "benchmark": "train_throughput",
        "classic": {"runs": []},
        "variants": [{"flags": flags, "ours": {"runs": []}, "bare": {"runs": []}} for flags in variants],
    }


def empty_scaling(variants: list[str]) -> dict[str, Any]:
    def sizes() -> list[dict[str, Any]]:
        return [{"train_images": images, "runs": []} for images in SCALING]

    return {"benchmark": "train_scaling", "variants": [{"flags": flags, "sizes": sizes()} for flags in variants]}


@app.command()
def main(
    flags: Annotated[
        list[str] | None, typer.Argument(metavar="[-- FLAGS]", help="Flags of `python -m trainer`, for all variants.")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="More flags of `python -m trainer`, as one string. Several of these are measured in turn."),
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help=f"Instead: our trainer alone at {SCALING} training images.")
    ] = False,
    train_images: Annotated[int, typer.Option(help="Training images of an epoch.")] = 5_000,
    max_epochs: Annotated[int, typer.Option(min=2, help="Epochs of ours and classic; the last one counts.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds.")] = 5,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds cifar-10-batches-py/.  [default: $CIFAR10_DIR, else ./data]")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write, after every round.")] = None,
) -> None:
    """Compare our trainer's images per second with the classic loop's and with the upper limit."""
    data_dir = cifar10.data_dir(data_dir).resolve()
    variants = variant or [""]
    settings = {"max_epochs": max_epochs, "batch_size": batch_size}
    if not scaling:
        settings["train_images"] = train_images
    result = empty_scaling(variants) if scaling else empty_comparison(variants)
    result |= {"machine": machine.describe(), "flags": shlex.join(flags or []), "settings": settings}
    sized = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    for number in range(1, repeats + 1):
        (scale if scaling else compare)(result, data_dir, [*sized, *(flags or [])])
        result["rounds"] = number
        machine.write(result, output)
        print(f"round {number} of {repeats} done", file=sys.stderr, flush=True)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    app()
