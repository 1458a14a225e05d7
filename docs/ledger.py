"""Writes the tables of README.md and of docs/ from the files that runs wrote.

    python -m docs.ledger                     the tables
    python -m docs.ledger add RUN_DIR NAME    first takes in a run, or a trial (`--no-test`)

A run enters the ledger as docs/runs/NAME/ with its artifact's metrics.json, config.json and history.csv, a trial as
docs/trials/NAME/ with run.json and history.csv; the bundled model is read where it lies. Only the course report's and
the paper's own numbers are typed here, because they come from print.
"""

import json
import math
import shutil
import sys
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.tables import filled, short
from model.artifact import (
    CONFIG,
    METRICS,
    WEIGHTS,
    Artifact,
    Metrics,
    Pretrained,
    Training,
    read_config,
    read_history,
    read_metrics,
)
from model.hub import BUNDLED
from trainer.config import MACHINE, RECIPES, TrainConfig, as_flag, changed, published
from trainer.data import steps_per_epoch
from trainer.evaluate import wilson_interval
from trainer.run import wall_seconds

DOCS = Path(__file__).resolve().parent
PROJECT = DOCS.parent
BEGIN = "<!-- written by docs/ledger.py -->"

PRINTED = """\
| course report (as reported) | 87.16% | 86.77% | | 50 | | | |
| He et al. 2015, table 6 (as reported) | | 92.49% | | 64,000 steps | | | |
"""
PRINTED_SUMMARY = """\
| [He et al. 2015](https://arxiv.org/abs/1512.03385), as reported | 0.46M | 64,000 steps | 92.49% | two GPUs |
| Course report, as reported | | 50 | 86.77% | |
"""


def runs() -> dict[str, Metrics]:
    """Name -> metrics.json, of `kept`."""
    return {name: run.metrics for name, run in kept().items()}


def kept() -> dict[str, Artifact]:
    """Name -> what is kept, the bundled model first, and not again where the run that it comes from is kept too."""
    bundled = read_kept(BUNDLED)
    found = {folder.name: read_kept(folder) for folder in sorted((DOCS / "runs").glob("*")) if folder.is_dir()}
    found = {name: run for name, run in found.items() if run.config.sha256[WEIGHTS] != bundled.config.sha256[WEIGHTS]}
    return {"bundled model": bundled, **found}


def read_kept(folder: Path) -> Artifact:
    """What the ledger keeps of an artifact. Raises ArtifactError."""
    config = read_config(folder / CONFIG)
    return Artifact(folder, config, read_metrics(folder / METRICS, config))


def header(*names: str) -> str:
    return f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n"


def results_table() -> str:
    rows = "".join(row(name, metrics) for name, metrics in runs().items())
    columns = ("run", "val", "test", "test, 95% interval", "epochs (best)", "minutes", "images/s", "device")
    return header(*columns) + rows + PRINTED


def headline() -> str:
    """The first sentence of the README."""
    metrics = read_kept(BUNDLED).metrics
    return (
        f"Train a ResNet-32 on CIFAR-10 ({metrics.test.accuracy:.1%} test accuracy, "
        f"{metrics.training.parameters / 1e6:.2f}M parameters) and serve it as a web demo.\n"
    )


def summary_table() -> str:
    """For the README: the bundled model with the epochs of all runs that it continues, one run of each recipe, and what
    was printed."""
    bundled, *others = runs().items()
    first = {metrics.training.recipe: (name, metrics) for name, metrics in reversed(others) if is_recipe(metrics)}
    rows = summary_row("**Bundled model**", *bundled)
    rows += "".join(summary_row(f"Recipe `{recipe}`, one run", *first[recipe]) for recipe in RECIPES if recipe in first)
    return header("model", "parameters", "epochs", "test accuracy (95% CI)", "hardware") + rows + PRINTED_SUMMARY


def summary_row(title: str, name: str, metrics: Metrics) -> str:
    training, (low, high), chain = metrics.training, metrics.test.accuracy_interval, chain_of(name)
    total = f"{sum(run.epochs for run in chain)}" + (f", in {len(chain)} runs" if len(chain) > 1 else "")
    devices = "; ".join(dict.fromkeys(run.device for run in chain))
    accuracy = f"{metrics.test.accuracy:.2%} ({low:.2%} to {high:.2%})"
    return f"| {title} | {training.parameters:,} | {total} | {accuracy} | {devices} |\n"


def chain_of(name: str) -> list[Training]:
    """The run, after the kept runs whose weights it continues."""
    by_weights = {run.config.sha256[WEIGHTS]: run.metrics.training for run in kept().values()}
    chain = [kept()[name].metrics.training]
    while chain[0].pretrained and chain[0].pretrained.initial_weights:
        chain.insert(0, by_weights[chain[0].pretrained.initial_weights.sha256])
    return chain


def is_recipe(metrics: Metrics) -> bool:
    """Whether the run is its recipe as that is today, but for length and seed."""
    return changed(metrics.training.hyperparameters).keys() <= LENGTH | {"seed"}


def row(name: str, metrics: Metrics) -> str:
    training, (low, high) = metrics.training, metrics.test.accuracy_interval
    epochs = f"{training.epochs} ({training.best_epoch})"
    planned = planned_epochs(training.hyperparameters, training.split.train)
    if planned != training.epochs:
        epochs += f", stopped early of {planned}"
    return (
        f"| {name}: {recipe_of(training)}, seed {training.seed} | {metrics.val.accuracy:.2%} "
        f"| {metrics.test.accuracy:.2%} | {low:.2%} to {high:.2%} | {epochs} "
        f"| {training.wall_seconds / 60:.0f} | {training.images_per_second:,.0f} | {training.device} |\n"
    )


def planned_epochs(hyperparameters: dict[str, Any], train_images: int) -> int:
    config = TrainConfig.from_hyperparameters(hyperparameters)
    return config.total_epochs(steps_per_epoch(train_images, config.batch_size))


def recipe_of(training: Training) -> str:
    """In words, with the settings that differ from it."""
    flags = flags_of(training.hyperparameters, digests(training.pretrained), LENGTH | {"seed"})
    return f"recipe `{training.recipe}`" + (f" with {' '.join(flags)}" if flags else "")


def digests(pretrained: Pretrained | None) -> dict[str, str]:
    """Setting -> sha256 of the network that a run began with or learned from."""
    networks = vars(pretrained) if pretrained else {}
    return {name: network.sha256 for name, network in networks.items() if network}


def flags_of(hyperparameters: dict[str, Any], sha256: dict[str, str], but: Collection[str] = ()) -> list[str]:
    """The settings that differ from the recipe as it is today; with a network that the run began with or learned from,
    the first digits of its digest."""
    return [
        f"`{as_flag(name, value)}`" + (f" ({sha256[name][:8]})" if name in sha256 else "")
        for name, value in changed(hyperparameters).items()
        if name not in but
    ]


def expectations_table() -> str:
    """Of the recipes as they are."""
    columns = header("recipe", "machine", "epochs", "images/s", "minutes", "test accuracy")
    return columns + "".join(
        f"| `{training.recipe}` | {training.device} | {training.epochs} "
        f"| {training.images_per_second:,.0f} | {training.wall_seconds / 60:.0f} | {accuracy:.2%} |\n"
        for training, accuracy in (
            (metrics.training, metrics.test.accuracy) for metrics in runs().values() if is_recipe(metrics)
        )
    )


def details_table() -> str:
    calibration, flip = "ECE, before and after calibration", "test accuracy with flip TTA"
    rows = "".join(details_row(name, metrics) for name, metrics in runs().items())
    return header("run", "precision", "PyTorch", "commit", calibration, flip) + rows


def details_row(name: str, metrics: Metrics) -> str:
    training, calibration, flip = metrics.training, metrics.test.calibration, metrics.test.flip_tta
    return (
        f"| {name} | {training.precision} | {training.versions['torch']} | {short(training.git_commit)} "
        f"| {calibration.ece_before:.4f}, {calibration.ece_after:.4f} | {flip.accuracy:.2%} |\n"
    )


def seeds_table() -> str:
    """Runs that differ in nothing but the seed are one row; on another device or in another precision another one."""
    groups = defaultdict(list)
    for metrics in runs().values():
        training = metrics.training
        settings = TrainConfig.from_hyperparameters(training.hyperparameters).hyperparameters()
        settings = {name: value for name, value in settings.items() if name not in MACHINE | {"seed"}}
        settings |= {"device": training.device, "precision": training.precision} | digests(training.pretrained)
        groups[json.dumps(settings, sort_keys=True)].append(metrics)
    columns = ("recipe", "epochs", "seeds", "val, mean", "test, mean", "test with flip TTA, mean", "device")
    return header(*columns) + "".join(map(seeds_row, groups.values()))


def seeds_row(group: list[Metrics]) -> str:
    training, seeds = group[0].training, ", ".join(str(m.training.seed) for m in group)
    scores = [[m.val for m in group], [m.test for m in group], [m.test.flip_tta for m in group]]
    means = " | ".join(spread([score.accuracy for score in each]) for each in scores)
    planned = planned_epochs(training.hyperparameters, training.split.train)
    return f"| {recipe_of(training)} | {planned} | {seeds} | {means} | {training.device}, {training.precision} |\n"


def spread(values: list[float]) -> str:
    """Mean and, of several, the standard deviation (n - 1)."""
    return f"{mean(values):.2%}" + (f" +- {100 * stdev(values):.2f}" if len(values) > 1 else "")


RUN, TRIAL = ("metrics.json", "config.json", "history.csv"), ("run.json", "history.csv")
"""Files of each in the ledger."""


def trials() -> dict[str, tuple[dict[str, Any], list[dict[str, float]]]]:
    """Name -> run.json and the rows of history.csv."""
    folders = sorted(f for f in (DOCS / "trials").glob("*") if f.is_dir())
    return {f.name: (json.loads((f / "run.json").read_text()), read_history(f)) for f in folders}


LENGTH = {"max_epochs", "max_steps", "train_images"}
"""Settings that decide how long a run is."""


def trials_table() -> str:
    """In groups of one recipe, length and machine: first the recipe as it is, with any seed, then the changes, best
    first."""
    columns = (
        *("trial", "overrides of its recipe", "epochs", "val", "val, 95% interval", "gain over the recipe, points"),
        *("minutes", "device", "commit"),
    )
    groups = defaultdict(list)
    for name, (run, history) in trials().items():
        config = TrainConfig.from_hyperparameters(run["hyperparameters"])
        length = tuple(str(getattr(config, setting)) for setting in sorted(LENGTH))
        groups[config.recipe, length, run["device"], run["precision"]].append((name, run, history))
    return header(*columns) + "".join("".join(group_rows(group)) for _, group in sorted(groups.items()))


def group_rows(group: list[tuple[str, dict[str, Any], list[dict[str, float]]]]) -> list[str]:
    unchanged = [best_val(history) for _, run, history in group if is_unchanged(run)]
    group = sorted(group, key=lambda trial: (not is_unchanged(trial[1]), -best_val(trial[2])))
    return [trial_row(*trial, unchanged) for trial in group]


def is_unchanged(run: dict[str, Any]) -> bool:
    """Whether it is its recipe, but for length and seed: also with a warm-up that is as many epochs as in the whole."""
    config = TrainConfig.from_hyperparameters(run["hyperparameters"])
    recipe = RECIPES[config.recipe]
    in_epochs = [each.warmup_fraction * each.max_epochs for each in (config, recipe)]
    same_warmup = {"warmup_fraction"} if math.isclose(*in_epochs, rel_tol=0.01) else set()
    return changed(run["hyperparameters"]).keys() <= LENGTH | {"seed"} | same_warmup


def best_val(history: list[dict[str, float]]) -> float:
    return max(row["val_accuracy"] for row in history)


def trial_row(name: str, run: dict[str, Any], history: list[dict[str, float]], unchanged: list[float]) -> str:
    n, best = run["split"]["val"], best_val(history)
    low, high = wilson_interval(round(best * n), n)
    gain = f"{100 * (best - mean(unchanged)):+.2f}" if unchanged and not is_unchanged(run) else ""
    return (
        f"| {name} | {changes(run)} | {len(history)} | {best:.2%} | {low:.2%} to {high:.2%} "
        f"| {gain} | {wall_seconds(run, history) / 60:.0f} | {run['device']} | {short(run['git_commit'])} |\n"
    )


def changes(run: dict[str, Any]) -> str:
    """As flags, against the recipe as it is today."""
    sha256 = {name: facts["sha256"] for name, facts in run.get("pretrained", {}).items()}
    flags = ", ".join(flags_of(run["hyperparameters"], sha256))
    return f"`{run['hyperparameters']['recipe']}`: {flags or 'nothing'}"


def add(run_dir: Path, name: str) -> None:
    """Copies what the ledger needs of a finished run's folder, or of a trial's. SystemExit where it is neither."""
    finished = (run_dir / "artifact").is_dir()
    source, kept = (run_dir / "artifact", RUN) if finished else (run_dir, TRIAL)
    if missing := [file for file in kept if not (source / file).is_file()]:
        raise SystemExit(f"{source} has no {' and no '.join(missing)}")
    history, run = read_history(run_dir), json.loads((run_dir / "run.json").read_text())
    if history[-1]["epoch"] < planned_epochs(run["hyperparameters"], run["split"]["train"]):
        raise SystemExit(f"{run_dir} is not finished")
    if not finished and not run.get("no_test"):
        raise SystemExit(
            f"{run_dir} has no artifact and did not end with --no-test: give its command again with --resume"
        )
    target = DOCS / ("runs" if finished else "trials") / name
    target.mkdir(parents=True, exist_ok=True)
    for file in kept:
        shutil.copy(source / file, target)
    if not finished:  # an artifact's files are fit to be published
        run["hyperparameters"] = published(run["hyperparameters"])
        (target / "run.json").write_text(json.dumps(run, indent=2) + "\n")


def pages() -> dict[Path, str]:
    """Each page that holds tables, with the text it should have."""
    readme, results, training = PROJECT / "README.md", DOCS / "results.md", DOCS / "training.md"
    in_results = (results_table(), seeds_table(), details_table(), trials_table())
    return {
        readme: filled(readme.read_text(), headline(), summary_table(), begin=BEGIN),
        results: filled(results.read_text(), *in_results, begin=BEGIN),
        training: filled(training.read_text(), expectations_table(), begin=BEGIN),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["add"]:
        add(Path(sys.argv[2]), sys.argv[3])
    for path, text in pages().items():
        path.write_text(text)
        print(path.relative_to(PROJECT))
