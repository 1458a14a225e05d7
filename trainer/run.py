"""What a run folder says about its run: run.json, written before the first step, train.log, and who is at work."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import Timeout

from model.lock import lock
from trainer.config import PRETRAINED, ConfigError, TrainConfig, flag, unknown

UNREADABLE = "unreadable.txt"
RUN, LOG, LOCK = "run.json", "train.log", "lock"

log = logging.getLogger("trainer")
log.setLevel(logging.INFO)
log.propagate = False  # what people shall see is printed
log.addHandler(logging.NullHandler())


class RunError(ValueError):
    """The output folder cannot be used as asked; the message says what to do."""


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Creates the folder, and keeps every other process out that asks the same, however this one ends. Raises RunError
    where one is in it."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        held = lock(run_dir / LOCK, timeout=0)
    except Timeout:
        raise RunError(f"another trainer works in {run_dir}: wait for it, or choose another --output-dir") from None
    except OSError as error:
        raise _unwritable(run_dir, error) from None
    with held:
        yield


class RunLog(logging.FileHandler):
    """RUN_DIR/train.log, whose faults end no run."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def log_to_file(run_dir: Path) -> Iterator[None]:
    """What `log_and_print` prints, how the run ends and Lightning's messages go to RUN_DIR/train.log, with the time.

    A log that cannot be written ends no run. Raises RunError if it cannot be opened.
    """
    try:
        handler = RunLog(run_dir / LOG, encoding="utf-8")
    except OSError as error:
        raise _unwritable(run_dir, error) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    loggers = [log, logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.fabric")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()


def log_and_print(line: str) -> None:
    """Prints a line, above a progress bar if there is one, and logs it."""
    from tqdm import tqdm  # comes with Lightning; not at the top, so that --help needs nothing

    tqdm.write(line)
    log.info(line)


def start_run(run_dir: Path, description: dict[str, Any]) -> None:
    """Writes run.json. Raises RunError where a run lies already or nothing can be written."""
    check_unused(run_dir)
    _write(run_dir, description)


def check_unused(run_dir: Path) -> None:
    """Raises RunError where a run lies already."""
    if (run_dir / RUN).exists():
        raise RunError(f"{run_dir} already holds a run: add --resume to continue it, or choose another --output-dir")


def _unwritable(run_dir: Path, error: OSError) -> RunError:
    return RunError(f"{run_dir} cannot be written ({error.strerror}): choose another --output-dir")


def _write(run_dir: Path, description: dict[str, Any]) -> None:
    try:
        temporary = run_dir / f"{RUN}.tmp"
        temporary.write_text(json.dumps(description, indent=2) + "\n")
        os.replace(temporary, run_dir / RUN)
    except OSError as error:
        raise _unwritable(run_dir, error) from None


def read_run(run_dir: Path) -> dict[str, Any]:
    """What `start_run` wrote. Raises RunError if there is none."""
    try:
        return json.loads((run_dir / RUN).read_text())
    except ValueError:
        raise RunError(f"{run_dir / RUN} is damaged: train again, with another --output-dir") from None
    except OSError:
        raise RunError(f"{run_dir} holds no run (no readable {RUN}): name the --output-dir of a training run") from None


def config_of(run_dir: Path, run: dict[str, Any]) -> TrainConfig:
    """The run's config; settings that are younger than the run have their defaults, those that are gone are left out.
    Raises RunError."""
    try:
        return TrainConfig.from_hyperparameters(run["hyperparameters"])
    except ConfigError as error:
        raise RunError(f"{run_dir / RUN} was written by another version of this program: {error}") from None


def check_same_run(run_dir: Path, description: dict[str, Any]) -> None:
    """Raises RunError unless the run in `run_dir` has the settings and the split of `description`."""
    run = read_run(run_dir)
    before, now = config_of(run_dir, run).hyperparameters(), description["hyperparameters"]
    if gone := unknown(run["hyperparameters"]):
        raise RunError(f"{run_dir} was started with {flag(gone[0])}, which is no longer there: train again")
    if None not in (before.get("images"), now.get("images")):  # settings may follow from their number
        check_same_split(run_dir, run, description["split"]["sha256"])
    for name in sorted(before.keys() | now.keys()):
        if name in (*PRETRAINED, "images") and None not in (before.get(name), now.get(name)):
            continue  # another machine may have the same elsewhere: digests decide, below
        if before.get(name) != now.get(name):
            raise RunError(
                f"{run_dir} was started with {flag(name)} {before.get(name)}, not {now.get(name)}: "
                "--resume continues a run as it was; give the same flags, or another --output-dir"
            )
    check_same_split(run_dir, run, description["split"]["sha256"])
    for name, facts in description["pretrained"].items():
        if run["pretrained"][name]["sha256"] != facts["sha256"]:
            raise RunError(
                f"{run_dir} was started with another network as {flag(name)} {now[name]}: it has changed since"
            )


def note_resumed(run_dir: Path, description: dict[str, Any]) -> None:
    """Adds to run.json with what and where the run goes on."""
    run = read_run(run_dir)
    resumed = {name: description[name] for name in ("started", "device", "precision", "versions", "git_commit")}
    _write(run_dir, run | {"resumed": [*run.get("resumed", []), resumed]})


def note_usage(run_dir: Path, seconds: float, host: int | None, device: int | None) -> None:
    """Adds what an attempt used to run.json, as far as that can be written: seconds of Lightning's fit, all included,
    summed over the attempts; the highest use of memory in bytes by the first process of any."""
    run = read_run(run_dir)
    before = run.get("peak_memory_bytes", {"host": None, "device": None})
    peaks = {"host": max(before["host"] or 0, host or 0), "device": max(before["device"] or 0, device or 0)}
    used = {
        "fit_seconds": round(run.get("fit_seconds", 0) + seconds, 1),
        "peak_memory_bytes": {name: value or None for name, value in peaks.items()},
    }
    with suppress(RunError):
        _write(run_dir, run | used)


def wall_seconds(run: dict[str, Any], history: list[dict[str, float]]) -> float:
    """Of a training with everything around its epochs, from run.json and history.csv.

    An attempt that was killed left its epochs' alone.
    """
    return max(run.get("fit_seconds", 0.0), sum(row["seconds"] for row in history))


def note_no_test(run_dir: Path, no_test: bool) -> None:
    """Adds to run.json: true where the run ended, as was asked for, before the test set; false before that is read.
    Raises RunError."""
    _write(run_dir, read_run(run_dir) | {"no_test": no_test})


def check_test_is_unread(run_dir: Path) -> None:
    """Raises RunError where the run has read the test set: none may say of it afterwards that it did not."""
    read = (run_dir / RUN).exists() and read_run(run_dir).get("no_test") is False
    if read or (run_dir / "artifact").exists():
        raise RunError(f"{run_dir} has read the test set already: leave out --skip-test, or take another --output-dir")


def check_same_split(run_dir: Path, run: dict[str, Any], split_sha256: str) -> None:
    """Raises RunError unless the run saw this train/val split."""
    if run["split"]["sha256"] != split_sha256:
        raise RunError(f"{run_dir} was trained on other data (its split differs): name the same folder of it as then")
