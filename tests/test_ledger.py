"""The ledger's tables are what the runs wrote; a run that is its recipe, and seeds that belong together, are known."""

import json
import shutil
from pathlib import Path

import pytest

from experiments import ledger
from experiments.ledger import Entry
from trainer.config import configure

DIGITS = "0123456789abcdef"


def entry(name: str = "x", accuracy: float = 0.9, device: str = "CPU: AMD", sha256: str = DIGITS, **settings) -> Entry:
    """Of two epochs. `sha256`: of the network that it began with or learned from."""
    hyperparameters = {"recipe": "default", "max_epochs": 2, "seed": 0} | settings
    networks = {key: {"sha256": sha256} for key in ("initial_weights", "teacher") if key in settings}
    run = {"hyperparameters": hyperparameters, "device": device, "precision": "32-true", "pretrained": networks}
    run |= {"parameters": 10, "epochs": 2, "best_epoch": 2, "wall_seconds": 60, "git_commit": DIGITS + "-dirty"}
    history = [{"val_accuracy": each, "seconds": 60} for each in (accuracy, accuracy - 0.1)]
    scores = {"accuracy": accuracy, "accuracy_interval": (0.1, 0.99)}
    return Entry(name, run | {"split": {"val": 5000}}, history, {"val": scores, "test": scores}, name)


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]


def test_the_tables_in_readme_and_results_are_what_the_runs_wrote():
    for path, text in ledger.pages().items():
        assert path.read_text() == text, f"run `python -m experiments.ledger`: {path} is stale"


def test_the_readme_states_the_bundled_models_numbers():
    runs = ledger.read_runs()
    metrics = json.loads((ledger.BUNDLED / "metrics.json").read_text())
    accuracy, parameters = metrics["test"]["correct"] / 100, metrics["training"]["parameters"]
    assert f"({accuracy:.1f}% test accuracy, {parameters / 1e6:.2f}M parameters)" in ledger.headline(runs)
    first = rows(ledger.summary_table(runs))[0]
    assert first[1:3] == [f"{parameters:,}", str(metrics["training"]["epochs"])]
    assert first[3].startswith(f"{accuracy:.2f}% (") and "CPU" not in first[4]


def test_every_kept_run_has_the_whole_history():
    for run in ledger.read_runs():
        assert (
            len(run.history) == run.run["epochs"] and run.history[run.run["best_epoch"] - 1]["val_accuracy"] == run.best
        )


def test_the_run_that_the_bundled_model_comes_from_is_not_told_again(tmp_path, monkeypatch):
    for name in ("same", "other"):
        shutil.copytree(ledger.EXPERIMENTS / "runs" / "default-seed0", tmp_path / "runs" / name)
    shutil.copy(ledger.BUNDLED / "config.json", tmp_path / "runs" / "same")
    monkeypatch.setattr(ledger, "EXPERIMENTS", tmp_path)
    assert [run.name for run in ledger.read_runs()] == ["bundled", "other"]


def test_seeds_of_one_recipe_on_one_machine_have_a_mean():
    on_today = {"flip": "random", "compile": True, "devices": 2}  # no difference, and settings that older runs lack
    found = [entry("a", 0.90), entry("b", 0.92, seed=1, **on_today), entry("c", 0.95, ema_decay=0.9)]
    found += [entry("d", 0.97, device="CUDA: H200", seed=2)]
    names = [(row[0], row[1], row[5].split(" (")[0]) for row in rows(ledger.results_table(found))[:-2]]
    assert names == [
        ("a", "`default`", "90.00%"),
        ("b", "`default`", "92.00%"),
        ("mean", "`default`", "91.00% ± 1.41"),
        ("c", "`default`, 1 override", "95.00%"),
        ("d", "`default`", "97.00%"),
    ]
    bundled, default, *_ = rows(ledger.summary_table([entry("best", 0.99), *found]))
    assert default[0] == "Recipe `default`" and default[3] == "91.00% ± 1.41 (SD of 2 seeds)"


def test_runs_that_began_with_different_networks_are_no_seeds_of_one_recipe():
    found = [entry(str(seed), seed=seed, initial_weights="old", sha256=digit * 64) for seed, digit in enumerate("011")]
    *_, mean, _, _ = rows(ledger.results_table(found))
    assert mean[4] == "90.00% ± 0.00 (SD of 2 seeds)"
    assert len(rows(ledger.summary_table([entry(), *found]))) == 3  # the bundled model and what was published


def test_trials_follow_their_recipe_with_the_gain_over_its_mean():
    found = [entry("worse", 0.70, ema_decay=0.9), entry("base", 0.80), entry("longer", 0.95, max_epochs=3, cutout=8)]
    found += [entry("better", 0.85, mixup=0.2, seed=1), entry("again", 0.82, seed=1, compile=True)]
    assert [(row[0], row[2][:6], row[3]) for row in rows(ledger.trials_table(found))] == [
        ("again", "82.00%", ""),
        ("base", "80.00%", ""),
        ("better", "85.00%", "+4.00"),
        ("worse", "70.00%", "-11.00"),
        ("longer", "95.00%", ""),
    ]


def test_a_short_run_of_record_is_the_recipe_although_it_has_no_trivial_augment():
    shorter = configure("record", {"max_epochs": 200}).hyperparameters()
    found = [entry("base", 0.90, **shorter), entry("warm", 0.92, **shorter | {"warmup_fraction": 0.1})]
    assert [(row[0], row[3]) for row in rows(ledger.trials_table(found))] == [("base", ""), ("warm", "+2.00")]


def test_details_are_the_overrides_the_networks_and_the_commit():
    intel = "CPU: Intel(R) Xeon(R) Processor, 2 cores"
    found = entry("x", device=intel, nesterov=False, trivial_augment=True, teacher="big")
    flags = "`--trivial-augment` `--max-epochs 2` `--no-nesterov` `--teacher big` (01234567)"
    (row,) = rows(ledger.trials_table([found]))
    assert row[0] == "x" and row[5:] == [f"`default` {flags}", "Intel Xeon, 2 cores", "32-true", "0123456789ab-dirty"]


def test_a_run_enters_the_ledger_by_its_artifact_and_a_trial_by_its_history(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "EXPERIMENTS", tmp_path)
    ledger.add(tiny_run, "whole")
    assert {file.name for file in (tmp_path / "runs" / "whole").iterdir()} == set(ledger.RUN_FILES)
    trial, run = tmp_path / "trial", json.loads((tiny_run / "run.json").read_text())
    shutil.copytree(tiny_run, trial, ignore=shutil.ignore_patterns("artifact", "checkpoints"))

    def add(**more) -> Path:
        (trial / "run.json").write_text(json.dumps(run | more))
        ledger.add(trial, "short")
        return tmp_path / "trials" / "short" / "run.json"

    with pytest.raises(SystemExit, match="is not finished"):
        add(no_test=False)  # its export was interrupted, and may have read the test set
    run["hyperparameters"]["teacher"] = str(tmp_path / "teacher")
    kept = add(no_test=True).read_text()
    assert str(tmp_path) not in kept and json.loads(kept)["hyperparameters"]["teacher"] == "teacher"
    assert [each.name for each in ledger.read_trials()] == ["short"]
    lines = (trial / "history.csv").read_text().splitlines()
    (trial / "history.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(SystemExit, match="is not finished"):
        add(no_test=True)
    (trial / "run.json").unlink()
    with pytest.raises(SystemExit, match="has no run.json"):
        ledger.add(trial, "none")
