"""`python -m trainer`: flags in, one function call out.

PyTorch is imported only after the flags are parsed, so that `--help` and mistakes answer at once.
"""

import inspect
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from model import artifact, cifar10
from model.artifact import ArtifactError
from trainer.config import RECIPES, ConfigError, TrainConfig, configure, flag
from trainer.run import RunError, read_run

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder that holds cifar-10-batches-py/, or receives it.  [default: $CIFAR10_DIR, else ./data]"),
]


def settings_as_flags(function: Any) -> Any:
    """Adds a flag for every TrainConfig field to a command that takes **overrides."""
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    for f in fields(TrainConfig):
        if f.name == "recipe":
            continue
        defaults = {name: getattr(recipe, f.name) for name, recipe in RECIPES.items() if recipe.applies(f.name)}
        shown = ", ".join(f"{name} {_words(value)}" for name, value in defaults.items() if value is not None)
        names = [f"{flag(f.name)}/{flag('no_' + f.name)}"] if f.type is bool else []
        option = typer.Option(*names, help=f.metadata["help"] + (f"  [{shown}]" if shown else ""))
        optional = f.type | None
        parameters.append(
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[optional, option]
            )
        )
    function.__signature__ = signature.replace(parameters=parameters)
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@app.callback(invoke_without_command=True)
@settings_as_flags
def train(
    context: typer.Context,
    *,
    recipe: Annotated[
        str, typer.Option(help=f"Named settings: {', '.join(RECIPES)}. Flags below replace single ones.")
    ] = "default",
    data_dir: DataDir = None,
    output_dir: Annotated[Path | None, typer.Option(help="The run's folder.  [default: runs/RECIPE-seedN]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted run in the output folder.")
    ] = False,
    no_test: Annotated[bool, typer.Option("--no-test", help="Stop after val: no test, no artifact.")] = False,
    **overrides: Any,
) -> None:
    """Train a ResNet on CIFAR-10, evaluate it on val and test, export the artifact folder.

    Without flags: the default recipe, on the best device there is, into runs/default-seed0/artifact.
    """
    if context.invoked_subcommand is not None:
        return refuse_flags_before_command(context)
    config = configure(recipe, {name: value for name, value in overrides.items() if value is not None})
    data_dir = cifar10.data_dir(data_dir)
    run_dir = output_dir or Path("runs") / f"{recipe}-seed{config.seed}"
    from trainer.evaluate import summary_table
    from trainer.export import evaluate_on_val
    from trainer.fit import fit

    fit(config, data_dir, run_dir, resume, progress_bar=sys.stdout.isatty())
    if no_test:
        print(summary_table(evaluate_on_val(run_dir, data_dir)))
    else:
        export_and_print(run_dir, data_dir)


def refuse_flags_before_command(context: typer.Context) -> None:
    """`python -m trainer --data-dir D evaluate A` would drop the flag without a word."""
    given = [name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"]
    if given:
        command = context.invoked_subcommand
        raise ConfigError(f"{flag(given[0])} before {command} has no effect: put what belongs to {command} after it")


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(help="The --output-dir of a training run.")], data_dir: DataDir = None
) -> None:
    """Evaluate a run's best checkpoint on val and test and write RUN_DIR/artifact."""
    read_run(run_dir)  # a wrong folder is answered before PyTorch is imported
    export_and_print(run_dir, cifar10.data_dir(data_dir))


def export_and_print(run_dir: Path, data_dir: Path) -> None:
    from trainer.evaluate import summary_table
    from trainer.export import export

    folder = export(run_dir, data_dir)
    print(summary_table(artifact.read(folder).metrics))
    print(f"The artifact lies in {folder}. See it: python app.py --model {folder}")


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="An artifact folder.")], data_dir: DataDir = None
) -> None:
    """Recompute an artifact's val and test metrics; exit code 1 if its own claims differ."""
    metrics = artifact.read(folder).metrics
    from trainer.evaluate import recompute, summary_table

    differences = recompute(folder, cifar10.data_dir(data_dir))
    print(summary_table(metrics))
    if differences:
        print("\n".join(differences), file=sys.stderr)
        sys.exit(1)
    print("Recomputed on val and test: counts are equal, loss and ECE within 1e-4.")


def main() -> None:
    try:
        app()
    except (ConfigError, RunError, ArtifactError, cifar10.DatasetError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
