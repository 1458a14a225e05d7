"""`python -m trainer sweep`: the runs of a file, several at once on one device; stopped, the same command goes on.

trainer/runs_file.py says what the file holds. Each run is a `python -m trainer` in a process of its own.

DIR/sweep.json   name -> "flags", "exit_code" (null until the run ended by itself), "seconds" over all calls
DIR/NAME/        the run's --output-dir
DIR/NAME.log     what it printed, in all calls
DIR/lock         keeps a second sweep out

A sweep that is killed (SIGKILL, a terminal that closes) leaves its runs at work. Each holds the lock of its own folder:
the next call cannot go on with such a run and counts it as failed, a call after its end picks it up.
"""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from model import cifar10
from model.artifact import ArtifactError, read_history
from trainer.config import ConfigError, flag
from trainer.download import download_if_missing
from trainer.run import RUN, RunError, at_work_in, config_of, read_run
from trainer.runs_file import ONLY_FOR_ALL, Parser, config_by, read_runs
from trainer.stops import SIGNALS, Interrupted, TrainingError

STATE = "sweep.json"
TRAINER = (sys.executable, "-m", "trainer")
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_STOP = 45
"""A run that is told to stop finishes its step and writes a checkpoint. After so long it is killed."""

STOPPED = {128 + 15, -15, -9} if os.name == "posix" else {1}
"""Exit codes of a run that terminate() or kill() ended: the trainer's own, or the system's. Windows has one for all."""


@dataclass(frozen=True)
class Record:
    """What sweep.json holds of a run."""

    flags: list[str]
    exit_code: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Sweep:
    """`runs`: name -> all flags, in the order of the file. `records` is kept up to date while they train."""

    folder: Path
    runs: dict[str, list[str]]
    records: dict[str, Record]
    command: tuple[str, ...]

    def unfinished(self) -> list[str]:
        return [name for name in self.runs if name not in self.records or self.records[name].exit_code != 0]


def sweep(
    runs_file: Path,
    folder: Path,
    common: list[str],
    at_once: int,
    minutes: float | None,
    parse: Parser,
    command: tuple[str, ...] = TRAINER,
) -> None:
    """Trains the runs of the file that are not finished. `common`: flags for every run; `command`: starts a training.

    Raises ConfigError, RunError or DatasetError before anything starts; TrainingError where a run failed, and
    Interrupted, after all have ended.
    """
    if at_once < 1:
        raise ConfigError(f"--at-once is {at_once}; it must be 1 or more")
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"--minutes is {minutes:g}; it must be a positive number")
    began = monotonic()
    runs = read_runs(runs_file, common, parse)
    with at_work_in(folder):
        work = Sweep(folder, runs, read_records(folder), command)
        check_finished(work, parse)
        if work.unfinished():
            given = parse(common)
            download_if_missing(cifar10.data_dir(given.get("data_dir")), given.get("download_from", "official"))
        epochs_before = {name: len(epochs(folder / name)) for name in runs}
        received = train_all(work, at_once, began + 60 * minutes if minutes else math.inf)
        print(table(work))
        print(throughput(folder, epochs_before, monotonic() - began), flush=True)
    conclude(work, received, minutes)


def conclude(work: Sweep, received: list[int], minutes: float | None) -> None:
    """Says how the call ended, by an exception where that is not well."""
    if received:
        interrupted = Interrupted(received[0])
        interrupted.args = (f"{interrupted}. The same command goes on from here",)
        raise interrupted
    codes = {name: work.records[name].exit_code for name in work.unfinished() if name in work.records}
    failed = [f"{name} (exit code {code})" for name, code in codes.items() if code is not None]
    if len(failed) < len(work.unfinished()):
        print(f"{minutes:g} minutes are over: the same command goes on from here.", flush=True)
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(work.runs)} runs failed: {', '.join(failed)}. {work.folder / 'NAME.log'} says why; "
            "the same command tries them again"
        )


def read_records(folder: Path) -> dict[str, Record]:
    """What `write_records` wrote; nothing before the first call. Raises RunError where it is damaged."""
    path = folder / STATE
    if not path.exists():
        return {}
    try:
        records = {name: Record(**record) for name, record in json.loads(path.read_text(encoding="utf-8")).items()}
        intact = all(map(is_valid, records.values()))
    except (OSError, ValueError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise RunError(f"{path} is damaged: delete it, and every run goes on from what its own folder holds")
    return records


def is_valid(record: Record) -> bool:
    flags_are_words = isinstance(record.flags, list) and all(isinstance(word, str) for word in record.flags)
    return flags_are_words and isinstance(record.exit_code, int | None) and isinstance(record.seconds, int | float)


def write_records(work: Sweep) -> None:
    temporary = work.folder / f"{STATE}.tmp"
    values = {name: asdict(record) for name, record in work.records.items()}
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, work.folder / STATE)


def check_finished(work: Sweep, parse: Parser) -> None:
    """Raises ConfigError where a run that is finished has other settings now, by its flags or because its recipe has
    changed; RunError where another version of this program trained it. The data may lie elsewhere."""

    def settings(flags: list[str]) -> dict[str, Any]:
        return {name: value for name, value in parse(flags).items() if name not in ONLY_FOR_ALL}

    for name, flags in work.runs.items():
        record = work.records.get(name)
        if record is None or record.exit_code != 0:
            continue
        if settings(record.flags) != settings(flags):
            before = shlex.join(record.flags) or "none"
            raise ConfigError(f"{name} was finished with other flags ({before}): take another name or --output-dir")
        run_dir = work.folder / name
        if not (run_dir / RUN).exists():
            continue
        before, now = config_of(run_dir, read_run(run_dir)).hyperparameters(), config_by(flags, parse).hyperparameters()
        for setting in sorted(before.keys() | now.keys()):
            if before.get(setting) != now.get(setting):
                raise ConfigError(
                    f"{name} was finished with {flag(setting)} {before.get(setting)}, which its recipe had then, not "
                    f"{now.get(setting)}: take another name or --output-dir"
                )


def train_all(work: Sweep, at_once: int, deadline: float) -> list[int]:
    """Trains until all have ended; none outlives this function. Returns the signals that came meanwhile.

    After the first, or at the deadline, the runs at work are told to stop and none starts; a second kills them, and so
    does their not stopping in time.
    Raises TrainingError where the operating system lets it start or record nothing.
    """
    waiting, running, stopping, kill_at = work.unfinished(), {}, False, math.inf
    environment = os.environ | environment_of_runs(at_once)
    try:
        with noted_signals() as received:
            while running or (waiting and not stopping):
                for name in [name for name, (process, _) in running.items() if process.poll() is not None]:
                    note_end(work, name, *running.pop(name), stopping)
                if not stopping and (received or monotonic() >= deadline):
                    stopping, kill_at = True, monotonic() + SECONDS_TO_STOP
                    for process, _ in running.values():
                        process.terminate()
                if len(received) > 1 or monotonic() >= kill_at:
                    for process, _ in running.values():
                        kill(process)
                while waiting and not stopping and len(running) < at_once:
                    name = waiting.pop(0)
                    running[name] = start(work, name, environment), monotonic()
                sleep(SECONDS_BETWEEN_LOOKS)
    except OSError as error:
        raise TrainingError(f"the operating system refused something to the sweep ({error})") from error
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
    return received


def kill(process: subprocess.Popen) -> None:
    """With the processes that it started itself, such as those of --devices 2."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are appended to the list and do nothing else: none cuts the start of a process in two."""
    received: list[int] = []
    before = {signum: signal.signal(signum, lambda signum, _: received.append(signum)) for signum in SIGNALS}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def environment_of_runs(at_once: int) -> dict[str, str]:
    """Runs at once share the cores: each with a thread per core, they would stall each other."""
    added = {"PYTHONUNBUFFERED": "1"}  # a log that grows line by line
    if at_once > 1 and "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        added["OMP_NUM_THREADS"] = share = str(max(1, cores // at_once))
        added["TORCHINDUCTOR_COMPILE_THREADS"] = os.environ.get("TORCHINDUCTOR_COMPILE_THREADS", share)
    return added


def start(work: Sweep, name: str, environment: dict[str, str]) -> subprocess.Popen:
    """In a session of its own: Ctrl-C in a terminal reaches it through the sweep alone."""
    run_dir, flags = work.folder / name, work.runs[name]
    resume = (run_dir / RUN).exists()
    work.records[name] = Record(flags, seconds=work.records[name].seconds if name in work.records else 0.0)
    write_records(work)
    print(f"{name} goes on{progress(run_dir)}" if resume else f"{name} starts", flush=True)
    with (work.folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [*work.command, "--output-dir", str(run_dir), *["--resume"] * resume, *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=os.name == "posix",
        )


def note_end(work: Sweep, name: str, process: subprocess.Popen, since: float, stopping: bool) -> None:
    code, seconds, before = process.returncode, monotonic() - since, work.records[name]
    exit_code = None if stopping and code in STOPPED else code
    work.records[name] = Record(before.flags, exit_code, round(before.seconds + seconds, 1))
    write_records(work)
    log = f", see {work.folder / name}.log" if exit_code else ""
    done = f"{state(work.records[name])} after {seconds / 60:.1f} minutes{progress(work.folder / name)}"
    print(f"{name} {done}{log}", flush=True)


def state(record: Record | None) -> str:
    if record is None:
        return "waiting"
    return {None: "stopped", 0: "done"}.get(record.exit_code, f"failed with exit code {record.exit_code}")


def epochs(run_dir: Path) -> list[dict[str, float]]:
    """The rows of history.csv; none before the first epoch has ended."""
    try:
        return read_history(run_dir)
    except ArtifactError:
        return []


def best_epoch(history: list[dict[str, float]]) -> dict[str, float]:
    return max(history, key=lambda row: row["val_accuracy"])  # the first of equals, as best.ckpt is


def progress(run_dir: Path) -> str:
    history = epochs(run_dir)
    return f", epoch {len(history)}, best val accuracy {best_epoch(history)['val_accuracy']:.2%}" if history else ""


def table(work: Sweep) -> str:
    """All runs of the file with their state, a line for each."""
    width = max(map(len, ("run", *work.runs)))
    lines = [f"{'run':<{width}}  {'state':<26} epochs  best val acc  in epoch   seconds  images/s"]
    for name in work.runs:
        record, history = work.records.get(name), epochs(work.folder / name)
        accuracy = epoch = speed = ""
        if history:
            best = best_epoch(history)
            accuracy, epoch = f"{best['val_accuracy']:.2%}", f"{best['epoch']:.0f}"
            speed = f"{history[-1]['images_per_second']:,.0f}"
        seconds = f"{record.seconds if record else 0:,.0f}"
        numbers = f"{len(history):>7}{accuracy:>14}{epoch:>10}{seconds:>10}{speed:>10}"
        lines.append(f"{name:<{width}}  {state(record):<26}{numbers}".rstrip())
    return "\n".join(lines)


def throughput(folder: Path, epochs_before: dict[str, int], seconds: float) -> str:
    """Images per second of all runs together, from the epochs that ended in this call."""
    images = 0
    for name, before in epochs_before.items():
        if (new := len(epochs(folder / name)) - before) > 0:
            images += new * read_run(folder / name)["split"]["train"]
    return f"All runs together: {images:,} images of whole epochs in {seconds:,.0f} s, {images / seconds:,.0f} images/s"
