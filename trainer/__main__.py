"""`python -m trainer`: flags in, one function call out.

PyTorch is imported only after the flags are parsed, so that `--help` and mistakes answer at once; `publish` and
`space` never import it.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("Error: Python 3.11 or newer is needed; this is {}.{}".format(*sys.version_info))

import math
import os
from argparse import SUPPRESS, BooleanOptionalAction
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from model.artifact import ArtifactError
from model.cifar10 import DatasetError
from model.command_line import Parser
from model.hub import HubError
from trainer import commands
from trainer.config import RECIPES, ConfigError, TrainConfig, flag
from trainer.download import Source
from trainer.errors import Interrupted, TrainingError, interrupt_on_signals
from trainer.run import RunError

COMMANDS = {run.__name__: run for run in (commands.export, commands.evaluate, commands.publish, commands.space)}
DATA_DIR = "folder with cifar-10-batches-py/ or cifar-10-hub/; a missing one is downloaded  [$CIFAR10_DIR, else ./data]"


def parsers() -> dict[str, Parser]:
    """Command -> its parser; training has no name."""
    usage = f"python -m trainer [FLAGS]; also python -m trainer {'|'.join(COMMANDS)} ..."
    found = {"": Parser(usage=usage, description=commands.train.__doc__)}
    for name, run in COMMANDS.items():
        found[name] = Parser(prog=f"python -m trainer {name}", description=run.__doc__)
    for name in ("", "export", "evaluate"):
        found[name].add_argument("--data-dir", type=Path, metavar="DIR", help=DATA_DIR)
    for name in ("", "publish", "space"):
        found[name].add_argument("--private", action="store_true", help="create the repository as private")
    for name in ("export", "evaluate"):
        found[name].add_argument("--images", type=Path, metavar="FOLDER", help="where the folder of images is now")
    for name in ("", "export"):
        words = "put sample images and event files into the artifact  [on for CIFAR-10, off for --images]"
        found[name].add_argument("--samples", action=BooleanOptionalAction, help=words)
    found["export"].add_argument("run_dir", type=Path, metavar="RUN_DIR", help="the --output-dir of a training run")
    for name in ("evaluate", "publish"):
        found[name].add_argument("folder", type=Path, metavar="ARTIFACT", help="an artifact folder")
    found["publish"].add_argument("repo", metavar="USER/REPO", help="a model repository of the Hub")
    found["publish"].add_argument("--branch", help="branch, created if it is missing  [main]")
    found["publish"].add_argument("--tag", help="tag for the commit, such as v1")
    found["space"].add_argument("space", metavar="USER/SPACE", help="the Space, created if it is missing")
    found["space"].add_argument("--model", required=True, metavar="USER/REPO", help="the model repository to serve")
    found["space"].add_argument("--revision", help="branch, tag or commit of it  [main]")
    add_training_flags(found[""])
    return found


def add_training_flags(parser: Parser) -> None:
    recipes = f"named hyperparameters: {', '.join(RECIPES)}; flags below override them"
    parser.add_argument("--recipe", default="default", help=recipes)
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="the run's folder  [runs/[FOLDER-]RECIPE-seedN]")
    source = "source of a missing CIFAR-10: its official host, or the copy on the Hub"
    parser.add_argument("--download-from", choices=get_args(Source), default="official", help=source)
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output folder, or start one")
    minutes = "end after the last epoch that fits into so many minutes; --resume goes on"
    parser.add_argument("--max-time", type=float, default=math.inf, metavar="MINUTES", help=minutes)
    no_test = "end after validation: the test set is not read, no artifact is written"
    parser.add_argument("--skip-test", "--no-test", action="store_true", help=no_test)
    push = "publish the artifact to this model repository, created and checked for write access before training"
    parser.add_argument("--push-to-hub", metavar="USER/REPO", help=push)
    for setting in fields(TrainConfig):
        if setting.name != "recipe":
            words = (setting.metadata["help"] + values_in_recipes(setting.name)).replace("%", "%%")
            parser.add_argument(flag(setting.name), default=SUPPRESS, help=words, **flag_of(setting))


def flag_of(setting: Field) -> dict[str, Any]:
    """What argparse is to know of a setting's type."""
    kinds = get_args(setting.type)
    if setting.type is bool:
        return {"action": BooleanOptionalAction}
    if get_origin(setting.type) is Literal:
        return {"choices": kinds, "type": type(kinds[0])}
    if get_origin(setting.type) is tuple:
        return {"nargs": len(kinds), "type": kinds[0], "metavar": "X"}
    kind = kinds[0] if kinds else setting.type  # of "int | None" too
    return {"type": kind, "metavar": {int: "N", float: "X", str: "NAME"}[kind]}


def values_in_recipes(name: str) -> str:
    """The setting's value in each recipe where it has a meaning, or once where all agree or it has one in none."""
    values = {recipe: getattr(config, name) for recipe, config in RECIPES.items() if config.applies(name)}
    values = values or {recipe: getattr(config, name) for recipe, config in RECIPES.items()}
    words = {recipe: in_words(value) for recipe, value in values.items() if value is not None}
    if len(words) == len(RECIPES) and len(set(words.values())) == 1:
        return f"  [{words['default']}]"
    return "  [" + ", ".join(f"{recipe} {value}" for recipe, value in words.items()) + "]" if words else ""


def in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def call(argv: list[str]) -> None:
    """The command that `argv` names, or a training."""
    name = argv[0] if argv and argv[0] in COMMANDS else ""
    args = parsers()[name].parse_args(argv[1:] if name else argv)
    COMMANDS.get(name, commands.train)(args)


def run(argv: list[str]) -> int:
    """Its exit code; what went wrong is printed in a sentence."""
    try:
        call(argv)
    except (ConfigError, RunError, ArtifactError, DatasetError, TrainingError, HubError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1 if isinstance(error, TrainingError | HubError) else 2
    except MemoryError as error:
        print(f"Error: this machine has too little free memory ({error})", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        if commands.is_first_process():
            print(f"Stopped: {interrupted}.", file=sys.stderr)
        return interrupted.exit_code
    return 0


def main() -> None:
    interrupt_on_signals()
    if code := run(sys.argv[1:]):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # not sys.exit, which would wait for the threads in which the Hub's client uploads


if __name__ == "__main__":
    main()
