"""`python -m trainer` as its users meet it: flags, exit codes, what it prints last."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace

import pytest

from model import artifact
from tests.conftest import TINY_FLAGS, reseal
from tests.serving import ROOT
from trainer import __main__ as trainer
from trainer import commands
from trainer.config import TrainConfig, flag
from trainer.errors import interrupt_on_signals
from trainer.run import note_no_test


def start(*flags, **environment):
    """`python -m trainer` in a process of its own."""
    command = [sys.executable, "-m", "trainer", *map(str, flags)]
    environment = os.environ | {"COLUMNS": "100"} | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def run(*flags) -> int:
    """The same in this process, where the made-up data passes for the official one. Returns the exit code."""
    try:
        return trainer.run(list(map(str, flags)))
    except SystemExit as end:
        return end.code


@pytest.fixture
def copy(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


# The command line


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID"])
def test_only_the_first_of_several_processes_asks_before_the_training(monkeypatch, rank):
    assert commands.is_first_process()
    monkeypatch.setenv(rank, "1")
    assert not commands.is_first_process()
    monkeypatch.setenv(rank, "0")
    assert commands.is_first_process()


def test_help_names_every_setting_and_every_command():
    answer = start("--help")
    assert answer.returncode == 0
    for word in (*(flag(f.name) for f in fields(TrainConfig)), "--data-dir", "--no-test", "export", "evaluate"):
        assert word in answer.stdout
    assert "[default 50, report 50, paper 183," in " ".join(answer.stdout.split())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--push-to-hub", "ann/a", "--no-test"], "--push-to-hub has no effect with --skip-test"),
        (["--private"], "--private has no effect without --push-to-hub"),
        (["--recipe", "fast"], "--recipe is 'fast'; it must be one of default, report"),
        (["--learning-rat", "1"], "--learning-rat is unknown here; did you mean --learning-rate?"),
        (["--depth", "33"], "--depth is 33; it must be 6n+2"),
        (["--depth", "deep"], "--depth: invalid int value: 'deep'"),
        (["--max-epochs", "0"], "--max-epochs is 0; it must be 1 or more"),
        (["--max-time", "0"], "--max-time is 0; it must be a positive number of minutes"),
        (["--max-time", "nan"], "--max-time is nan; it must be a positive number of minutes"),
        (["publish", "--tagg", "v1"], "--tagg is unknown here; did you mean --tag?"),
        (["--plateau-patience", "3"], "--plateau-patience has no effect with --schedule cosine"),
        (["--data-dir", "D", "evaluate", "A"], "evaluate is unknown here"),
        (["export", "no/such/run"], "no/such/run holds no run"),
        (["evaluate", "no/such/artifact"], "no/such/artifact is not a folder"),
        (["space", "ann/page"], "--model"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_answered_with_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    assert run(*flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and words in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {}),
        (["--no-nesterov", "--compile"], {"nesterov": False, "compile": True}),
        (["--stem-kernel", "1", "--shortcut", "B"], {"stem_kernel": 1, "shortcut": "B"}),
        (["--crop-scale", "0.5", "1", "--recipe", "report"], {"crop_scale": (0.5, 1.0)}),
        (["--train-images", "500", "--teacher", "ann/a"], {"train_images": 500, "teacher": "ann/a"}),
    ],
)
def test_flags_become_the_settings_they_name(monkeypatch, flags, expected):
    given = {}
    monkeypatch.setattr(commands, "configure", lambda recipe, overrides: given.update(overrides) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*flags)
    assert given == expected


@pytest.mark.parametrize("entry", ["trainer/__main__.py", "app.py"])
def test_an_older_python_is_told_which_one_is_needed(entry):
    ast.parse((ROOT / entry).read_text(), feature_version=(3, 10))
    code = "import runpy, sys; sys.version_info = (3, 10, 12, 'final', 0); sys.path.insert(0, '.'); "
    code += f"runpy.run_path({entry!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "Error: Python 3.11 or newer is needed; this is 3.10\n")


# What it does


def test_a_damaged_dataset_file_stops_the_run_before_it_writes_anything(tiny_cifar, tmp_path, capsys):
    data = shutil.copytree(tiny_cifar, tmp_path / "data")
    (data / "cifar-10-batches-py" / "test_batch").write_bytes(b"short")
    assert run(*TINY_FLAGS, "--data-dir", data, "--output-dir", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "test_batch is damaged or altered" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_whole_job_prints_and_logs_a_line_per_epoch_then_the_summary(tiny_run, tiny_artifact):
    lines = (tiny_run / "stdout.txt").read_text().splitlines()
    assert lines[0].split() == "epoch lr train loss train acc val loss val acc images/s seconds".split()
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert [line.split(" ", 2)[2] for line in (tiny_run / "train.log").read_text().splitlines()] == lines[:3]
    metrics = artifact.read(tiny_artifact).metrics
    for split in ("val", "test"):
        (row,) = [line for line in lines if line.startswith(split)]
        scores = getattr(metrics, split)
        assert f"{scores.n:,}" in row and f"{scores.accuracy:.2%}" in row
    assert lines[-1] == f"Finished: {tiny_artifact}. To serve it: python app.py --model {tiny_artifact}"


def test_a_run_out_of_time_says_how_to_go_on_and_the_same_command_finishes_it(tiny_cifar, tmp_path, capsys):
    run_dir = tmp_path / "run"
    flags = [*TINY_FLAGS, "--data-dir", tiny_cifar, "--output-dir", run_dir, "--resume", "--max-time", "0.0001"]
    assert run(*flags) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Not finished: 1 of 2 epochs are trained and saved, --max-time is over. To go on, repeat the command with "
        "--resume"
    )
    assert not (run_dir / "artifact").exists()
    assert run("export", run_dir, "--data-dir", tiny_cifar) == 0  # of the first epoch
    assert run(*flags) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"Finished: {run_dir}/artifact.")
    assert artifact.read(run_dir / "artifact").metrics.training.epochs == 2
    written = (run_dir / "artifact").stat()
    assert run(*flags) == 0
    assert capsys.readouterr().out.startswith(f"Finished before: {run_dir}/artifact.")
    assert (run_dir / "artifact").stat() == written


def test_skip_test_stops_after_val(tiny_cifar, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run(*TINY_FLAGS, "--max-epochs", 1, "--data-dir", tiny_cifar, "--output-dir", run_dir, "--skip-test") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith(f"Finished: {run_dir}. To evaluate it on the test set: python -m trainer export")
    assert any(line.startswith("val") for line in printed) and not any(line.startswith("test") for line in printed)
    assert not (run_dir / "artifact").exists() and json.loads((run_dir / "run.json").read_text())["no_test"] is True


@pytest.mark.parametrize("left", ["the note", "the artifact"])
def test_a_run_that_has_read_the_test_set_cannot_be_said_not_to(copy, tiny_cifar, capsys, left):
    note_no_test(copy, False if left == "the note" else None)
    if left == "the note":
        shutil.rmtree(copy / "artifact")
    assert run(*TINY_FLAGS, "--data-dir", tiny_cifar, "--output-dir", copy, "--resume", "--no-test") == 2
    assert f"{copy} has read the test set already: leave out --skip-test" in capsys.readouterr().err
    assert not json.loads((copy / "run.json").read_text())["no_test"]


def test_evaluate_confirms_true_claims_and_exits_1_on_false_ones(tiny_artifact, tiny_cifar, tmp_path, capsys):
    assert run("evaluate", tiny_artifact, "--data-dir", tiny_cifar) == 0
    assert "counts are equal" in capsys.readouterr().out
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    metrics = artifact.read(folder).metrics
    artifact.write_metrics(folder, replace(metrics, val=replace(metrics.val, loss=metrics.val.loss + 0.01)))
    reseal(folder)
    assert run("evaluate", folder, "--data-dir", tiny_cifar) == 1
    assert "val: loss is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("signum", "code", "where"), [(signal.SIGINT, 130, "download"), (signal.SIGTERM, 143, "export")]
)
def test_a_signal_outside_training_has_its_exit_code_too(
    monkeypatch, capsys, tiny_cifar, copy, tmp_path, signum, code, where
):
    def wait(*_, **__):
        os.kill(os.getpid(), signum)
        time.sleep(5)

    shutil.rmtree(copy / "artifact")
    run_dir = tmp_path / "new" if where == "download" else copy
    target = "trainer.commands.download_if_missing" if where == "download" else "trainer.export.export"
    monkeypatch.setattr(target, wait)
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        interrupt_on_signals()
        assert run(*TINY_FLAGS, "--data-dir", tiny_cifar, "--output-dir", run_dir, "--resume") == code
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    advice = ". To continue, repeat the command with --resume" if where == "export" else ""
    assert capsys.readouterr().err == f"Stopped: interrupted by {signal.Signals(signum).name}{advice}.\n"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (commands.TrainingError("the loss became nan"), 1, "the loss became nan"),
        (trainer.RunError("it is in use"), 2, "it is in use"),
        (MemoryError("527 MiB"), 1, "this machine has too little free memory (527 MiB)"),
    ],
)
def test_what_stops_a_run_has_exit_code_1_and_what_never_began_2(monkeypatch, capsys, error, code, words):
    def fail(*_):
        raise error

    monkeypatch.setattr(commands, "download_if_missing", fail)
    assert run() == code
    assert capsys.readouterr().err == f"Error: {words}\n"
