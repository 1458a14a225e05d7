"""run.json: what a run folder says about its run, written before the first step."""

import json
import os
from pathlib import Path
from typing import Any

from trainer.config import flag

RUN = "run.json"


class RunError(ValueError):
    """The output folder cannot be used as asked; the message says what to do."""


def start_run(run_dir: Path, description: dict[str, Any]) -> None:
    """Creates the folder and writes run.json. Raises RunError where a run lies already or nothing can be written."""
    if (run_dir / RUN).exists():
        raise RunError(f"{run_dir} already holds a run: add --resume to continue it, or choose another --output-dir")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run_dir} cannot be written ({error.strerror}): choose another --output-dir") from None
    _write(run_dir, description)


def _write(run_dir: Path, description: dict[str, Any]) -> None:
    try:
        temporary = run_dir / f"{RUN}.tmp"
        temporary.write_text(json.dumps(description, indent=2) + "\n")
        os.replace(temporary, run_dir / RUN)
    except OSError as error:
        raise RunError(f"{run_dir} cannot be written ({error.strerror}): choose another --output-dir") from None


def read_run(run_dir: Path) -> dict[str, Any]:
    """What `start_run` wrote. Raises RunError if there is none."""
    try:
        return json.loads((run_dir / RUN).read_text())
    except (OSError, ValueError):
        raise RunError(f"{run_dir} holds no run (no readable {RUN}): name the --output-dir of a training run") from None


def check_same_run(run_dir: Path, description: dict[str, Any]) -> None:
    """Raises RunError unless the run in `run_dir` has the settings and the split of `description`."""
    run = read_run(run_dir)
    before, now = run["hyperparameters"], description["hyperparameters"]
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise RunError(
                f"{run_dir} was started with {flag(name)} {before.get(name)}, not {now.get(name)}: "
                "--resume continues a run as it was; give the same flags, or another --output-dir"
            )
    check_same_split(run_dir, run, description["split"]["sha256"])


def note_resumed(run_dir: Path, description: dict[str, Any]) -> None:
    """Adds to run.json with what and where the run goes on."""
    run = read_run(run_dir)
    resumed = {name: description[name] for name in ("started", "device", "precision", "versions", "git_commit")}
    _write(run_dir, run | {"resumed": [*run.get("resumed", []), resumed]})


def check_same_split(run_dir: Path, run: dict[str, Any], split_sha256: str) -> None:
    """Raises RunError unless the run saw this train/val split."""
    if run["split"]["sha256"] != split_sha256:
        raise RunError(f"{run_dir} was trained on other data (its split differs): name the same --data-dir as then")
