"""Writes the tables of README.md and docs/results.md from the files that runs wrote.

    python -m experiments.ledger                     the tables
    python -m experiments.ledger add RUN_DIR NAME    first takes in a run, or a trial (a run with `--skip-test`)

A run enters the ledger as experiments/runs/NAME/ with its artifact's metrics.json, config.json and history.csv, a trial
as experiments/trials/NAME/ with run.json and history.csv; the bundled model is read where it lies.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.tables import filled, short, table
from model import cifar10
from model.artifact import CONFIG, METRICS, WEIGHTS, read_history
from model.command_line import Parser
from model.hub import BUNDLED
from trainer.config import RECIPES, TrainConfig, as_flag, changed, published
from trainer.data import steps_per_epoch
from trainer.evaluate import wilson_interval
from trainer.run import wall_seconds

EXPERIMENTS = Path(__file__).resolve().parent
PROJECT = EXPERIMENTS.parent
BEGIN = "<!-- written by experiments/ledger.py -->"

RUN_FILES, TRIAL_FILES = (METRICS, CONFIG, "history.csv"), ("run.json", "history.csv")

LENGTH = {"max_epochs", "max_steps", "train_images"}
"""Settings that decide how long a run is."""

HE_ET_AL = "[He et al. 2015](https://arxiv.org/abs/1512.03385), as reported"
PUBLISHED = [
    [HE_ET_AL, "0.46M", "64,000 steps", "", f"{cifar10.PUBLISHED['he-et-al']:.2%}", "2 GPUs"],
    ["Course report, as reported", "", "50", *(f"{cifar10.PUBLISHED[of]:.2%}" for of in ("report-val", "report")), ""],
]
"""Name, parameters, epochs, accuracy on val and on test, hardware."""


@dataclass(frozen=True)
class Entry:
    """What is kept of a run or trial. `run`: its settings and where it ran; a trial has no `metrics` (metrics.json) and
    no `weights` (sha256 of the network's file)."""

    name: str
    run: dict[str, Any]
    history: list[dict[str, float]]
    metrics: dict[str, Any] | None = None
    weights: str | None = None

    @property
    def recipe(self) -> str:
        return self.run["hyperparameters"]["recipe"]

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that differ from the recipe as it is today."""
        return changed(self.run["hyperparameters"])

    @property
    def networks(self) -> dict[str, str]:
        """Setting -> sha256 of the network that the run began with or learned from."""
        return {name: facts["sha256"] for name, facts in (self.run.get("pretrained") or {}).items() if facts}

    @property
    def flags(self) -> str:
        """`changed`, with the first digits of each network's sha256."""
        digits = {name: f" ({sha256[:8]})" for name, sha256 in self.networks.items()}
        return " ".join(f"`{as_flag(name, value)}`{digits.get(name, '')}" for name, value in self.changed.items())

    @property
    def is_recipe(self) -> bool:
        """Whether it is its recipe as that is today, but for length and seed."""
        return self.changed.keys() <= LENGTH | {"seed"}

    @property
    def best(self) -> float:
        """The highest accuracy on val of an epoch."""
        return max(row["val_accuracy"] for row in self.history)


def load(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def read_runs() -> list[Entry]:
    """The bundled model, and all kept runs but the one that it comes from."""
    found = []
    for folder in (BUNDLED, *sorted((EXPERIMENTS / "runs").iterdir())):
        metrics, weights = load(folder / METRICS), load(folder / CONFIG)["sha256"][WEIGHTS]
        name = "bundled" if folder == BUNDLED else folder.name
        if not found or weights != found[0].weights:
            found.append(Entry(name, metrics["training"], read_history(folder), metrics, weights))
    return found


def read_trials() -> list[Entry]:
    folders = sorted((EXPERIMENTS / "trials").iterdir())
    return [Entry(folder.name, load(folder / "run.json"), read_history(folder)) for folder in folders]


def hardware(run: dict[str, Any]) -> str:
    """CPU: Intel(R) Xeon(R) Processor, 2 cores -> Intel Xeon, 2 cores"""
    return run["device"].split(": ", 1)[-1].replace("(R)", "").replace(" Processor", "")


def interval(accuracy: float, bounds: Sequence[float]) -> str:
    return f"{accuracy:.2%} ({bounds[0]:.2%} to {bounds[1]:.2%})"


def spread(runs: list[Entry], split: str) -> str:
    values = [run.metrics[split]["accuracy"] for run in runs]
    return f"{mean(values):.2%} ± {100 * stdev(values):.2f} (SD of {len(values)} seeds)"


def grouped(entries: list[Entry], key: Callable[[Entry], Any]) -> list[list[Entry]]:
    """Those with the same key together, in the order of the keys' first entries."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(json.dumps(key(entry), sort_keys=True), []).append(entry)
    return list(groups.values())


def but_for_the_seed(entry: Entry) -> dict[str, Any]:
    """What decides a run's accuracy."""
    where = {name: entry.run[name] for name in ("device", "precision")}
    return where | {"recipe": entry.recipe} | entry.changed | entry.networks | {"seed": None}


def headline(runs: list[Entry]) -> str:
    """The first sentence of the README."""
    accuracy, parameters = runs[0].metrics["test"]["accuracy"], runs[0].run["parameters"]
    return (
        f"Train a ResNet-32 on CIFAR-10 ({accuracy:.1%} test accuracy, {parameters / 1e6:.2f}M parameters) "
        "and serve it as a web demo.\n"
    )


def summary_table(runs: list[Entry]) -> str:
    """For the README: the bundled model, each recipe with most of its seeds, and what was published."""
    bundled, *others = runs
    rows = [summary_row("**Bundled model**", [bundled])]
    for recipe in RECIPES:
        seeds = grouped([run for run in others if run.recipe == recipe and run.is_recipe], but_for_the_seed)
        for most in [max(seeds, key=len)] if seeds else []:
            rows.append(summary_row(f"Recipe `{recipe}`", most))
    rows += [[name, parameters, epochs, test, where] for name, parameters, epochs, _, test, where in PUBLISHED]
    return table(["model", "parameters", "epochs", "test accuracy (95% CI)", "hardware"], rows)


def summary_row(title: str, seeds: list[Entry]) -> list[str]:
    first, test = seeds[0], seeds[0].metrics["test"]
    accuracy = spread(seeds, "test") if len(seeds) > 1 else interval(test["accuracy"], test["accuracy_interval"])
    return [title, f"{first.run['parameters']:,}", str(len(first.history)), accuracy, hardware(first.run)]


def results_table(runs: list[Entry]) -> str:
    """Runs that differ in nothing but the seed stand together, with their mean."""
    rows = []
    for group in grouped(runs, but_for_the_seed):
        for entry in group:
            run, test, overrides = entry.run, entry.metrics["test"], len(entry.changed.keys() - LENGTH - {"seed"})
            recipe = f"`{entry.recipe}`" + (f", {overrides} override{'s' * (overrides > 1)}" if overrides else "")
            network = [entry.name, recipe, f"{run['parameters']:,}", f"{run['epochs']} ({run['best_epoch']})"]
            scores = [f"{entry.metrics['val']['accuracy']:.2%}", interval(test["accuracy"], test["accuracy_interval"])]
            rows.append([*network, *scores, hardware(run), f"{run['wall_seconds'] / 60:.0f}"])
        if len(group) > 1:
            rows.append(["mean", recipe, "", "", spread(group, "val"), spread(group, "test"), "", ""])
    columns = ["run", "recipe", "parameters", "epochs (best)", "val", "test (95% interval)", "hardware", "minutes"]
    return table(columns, rows + [[name, "", *cells, ""] for name, *cells in PUBLISHED])


def details_table(runs: list[Entry]) -> str:
    rows = []
    for entry in runs:
        run, calibration = entry.run, entry.metrics["test"]["calibration"]
        ece = f"{calibration['ece_before']:.4f}, {calibration['ece_after']:.4f}"
        flip = entry.metrics["test"].get("flip_tta")  # runs from before it was measured have none
        made = [f"{run['images_per_second']:,.0f}", run["versions"]["torch"], short(run["git_commit"])]
        rows.append([entry.name, entry.flags, run["precision"], *made, ece, f"{flip['accuracy']:.2%}" if flip else ""])
    columns = ["run", "overrides", "precision", "images/s", "PyTorch", "commit"]
    return table([*columns, "ECE before and after calibration", "test with flip TTA"], rows)


def comparable(trial: Entry) -> list[str]:
    """Recipe, length and machine."""
    config = TrainConfig.from_hyperparameters(trial.run["hyperparameters"])
    length = (str(getattr(config, setting)) for setting in sorted(LENGTH))
    return [config.recipe, *length, trial.run["device"], trial.run["precision"]]


def trials_table(trials: list[Entry]) -> str:
    """In comparable groups: first the recipe as it is, with any seed, then changes, best first, with the gain over the
    mean of the former."""
    rows = []
    for group in grouped(sorted(trials, key=comparable), comparable):
        unchanged = [trial.best for trial in group if trial.is_recipe]
        for trial in sorted(group, key=lambda trial: (not trial.is_recipe, -trial.best)):
            run, n, best = trial.run, trial.run["split"]["val"], trial.best
            gain = f"{100 * (best - mean(unchanged)):+.2f}" if unchanged and not trial.is_recipe else ""
            scores = [interval(best, wilson_interval(round(best * n), n)), gain]
            minutes = f"{wall_seconds(run, trial.history) / 60:.0f}"
            made = [hardware(run), run["precision"], short(run["git_commit"])]
            flags = f"`{trial.recipe}` {trial.flags}"
            rows.append([trial.name, str(len(trial.history)), *scores, minutes, flags, *made])
    columns = ["trial", "epochs", "val (95% interval)", "gain over the recipe, points", "minutes"]
    return table([*columns, "recipe and overrides", "hardware", "precision", "commit"], rows)


def add(run_dir: Path, name: str) -> None:
    """Copies what the ledger needs of a finished run's folder, or of a trial's. SystemExit where it is neither."""
    if not (run_dir / "run.json").is_file():
        raise SystemExit(f"{run_dir} has no run.json: name the --output-dir of a run")
    run, is_run = load(run_dir / "run.json"), (run_dir / "artifact").is_dir()
    config = TrainConfig.from_hyperparameters(run["hyperparameters"])
    epochs = config.total_epochs(steps_per_epoch(run["split"]["train"], config.batch_size))
    if read_history(run_dir)[-1]["epoch"] < epochs or not (is_run or run.get("no_test")):
        raise SystemExit(f"{run_dir} is not finished: repeat its command with --resume")
    target = EXPERIMENTS / ("runs" if is_run else "trials") / name
    target.mkdir(parents=True, exist_ok=True)
    for file in RUN_FILES if is_run else TRIAL_FILES:
        shutil.copy((run_dir / "artifact" if is_run else run_dir) / file, target)
    if not is_run:  # an artifact's files are fit to be published
        run["hyperparameters"] = published(run["hyperparameters"])
        (target / "run.json").write_text(json.dumps(run, indent=2) + "\n")


def pages() -> dict[Path, str]:
    """Each page that holds tables, with the text it should have."""
    readme, results, runs, trials = PROJECT / "README.md", PROJECT / "docs" / "results.md", read_runs(), read_trials()
    in_results = results_table(runs), details_table(runs), trials_table(trials)
    return {
        readme: filled(readme.read_text(), headline(runs), summary_table(runs), begin=BEGIN),
        results: filled(results.read_text(), *in_results, begin=BEGIN),
    }


if __name__ == "__main__":
    parser = Parser(prog="python -m experiments.ledger", description="Write the tables; with `add`, enter a run first.")
    parser.add_argument("command", nargs="?", choices=["add"])
    parser.add_argument("run", nargs="*", metavar="RUN_DIR NAME", help="a finished run, and what to call it")
    given = parser.parse_args()
    if len(given.run) != (2 if given.command else 0):
        parser.error("give RUN_DIR and NAME after add")
    if given.command:
        add(Path(given.run[0]), given.run[1])
    for path, text in pages().items():
        path.write_text(text)
        print(path.relative_to(PROJECT))
