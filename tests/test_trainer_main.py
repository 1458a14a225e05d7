import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from model import artifact
from tests.conftest import TINY_FLAGS, reseal
from trainer import __main__ as command
from trainer.config import TrainConfig, flag
from trainer.run import note_no_test

PROJECT = Path(__file__).resolve().parent.parent


def run(*flags, **environment):
    """`python -m trainer` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "trainer", *map(str, flags)],
        cwd=PROJECT,
        env=os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def main(monkeypatch, *flags):
    """The same in this process, where the made-up data passes for the official one. Returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["trainer", *map(str, flags)])
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as caught:
            command.main()
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    return caught.value.code


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID"])
def test_only_the_first_of_several_processes_asks_before_the_training(monkeypatch, rank):
    assert command.is_first_process()
    monkeypatch.setenv(rank, "1")
    assert not command.is_first_process()
    monkeypatch.setenv(rank, "0")
    assert command.is_first_process()


def test_help_names_every_setting_and_every_command():
    answer = run("--help")
    assert answer.returncode == 0
    for f in fields(TrainConfig):
        assert flag(f.name) in answer.stdout
    for word in ("--data-dir", "--output-dir", "--resume", "--no-test", "export", "evaluate"):
        assert word in answer.stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--recipe", "fast"], "--recipe is 'fast'; it must be one of default, report"),
        (["--learning-rat", "1"], "--learning-rate"),
        (["--depth", "33"], "--depth is 33; it must be 6n+2"),
        (["--depth", "deep"], "--depth"),
        (["--max-epochs", "0"], "--max-epochs is 0; it must be 1 or more"),
        (["--plateau-patience", "3"], "--plateau-patience has no effect with --schedule cosine"),
        (["export", "no/such/run"], "no/such/run holds no run"),
        (["evaluate", "no/such/artifact"], "no/such/artifact is not a folder"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence_and_exit_code_2(flags, words, tmp_path):
    answer = run(*flags, CIFAR10_DIR=str(tmp_path))
    assert answer.returncode == 2
    assert words in answer.stderr and "Traceback" not in answer.stderr
    assert sum(line.startswith("Error: ") for line in answer.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {}),
        (["--no-nesterov", "--compile"], {"nesterov": False, "compile": True}),
        (["--nesterov", "--no-compile"], {"nesterov": True, "compile": False}),
        (["--stem-kernel", "1", "--shortcut", "B"], {"stem_kernel": 1, "shortcut": "B"}),
        (["--crop-scale", "0.5", "1"], {"crop_scale": (0.5, 1.0)}),
        (["--train-images", "500", "--learning-rate", "0.3"], {"train_images": 500, "learning_rate": 0.3}),
        (["--momentum", "0", "--no-nesterov"], {"momentum": 0.0, "nesterov": False}),
    ],
)
def test_flags_become_the_settings_they_name(monkeypatch, flags, expected):
    given = {}

    def stop(recipe, overrides):
        given.update(overrides)
        raise command.ConfigError("far enough")

    monkeypatch.setattr(command, "configure", stop)
    assert main(monkeypatch, *flags) == 2
    assert given == expected


@pytest.mark.parametrize("flags", [["--data-dir", "x"], ["--max-epochs", "3"], ["--resume"]])
def test_flags_before_a_command_are_refused_rather_than_dropped(monkeypatch, capsys, flags):
    assert main(monkeypatch, *flags, "evaluate", "artifact") == 2
    assert f"{flags[0]} before evaluate has no effect" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch"])
def test_a_damaged_dataset_file_stops_the_run_before_it_writes_anything(
    tiny_cifar, tmp_path, monkeypatch, capsys, name
):
    data = shutil.copytree(tiny_cifar, tmp_path / "data")
    (data / "cifar-10-batches-py" / name).write_bytes(b"short")
    code = main(monkeypatch, *TINY_FLAGS, "--data-dir", data, "--output-dir", tmp_path / "run")
    error = capsys.readouterr().err
    assert code == 2 and f"{name} is damaged or altered" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_whole_job_prints_a_line_per_epoch_the_summary_and_where_the_artifact_lies(tiny_run, tiny_artifact):
    printed = (tiny_run / "stdout.txt").read_text()
    metrics = artifact.read(tiny_artifact).metrics
    lines = printed.splitlines()
    assert lines[0].split() == "epoch lr train loss train acc val loss val acc images/s seconds".split()
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    for split in ("val", "test"):
        (row,) = [line for line in lines if line.startswith(split)]
        scores = getattr(metrics, split)
        assert f"{scores.n:,}" in row and f"{scores.accuracy:.2%}" in row
    assert str(tiny_artifact) in lines[-1]


def test_a_finished_run_resumed_exports_again_and_changes_no_number(
    tiny_run, tiny_cifar, tmp_path, monkeypatch, capsys
):
    run_dir = shutil.copytree(tiny_run, tmp_path / "run")
    before = (run_dir / "artifact" / artifact.METRICS).read_bytes()
    code = main(monkeypatch, *TINY_FLAGS, "--data-dir", tiny_cifar, "--output-dir", run_dir, "--resume")
    assert code in (0, None)
    assert (run_dir / "artifact" / artifact.METRICS).read_bytes() == before


def test_no_test_stops_after_val(tiny_cifar, tmp_path, monkeypatch, capsys):
    code = main(
        monkeypatch,
        *TINY_FLAGS,
        "--max-epochs",
        1,
        "--data-dir",
        tiny_cifar,
        "--output-dir",
        tmp_path / "r",
        "--no-test",
    )
    printed = capsys.readouterr().out
    assert code in (0, None)
    assert any(line.startswith("val") for line in printed.splitlines())
    assert not any(line.startswith("test") for line in printed.splitlines())
    assert not (tmp_path / "r" / "artifact").exists()
    assert json.loads((tmp_path / "r" / "run.json").read_text())["no_test"] is True


@pytest.mark.parametrize("left", ["the note", "the artifact"])
def test_a_run_that_has_read_the_test_set_cannot_be_said_not_to(
    tiny_run, tiny_cifar, tmp_path, monkeypatch, capsys, left
):
    run_dir = shutil.copytree(tiny_run, tmp_path / "run")
    note_no_test(run_dir, False if left == "the note" else None)
    if left == "the note":
        shutil.rmtree(run_dir / "artifact")
    flags = (*TINY_FLAGS, "--data-dir", tiny_cifar, "--output-dir", run_dir, "--resume", "--no-test")
    assert main(monkeypatch, *flags) == 2
    assert f"{run_dir} has read the test set already: leave out --no-test" in capsys.readouterr().err
    assert not json.loads((run_dir / "run.json").read_text())["no_test"]


def test_evaluate_confirms_true_claims_and_exits_1_on_false_ones(
    tiny_artifact, tiny_cifar, tmp_path, monkeypatch, capsys
):
    assert main(monkeypatch, "evaluate", tiny_artifact, "--data-dir", tiny_cifar) in (0, None)
    assert "counts are equal" in capsys.readouterr().out
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    metrics = artifact.read(folder).metrics
    artifact.write_metrics(folder, replace(metrics, val=replace(metrics.val, loss=metrics.val.loss + 0.01)))
    reseal(folder)
    assert main(monkeypatch, "evaluate", folder, "--data-dir", tiny_cifar) == 1
    assert "val: loss is" in capsys.readouterr().err


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("where", ["download", "before the run", "fit", "export"])
def test_a_signal_outside_training_has_its_exit_code_too_and_advice_where_there_is_a_run(
    monkeypatch, capsys, tmp_path, signum, code, where
):
    def wait(*_, **__):
        if where in ("fit", "export"):
            (tmp_path / "run.json").write_text("{}")
        os.kill(os.getpid(), signum)
        time.sleep(5)

    monkeypatch.setattr(command, "download_if_missing", wait if where == "download" else lambda *_: None)
    monkeypatch.setattr("trainer.fit.fit", wait if where != "export" else lambda *_, **__: True)
    monkeypatch.setattr(command, "export_and_print", wait)
    assert main(monkeypatch, "--output-dir", tmp_path) == code
    error = capsys.readouterr().err
    assert error.startswith(f"Stopped: interrupted by {signal.Signals(signum).name}.")
    assert ("--resume" in error) == (where in ("fit", "export")) and error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(command.TrainingError("the loss became nan"), 1), (command.RunError("it is in use"), 2)],
)
def test_what_stops_a_run_has_exit_code_1_and_what_never_began_2(monkeypatch, capsys, error, code):
    def fail():
        raise error

    monkeypatch.setattr(command, "app", fail)
    assert main(monkeypatch) == code
    assert capsys.readouterr().err == f"Error: {error}\n"
