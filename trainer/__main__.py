"""`python -m trainer`: flags in, one function call out.

PyTorch is imported only after the flags are parsed, so that `--help` and mistakes answer at once; `publish` and
`space` never import it.
"""

import inspect
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import Field, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from model import artifact, cifar10
from model.artifact import ArtifactError
from model.hub import HubError, call_is_running
from trainer.config import RECIPES, ConfigError, TrainConfig, configure, flag, torchrun_devices
from trainer.download import Source, download_if_missing
from trainer.run import RUN, RunError, at_work_in, check_test_is_unread, check_unused, note_no_test, read_run
from trainer.stops import Interrupted, TrainingError, interrupt_on_signals

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Branch = Annotated[str | None, typer.Option(help="Branch, created if it is missing.  [default: main]")]
Tag = Annotated[str | None, typer.Option(help="Tag for the commit, such as v1.")]
Private = Annotated[bool, typer.Option("--private", help="Create the repository as private.")]

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder with cifar-10-batches-py/ or cifar-10-hub/; a missing one is downloaded.  "
        "[default: $CIFAR10_DIR, else ./data]"
    ),
]


def settings_as_flags(function: Callable[..., None]) -> type:
    """A command that takes **overrides, with a flag for every TrainConfig field instead of them.

    It is a dataclass, whose parameters Typer reads like those of a function; making an instance calls the function.
    """
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    own = [(p.name, p.annotation, field() if p.default is p.empty else field(default=p.default)) for p in parameters]
    settings = [(f.name, _flag_of(f), field(default=None)) for f in fields(TrainConfig) if f.name != "recipe"]

    def call(self: Any) -> None:
        function(**vars(self))

    members = {"__post_init__": call, "__doc__": function.__doc__}
    return make_dataclass(function.__name__, [*own, *settings], namespace=members, kw_only=True)


def _flag_of(setting: Field) -> Any:
    """Its annotation for Typer."""
    names = [f"{flag(setting.name)}/{flag('no_' + setting.name)}"] if setting.type is bool else []
    return Annotated[setting.type | None, typer.Option(*names, help=setting.metadata["help"] + _defaults(setting.name))]


def _defaults(name: str) -> str:
    """The setting's value in each recipe where it has a meaning, or once where all agree or it has one in none."""
    values = {recipe: getattr(config, name) for recipe, config in RECIPES.items() if config.applies(name)}
    values = values or {recipe: getattr(config, name) for recipe, config in RECIPES.items()}
    words = {recipe: _words(value) for recipe, value in values.items() if value is not None}
    if len(words) == len(RECIPES) and len(set(words.values())) == 1:
        return f"  [{words['default']}]"
    return "  [" + ", ".join(f"{recipe} {value}" for recipe, value in words.items()) + "]" if words else ""


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@app.callback(invoke_without_command=True)
@settings_as_flags
def train(
    context: typer.Context,
    *,
    recipe: Annotated[
        str, typer.Option(help=f"Named hyperparameters: {', '.join(RECIPES)}. Flags below override them.")
    ] = "default",
    data_dir: DataDir = None,
    output_dir: Annotated[Path | None, typer.Option(help="The run's folder.  [default: runs/RECIPE-seedN]")] = None,
    download_from: Annotated[
        Source, typer.Option(help="Source of a missing CIFAR-10: its official host, or the copy on the Hub.")
    ] = "official",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted run in the output folder.")
    ] = False,
    no_test: Annotated[
        bool, typer.Option("--no-test", help="End after validation: the test set is not read, no artifact is written.")
    ] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="USER/REPO",
            help="Publish the artifact to this model repository, created and checked for write access before training.",
        ),
    ] = None,
    private: Private = False,
    **overrides: Any,
) -> None:
    """Train a ResNet on CIFAR-10, evaluate it on val and test, export the artifact folder.

    Without flags: the default recipe, on the best available device, into runs/default-seed0/artifact.
    """
    if context.invoked_subcommand is not None:
        return refuse_flags_before_command(context)
    given = {name: value for name, value in overrides.items() if value is not None}
    config = configure(recipe, given | torchrun_devices(os.environ, given))
    data_dir = cifar10.data_dir(data_dir)
    run_dir = output_dir or Path("runs") / f"{recipe}-seed{config.seed}"
    check_flags(push_to_hub, private, no_test)
    if is_first_process():  # another one may come when the first has begun the run
        if not resume and (run_dir / RUN).exists():
            with at_work_in(run_dir):  # a process that is at work there is told first
                check_unused(run_dir)
        if no_test:
            check_test_is_unread(run_dir)
        if push_to_hub:  # what would make the push fail in the end fails before the training
            from trainer.publish import open_repo

            open_repo(push_to_hub, private=private)
    download_if_missing(data_dir, download_from)
    from trainer.evaluate import summary_table
    from trainer.export import evaluate_on_val
    from trainer.fit import fit

    try:
        if not fit(config, data_dir, run_dir, resume, progress_bar=sys.stdout.isatty()):
            return  # one of several processes, not the first
        if no_test:
            print(summary_table({"val": evaluate_on_val(run_dir, data_dir)}))
            note_no_test(run_dir, True)
        else:
            folder = export_and_print(run_dir, data_dir)
            if push_to_hub:
                publish_and_print(folder, push_to_hub, private=private)
    except Interrupted as interrupted:
        if (run_dir / RUN).exists():
            interrupted.args = (f"{interrupted}. To continue, repeat the command with --resume",)
        raise


def check_flags(push_to_hub: str | None, private: bool, no_test: bool) -> None:
    """Raises ConfigError where one of the flags has no effect."""
    if private and push_to_hub is None:
        raise ConfigError("--private has no effect without --push-to-hub: leave it out or add --push-to-hub")
    if no_test and push_to_hub is not None:
        raise ConfigError("--push-to-hub has no effect with --no-test, which makes no artifact: leave out one of them")


def is_first_process() -> bool:
    """Of those that train together, however they were started: torchrun, Lightning, one per machine, Slurm."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def publish_and_print(
    folder: Path, repo: str, branch: str | None = None, tag: str | None = None, private: bool = False
) -> None:
    from trainer.publish import publish

    try:
        done = publish(folder, repo, branch, tag, private)
    except HubError as error:
        flags = ["--branch", branch] * bool(branch) + ["--tag", tag] * bool(tag) + ["--private"] * private
        again = shlex.join(["python", "-m", "trainer", "publish", str(folder), repo, *flags])
        raise HubError(f"{error} {folder} is unchanged; to try again: {again}") from error
    print(f"Published: {done.url} (commit {done.sha})")


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
    """Write RUN_DIR/artifact from a run's best checkpoint, evaluated on val and test."""
    read_run(run_dir)  # a wrong folder is answered before PyTorch is imported
    export_and_print(run_dir, cifar10.data_dir(data_dir))


def export_and_print(run_dir: Path, data_dir: Path) -> Path:
    from trainer.evaluate import summary_table
    from trainer.export import export

    with at_work_in(run_dir):
        try:
            folder = export(run_dir, data_dir)
        except OSError as error:
            raise TrainingError(f"the artifact could not be written ({error}): try `export {run_dir}` again") from error
    metrics = artifact.read(folder).metrics
    print(summary_table({"val": metrics.val, "test": metrics.test}))
    print(f"Artifact: {folder}. To serve it: python app.py --model {folder}")
    return folder


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="An artifact folder.")], data_dir: DataDir = None
) -> None:
    """Recompute an artifact's metrics; exit code 1 if they differ."""
    metrics = artifact.read(folder).metrics
    from trainer.evaluate import recompute, summary_table

    differences = recompute(folder, cifar10.data_dir(data_dir))
    print(summary_table({"val": metrics.val, "test": metrics.test}))
    if differences:
        print("\n".join(differences), file=sys.stderr)
        sys.exit(1)
    print(
        "Recomputed on val and test: counts are equal; losses, intervals and calibration errors agree within rounding."
    )


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="An artifact folder.")],
    repo: Annotated[str, typer.Argument(metavar="USER/REPO", help="A model repository of the Hub.")],
    branch: Branch = None,
    tag: Tag = None,
    private: Private = False,
) -> None:
    """Push an artifact folder to the Hugging Face Hub, in one commit. Needs HF_TOKEN or a login."""
    publish_and_print(folder, repo, branch, tag, private)


@app.command()
def space(
    space: Annotated[str, typer.Argument(metavar="USER/SPACE", help="The Space, created if it is missing.")],
    model: Annotated[str, typer.Option(metavar="USER/REPO", help="The model repository to serve.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of it.  [default: main]")] = None,
    private: Private = False,
) -> None:
    """Host the page as a Hugging Face Space that serves a published model. Needs HF_TOKEN or a login."""
    from trainer.space import create_space

    done = create_space(space, model, revision, private)
    print(f"The page is being built: {done.url.split('/commit/')[0]} (commit {done.sha})")


def main() -> None:
    interrupt_on_signals()
    try:
        app()
    except (ConfigError, RunError, ArtifactError, cifar10.DatasetError) as error:
        print(f"Error: {error}", file=sys.stderr)
        leave(2)
    except (TrainingError, HubError) as error:
        print(f"Error: {error}", file=sys.stderr)
        leave(1)
    except Interrupted as interrupted:
        print(f"Stopped: {interrupted}.", file=sys.stderr)
        leave(interrupted.exit_code)


def leave(exit_code: int) -> None:
    """Ends the process. Python would first wait for the threads in which the Hub's client uploads: for ever, where an
    upload that was given up hangs."""
    if call_is_running():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
