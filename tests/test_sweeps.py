"""docs/sweeps: each line of a plan is a run that the trainer would take, and train.sh goes on with what is there."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.test_trainer_main import run
from trainer import commands
from trainer.config import ConfigError

SWEEPS = Path(__file__).resolve().parent.parent / "docs" / "sweeps"
PLANS = sorted(set(SWEEPS.glob("*.sh")) - {SWEEPS / "train.sh"})
TRAINER = """#!/usr/bin/env bash
[[ $4 != */fails ]] || exit 3
mkdir -p "$4" && echo "${@:5}" >>"$4/calls"
touch "$4/run.json"
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Runs a script on tmp_path/out with a `python` that only writes its flags into the run's folder."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(TRAINER)
    (tmp_path / "bin" / "python").chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def train(script, *flags, runs=""):
        call = ["bash", SWEEPS / script, tmp_path / "out", *flags]
        done = subprocess.run(call, env=os.environ | {"PATH": path}, input=runs, capture_output=True, text=True)
        return done, {file.parent.name: file.read_text().splitlines() for file in tmp_path.glob("out/*/calls")}

    return train


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: path.stem)
def test_the_runs_of_a_plan_are_runs_that_the_trainer_would_take(train, monkeypatch, capsys, plan):
    def stop(*_):
        raise ConfigError("far enough")

    done, calls = train(plan, *(["--teacher", "folder"] if plan.stem == "distillation" else []), "--data-dir", "D")
    assert done.returncode == 0 and len(calls) == plan.read_text().split("<<'RUNS'\n")[1].count("\n") - 1 > 0
    monkeypatch.setattr(commands, "download_if_missing", stop)
    for (call,) in calls.values():
        assert "--data-dir D" in call and run(*call.split()) == 2
        assert capsys.readouterr().err == "Error: far enough\n"


def test_a_run_that_is_there_goes_on_a_finished_one_is_skipped_and_one_that_fails_stops_no_other(train, tmp_path):
    runs = "fails --seed 1 \n\nnew --seed 2 \n"  # blanks at the end, as editors leave them
    for resume in ("", " --resume"):
        done, calls = train("train.sh", "--depth", "8", runs=runs)
        assert done.returncode != 0 and f"{tmp_path}/out/fails failed" in done.stderr
        assert calls["new"][-1] == f"--depth 8 --seed 2{resume}"
    (tmp_path / "out" / "new" / "artifact").mkdir()
    assert len(train("train.sh", runs=runs)[1]["new"]) == 2
    assert train("train.sh", "--depth", runs="")[0].returncode == 0
