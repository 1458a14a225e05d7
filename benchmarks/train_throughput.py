"""Images per second of our trainer, of the loop that people write, and of a bare PyTorch loop, one after another.

    python -m benchmarks.train_throughput --data-dir DATA
    python -m benchmarks.train_throughput --variant "--precision 32-true" --variant "--compile" -- --device cuda

    ours      `python -m trainer`, as anybody runs it; flags after -- are its own
    classic   benchmarks/classic.py: Pillow images, loader workers, a log call per step, eager NCHW float32
    bare      benchmarks/bare.py: our training step on one ready batch, the upper limit

The other two take network, SGD settings and batch size from our run, and have neither stronger augmentation nor
regularization, EMA or a teacher. Each measurement is a process of its own, alone at its time. What is counted is the
training part of the last epoch; the first epoch, where compilation and the filling of caches happen, is stated apart.
"""

import csv
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine, tables
from benchmarks.server import PROJECT
from model import cifar10
from trainer.data import steps_per_epoch
from trainer.run import read_run

SCALING = (5_000, 15_000, 45_000)

PARSER = machine.parser(__doc__, repeats=5)
PARSER.add_argument("flags", nargs="*", help="flags of `python -m trainer`, for all variants, after --")
PARSER.add_argument("--variant", action="append", help="more of them as one string; several are measured in turn")
PARSER.add_argument("--scaling", action="store_true", help=f"instead: our trainer alone at {SCALING} training images")
PARSER.add_argument("--train-images", type=int, default=5_000)
PARSER.add_argument("--max-epochs", type=int, default=2, help="of ours and classic; the last one counts")
PARSER.add_argument("--batch-size", type=int, default=128)
PARSER.add_argument("--data-dir", type=Path, help="has cifar-10-batches-py/ (default: $CIFAR10_DIR, else ./data)")


def run_alone(module: str, *arguments: str | Path) -> str:
    """What `python -m module` printed last."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"{shlex.join(command[1:])} ended with {found.returncode}:\n{found.stderr[-3000:]}")
    return found.stdout.splitlines()[-1]


def run_ours(variant: dict[str, Any], run_dir: Path, data_dir: Path, flags: list[str]) -> dict[str, Any]:
    """The trainer's own numbers, from history.csv and run.json; the run's settings are noted in `variant`."""
    places = [f"--data-dir={data_dir}", f"--output-dir={run_dir}"]
    run_alone("trainer", "--skip-test", *places, *flags, *shlex.split(variant["flags"]))
    run = read_run(run_dir)
    variant.update({name: run[name] for name in ("device", "precision", "threads", "hyperparameters")})
    with (run_dir / "history.csv").open() as file:
        epochs = [float(row["images_per_second"]) for row in csv.DictReader(file)]
    speed = {"images_per_second": epochs[-1], "warmup_seconds": epoch_images(run) / epochs[0]}
    return speed | {f"peak_{place}_bytes": peak for place, peak in run["peak_memory_bytes"].items()}


def epoch_images(run: dict[str, Any]) -> int:
    """Images that one epoch of a run trains on: the last, short batch is dropped."""
    images, batch_size = run["split"]["train"], run["hyperparameters"]["batch_size"]
    return steps_per_epoch(images, batch_size) * min(batch_size, images)


def run_rival(module: str, *arguments: Path) -> dict[str, Any]:
    return json.loads(run_alone(f"benchmarks.{module}", *arguments))


def compare(result: dict[str, Any], data_dir: Path, flags: list[str]) -> None:
    """One round, added to `result`."""
    for number, variant in enumerate(result["variants"]):
        with tempfile.TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            variant["ours"]["runs"].append(run_ours(variant, run_dir, data_dir, flags))
            if number == 0:  # no variant changes anything in it
                result["classic"]["runs"].append(run_rival("classic", run_dir, data_dir))
            variant["bare"]["runs"].append(run_rival("bare", run_dir))


def scale(result: dict[str, Any], data_dir: Path, flags: list[str]) -> None:
    """One round of our trainer alone over the sizes, added to `result`."""
    for variant in result["variants"]:
        for size in variant["sizes"]:
            with tempfile.TemporaryDirectory() as folder:
                run_dir, of_size = Path(folder) / "run", f"--train-images={size['train_images']}"
                size["runs"].append(run_ours(variant, run_dir, data_dir, [*flags, of_size]))
                size["epoch_images"] = epoch_images(read_run(run_dir))


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    settings = {"max_epochs": args.max_epochs, "batch_size": args.batch_size}
    if not args.scaling:
        settings["train_images"] = args.train_images
    result = machine.describe("train_scaling" if args.scaling else "train_throughput", settings)
    result |= {"flags": shlex.join(args.flags), "classic": {"runs": []}, "variants": []}
    for flags in args.variant or [""]:
        sizes = [{"train_images": images, "runs": []} for images in SCALING]
        sides = {"sizes": sizes} if args.scaling else {"ours": {"runs": []}, "bare": {"runs": []}}
        result["variants"].append({"flags": flags} | sides)
    sized = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    for number in range(1, args.repeats + 1):
        (scale if args.scaling else compare)(result, cifar10.data_dir(args.data_dir).resolve(), [*sized, *args.flags])
        result |= {"rounds": number, "device": result["variants"][0]["device"]}
        machine.write(result, args)
        print(f"round {number} of {args.repeats} done", file=sys.stderr, flush=True)
    print(tables.of({"this run": result}))


if __name__ == "__main__":
    main()
