"""The file that `python -m trainer sweep` trains: UTF-8 text, one run per line, NAME FLAGS..., quoted as in a shell.

    plain
    ema      --ema-decay 0.99
    ema-1    --ema-decay 0.99 --seed 1   # the second of two seeds

# begins a comment. A run gets the flags of every run, then those of its line. Names and settings are checked before
anything starts.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from trainer.config import ConfigError, TrainConfig, configure, flag
from trainer.run import LOCK

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
OWN_FILES = (".json", ".log", ".tmp")

PUBLISH = "publishing is a step of its own: `python -m trainer publish DIR/NAME/artifact USER/REPO`"
NOT_IN_A_SWEEP = {
    "output_dir": "a run's folder is DIR/NAME",
    "resume": "the sweep adds it where a run goes on",
    "push_to_hub": PUBLISH,
    "private": PUBLISH,
}
ONLY_FOR_ALL = dict.fromkeys(("data_dir", "download_from"), "all runs share it, so it belongs after --")

Parser = Callable[[list[str]], dict[str, Any]]
"""The flags of a training -> the parameters they set. Raises ConfigError."""


def read_runs(runs_file: Path, common: list[str], parse: Parser) -> dict[str, list[str]]:
    """Name -> all flags of the run. Raises ConfigError with the number of the line."""
    try:
        lines = runs_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{runs_file} cannot be read ({reason}): name a file with one run per line") from None
    try:
        refuse(parse(common), NOT_IN_A_SWEEP)
    except ConfigError as error:
        raise ConfigError(f"in the flags for every run: {error}") from None
    runs = {}
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
            if words:
                check_name(words[0], runs)
                check_flags(words[1:], common, parse)
                runs[words[0]] = [*common, *words[1:]]
        except ValueError as error:  # shlex's, and ConfigError, which is one
            raise ConfigError(f"{runs_file}, line {number}: {error}") from None
    if not runs:
        raise ConfigError(f"{runs_file} names no run: write one per line, NAME FLAGS...")
    return runs


def check_name(name: str, runs: dict[str, list[str]]) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a run: a line begins with one, of letters, digits, -, _ and ., the first of them "
            "neither - nor ."
        )
    if name == LOCK or name.endswith(OWN_FILES):
        raise ConfigError(f"{name!r} is no name for a run: {LOCK} and {', '.join(OWN_FILES)} files are the sweep's own")
    if name in runs:
        raise ConfigError(f"{name} is the name of a run above: each needs its own")


def check_flags(own: list[str], common: list[str], parse: Parser) -> None:
    refuse(parse(own), NOT_IN_A_SWEEP | ONLY_FOR_ALL)
    config_by([*common, *own], parse)


def config_by(flags: list[str], parse: Parser) -> TrainConfig:
    """That a run with all these flags is trained by. Raises ConfigError."""
    given = parse(flags)
    settings = {f.name: given[f.name] for f in fields(TrainConfig) if f.name in given}
    return configure(settings.pop("recipe", "default"), settings)


def refuse(given: dict[str, Any], reasons: dict[str, str]) -> None:
    for name in given:
        if name in reasons:
            raise ConfigError(f"{flag(name)} has no place here: {reasons[name]}")
