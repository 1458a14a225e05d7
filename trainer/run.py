"""run.json: what a run folder says about its run, written before the first step."""

import json
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig, flag

RUN = "run.json"


class RunError(ValueError):
    """The output folder cannot be used as asked; the message says what to do."""


def start_run(run_dir: Path, description: dict[str, Any]) -> None:
    """Creates the folder and writes run.json. Raises RunError where a run lies already or nothing can be written."""
    if (run_dir / RUN).exists():
        raise RunError(f"{run_dir} already holds a run: add --resume to continue it, or choose another --output-dir")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / RUN).write_text(json.dumps(description, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"{run_dir} cannot be written ({error.strerror}): choose another --output-dir") from None


def read_run(run_dir: Path) -> dict[str, Any]:
    """What `start_run` wrote. Raises RunError if there is none."""
    try:
        return json.loads((run_dir / RUN).read_text())
    except (OSError, ValueError):
        raise RunError(f"{run_dir} holds no run (no readable {RUN}): name the --output-dir of a training run") from None


def check_same_run(run_dir: Path, config: TrainConfig, split_sha256: str) -> None:
    """Raises RunError unless the run in `run_dir` has this config and this split."""
    run = read_run(run_dir)
    before, now = run["hyperparameters"], config.hyperparameters()
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise RunError(
                f"{run_dir} was started with {flag(name)} {before.get(name)}, not {now.get(name)}: "
                "--resume continues a run as it was; give the same flags, or another --output-dir"
            )
    check_same_split(run_dir, run, split_sha256)


def check_same_split(run_dir: Path, run: dict[str, Any], split_sha256: str) -> None:
    """Raises RunError unless the run saw this train/val split."""
    if run["split"]["sha256"] != split_sha256:
        raise RunError(f"{run_dir} was trained on other data (its split differs): name the same --data-dir as then")
