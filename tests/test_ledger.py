import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.artifact import Metrics, Pretrained, PretrainedNetwork
from trainer.config import RECIPES
from trainer.evaluate import evaluate, score
from trainer.run import note_no_test

PROJECT = Path(__file__).resolve().parent.parent

spec = importlib.util.spec_from_file_location("ledger", PROJECT / "docs" / "ledger.py")
ledger = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ledger)


def test_the_tables_in_readme_and_results_are_what_the_runs_wrote():
    for path, text in ledger.pages().items():
        assert path.read_text() == text, f"run `python -m docs.ledger`: {path} is stale"


def test_the_readme_begins_with_the_numbers_of_the_bundled_model_and_the_epochs_of_all_runs_that_it_continues():
    metrics = json.loads((ledger.BUNDLED / "metrics.json").read_text())
    accuracy, parameters = metrics["test"]["correct"] / 100, metrics["training"]["parameters"]
    assert f"({accuracy:.1f}% test accuracy, {parameters / 1e6:.2f}M parameters)" in ledger.headline()
    assert [run.epochs for run in ledger.chain_of("default-seed0")] == [50]
    assert [run.epochs for run in ledger.chain_of("restart36-seed2")] == [50, 18, 36]
    first, *_ = ledger.summary_table().splitlines()[2:]
    total = sum(run.epochs for run in ledger.chain_of("bundled model"))
    assert first.startswith(f"| **Bundled model** | {parameters:,} | {total}") and f"| {accuracy:.2f}% (" in first


def test_a_row_states_the_runs_own_numbers():
    metrics = json.loads((ledger.BUNDLED / "metrics.json").read_text())
    row = ledger.row("bundled model", ledger.read_kept(ledger.BUNDLED).metrics)
    assert f"| {metrics['test']['correct'] / 100:.2f}% |" in row
    assert f"| {metrics['val']['correct'] / 50:.2f}% |" in row


def test_every_ledger_run_keeps_its_history():
    for folder in (PROJECT / "docs" / "runs").glob("*"):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert len((folder / "history.csv").read_text().splitlines()) == metrics["training"]["epochs"] + 1


def metrics_of(seed: int, test: float, device: str = "CPU", **settings) -> Metrics:
    """Of a run of three epochs, with one accuracy in whole percent for each split and view."""
    predicted = np.arange(100) >= round(100 * test)
    logits, labels = np.eye(2)[predicted.astype(int)], np.zeros(100, int)
    scores = evaluate(logits, labels, 1.0, score(logits, labels))
    training = replace(
        ledger.read_kept(ledger.BUNDLED).metrics.training,
        recipe="default",
        seed=seed,
        hyperparameters={"recipe": "default", "max_epochs": 3, "seed": seed} | settings,
        device=device,
        epochs=3,
        best_epoch=3,
        pretrained=None,
    )
    return Metrics(format_version=1, val=scores, test=scores, training=training)


def test_runs_that_differ_in_seed_and_machine_alone_are_one_row_also_where_one_is_older_than_a_setting(monkeypatch):
    today = {"flip": "random", "compile": True, "devices": 2}
    found = [metrics_of(0, 0.90), metrics_of(1, 0.92, **today), metrics_of(0, 0.95, ema_decay=0.9)]
    found.append(metrics_of(0, 0.97, device="GPU"))
    monkeypatch.setattr(ledger, "runs", lambda: dict(enumerate(found)))
    assert ledger.seeds_table().splitlines()[2:] == [
        "| recipe `default` | 3 | 0, 1 | 91.00% +- 1.41 | 91.00% +- 1.41 | 91.00% +- 1.41 | CPU, 32-true |",
        "| recipe `default` with `--ema-decay 0.9` | 3 | 0 | 95.00% | 95.00% | 95.00% | CPU, 32-true |",
        "| recipe `default` | 3 | 0 | 97.00% | 97.00% | 97.00% | GPU, 32-true |",
    ]


def test_runs_that_began_with_different_networks_of_one_name_are_two_rows(monkeypatch):
    found = []
    for seed, digest in enumerate("011"):
        metrics = metrics_of(seed, 0.9, initial_weights="old")
        facts = {"recipe": "default", "seed": 0, "epochs": 1, "parameters": 1, "depth": 8, "val_accuracy": 0.9}
        network = PretrainedNetwork(**facts, sha256=digest * 64)
        training = replace(metrics.training, pretrained=Pretrained(initial_weights=network))
        found.append(replace(metrics, training=training))
    monkeypatch.setattr(ledger, "runs", lambda: dict(enumerate(found)))
    rows = [row.split("|")[1:4] for row in ledger.seeds_table().splitlines()[2:]]
    assert [row[0].split()[-1] for row in rows] == ["(00000000)", "(11111111)"]
    assert [row[2].strip() for row in rows] == ["0", "1, 2"]


def test_the_run_that_the_bundled_model_comes_from_is_not_told_again(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "DOCS", tmp_path)
    for name in ("same", "other"):
        shutil.copytree(PROJECT / "docs" / "runs" / "default-seed0", tmp_path / "runs" / name)
    shutil.copy(ledger.BUNDLED / "config.json", tmp_path / "runs" / "same")
    assert list(ledger.runs()) == ["bundled model", "other"]


def test_a_run_with_other_settings_or_a_teacher_does_not_pass_for_its_recipe(monkeypatch):
    taught = metrics_of(0, 0.95, teacher="big", crop_scale=[0.5, 1.0], crop="resized")
    found = {"plain": metrics_of(0, 0.90), "taught": taught}
    monkeypatch.setattr(ledger, "runs", lambda: found)
    plain, taught = ledger.results_table().splitlines()[2:4]
    assert plain.startswith("| plain: recipe `default`, seed 0 | 90.00%")
    flags = "`--crop resized` `--crop-scale 0.5 1.0` `--teacher big`"
    assert taught.startswith(f"| taught: recipe `default` with {flags}, seed 0 | 95.00%")
    assert [row.split("|")[6].strip() for row in ledger.expectations_table().splitlines()[2:]] == ["90.00%"]


def test_a_run_whose_steps_were_limited_is_a_finished_one(monkeypatch):
    metrics = metrics_of(0, 0.90, max_epochs=50, max_steps=351 * 2 + 1)
    assert ledger.row("limited", metrics).split("|")[5].strip() == "3 (3)"
    monkeypatch.setattr(ledger, "runs", lambda: {"limited": metrics})
    assert ledger.seeds_table().splitlines()[2].split("|")[2].strip() == "3"
    metrics = replace(metrics, training=replace(metrics.training, epochs=2, best_epoch=2))
    assert ledger.row("limited", metrics).split("|")[5].strip() == "2 (2), stopped early of 3"


def test_a_trial_is_told_by_what_differs_from_its_recipe():
    assert ledger.changes(trial(0.9, max_epochs=50)[0]) == "`default`: nothing"
    run, _ = trial(0.9, max_epochs=9, nesterov=False, trivial_augment=True, device="cuda", teacher="big")
    run["pretrained"] = {"teacher": {"sha256": "0123456789abcdef"}}
    told = "`--trivial-augment`, `--max-epochs 9`, `--no-nesterov`, `--teacher big` (01234567)"
    assert ledger.changes(run) == f"`default`: {told}"


def trial(val: float, **settings) -> tuple[dict, list[dict]]:
    hyperparameters = {"recipe": "default", "max_epochs": 2} | settings
    history = [{"val_accuracy": accuracy, "seconds": 60} for accuracy in (val, val - 0.1)]
    run = {"hyperparameters": hyperparameters, "split": {"val": 5000}, "device": "CPU", "precision": "32-true"}
    return run | {"git_commit": None}, history


def test_trials_stand_by_length_the_recipe_first_with_the_gain_over_the_mean_of_its_seeds(monkeypatch):
    found = {
        "worse": trial(0.70, ema_decay=0.9),
        "base": trial(0.80),
        "longer": trial(0.95, max_epochs=3, cutout=8),
        "better": trial(0.85, mixup=0.2, seed=1),
        "again": trial(0.82, seed=1, compile=True),
    }
    monkeypatch.setattr(ledger, "trials", lambda: found)
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in ledger.trials_table().splitlines()[2:]]
    assert [(row[0], row[3], row[5]) for row in rows] == [
        ("again", "82.00%", ""),
        ("base", "80.00%", ""),
        ("better", "85.00%", "+4.00"),
        ("worse", "70.00%", "-11.00"),
        ("longer", "95.00%", ""),
    ]


def test_a_recipe_of_another_length_is_itself_where_its_warm_up_has_as_many_epochs(monkeypatch):
    shorter = RECIPES["record"].hyperparameters() | {"max_epochs": 200, "warmup_fraction": 0.025}
    found = {
        "base": trial(0.90, **shorter),
        "rate": trial(0.91, **shorter | {"learning_rate": 0.1}),
        "longer warm-up": trial(0.92, **shorter | {"warmup_fraction": 0.1}),
    }
    monkeypatch.setattr(ledger, "trials", lambda: found)
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in ledger.trials_table().splitlines()[2:]]
    assert [(row[0], row[5]) for row in rows] == [("base", ""), ("longer warm-up", "+2.00"), ("rate", "+1.00")]


def test_a_source_tree_with_changes_is_told(monkeypatch):
    run, history = trial(0.90)
    monkeypatch.setattr(ledger, "trials", lambda: {"base": (run | {"git_commit": "0123456789abcdef-dirty"}, history)})
    assert "| 0123456789ab-dirty |" in ledger.trials_table()


def test_a_run_enters_the_ledger_by_its_artifact_and_a_trial_by_its_history(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "DOCS", tmp_path)
    ledger.add(tiny_run, "whole")
    assert {f.name for f in (tmp_path / "runs" / "whole").iterdir()} == set(ledger.RUN)
    trial = tmp_path / "trial"
    shutil.copytree(tiny_run, trial, ignore=shutil.ignore_patterns("artifact", "checkpoints"))
    with pytest.raises(SystemExit, match="has no artifact and did not end with --no-test"):
        ledger.add(trial, "short")  # its export was interrupted, and may have read the test set
    note_no_test(trial, True)
    ledger.add(trial, "short")
    assert "| short | `default`: " in ledger.trials_table()
    run = json.loads((trial / "run.json").read_text())
    run["hyperparameters"]["teacher"] = str(tmp_path / "teacher")
    (trial / "run.json").write_text(json.dumps(run))
    ledger.add(trial, "short")
    kept = (tmp_path / "trials" / "short" / "run.json").read_text()
    assert str(tmp_path) not in kept and json.loads(kept)["hyperparameters"]["teacher"] == "teacher"
    rows = (trial / "history.csv").read_text().splitlines()
    (trial / "history.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(SystemExit, match="is not finished"):
        ledger.add(trial, "half")
    (trial / "run.json").unlink()
    with pytest.raises(SystemExit, match="has no run.json"):
        ledger.add(trial, "none")
    assert [f.name for f in (tmp_path / "trials").iterdir()] == ["short"]
