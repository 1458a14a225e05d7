"""Runs of a file, trained several at once: by a fake trainer, which does what its folder's name says, and once by the
real one."""

import contextlib
import dataclasses
import functools
import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.artifact import read_history
from tests.conftest import TINY_FLAGS
from tests.fake_trainer import write_history
from tests.test_architecture import imported_by
from tests.test_interruptions import assert_same
from tests.test_trainer_main import main, run
from trainer import sweep as module
from trainer.__main__ import app, given_by
from trainer.config import RECIPES, ConfigError
from trainer.run import RunError, at_work_in
from trainer.runs_file import read_runs
from trainer.stops import Interrupted, TrainingError, raise_interrupted

PROJECT = Path(__file__).resolve().parent.parent
FAKE = (sys.executable, str(PROJECT / "tests" / "fake_trainer.py"))


@pytest.fixture(autouse=True)
def signals_end_no_more_than_a_test():
    before = {signum: signal.signal(signum, raise_interrupted) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def downloads(monkeypatch):
    """The arguments of every call that would download CIFAR-10."""
    calls = []
    monkeypatch.setattr(module, "download_if_missing", lambda *arguments: calls.append(arguments))
    return calls


@pytest.fixture
def sweep(tmp_path, downloads):
    """A sweep of these lines by fake trainers, into tmp_path/out."""

    def sweep(*lines, common=(), at_once=1, minutes=None):
        runs_file = tmp_path / "runs.txt"
        runs_file.write_text("\n".join(lines))
        module.sweep(runs_file, tmp_path / "out", list(common), at_once, minutes, given_by, FAKE)

    return sweep


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def records(out):
    return json.loads((out / "sweep.json").read_text())


def exit_codes(out):
    return {name: record["exit_code"] for name, record in records(out).items()}


def calls(out, name):
    """What each process of the run saw: arguments, environment, pid, session."""
    return [json.loads(line) for line in (out / name / "calls").read_text().splitlines()]


def resumed(out, name):
    return ["--resume" in call["arguments"] for call in calls(out, name)]


@contextlib.contextmanager
def time_over_once_there(*paths):
    """The clock jumps far ahead when all these files exist."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic", lambda: time.monotonic() + 1e6 * all(path.exists() for path in paths))
        yield


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


# The file


def test_a_line_is_a_name_and_flags_which_follow_those_of_every_run(tmp_path):
    runs_file = tmp_path / "runs.txt"
    runs_file.write_text(
        "# four\n\nplain\n  ema-1   --ema-decay 0.99 --seed 1  # the second\nv1.2_x --recipe 'report'\n"
    )
    assert read_runs(runs_file, ["--max-epochs", "3"], given_by) == {
        "plain": ["--max-epochs", "3"],
        "ema-1": ["--max-epochs", "3", "--ema-decay", "0.99", "--seed", "1"],
        "v1.2_x": ["--max-epochs", "3", "--recipe", "report"],
    }


def test_the_files_of_the_project_hold_runs_that_the_trainer_would_take():
    files = sorted((PROJECT / "docs" / "sweeps").glob("*.txt"))
    assert len(files) >= 5
    for path in files:
        common = ["--teacher", "folder"] if path.stem == "distillation" else []
        assert read_runs(path, common, given_by)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("first --seed 2", "first is the name of a run above"),
        ("../x", "'../x' is no name for a run"),
        (".x", "'.x' is no name for a run"),
        ("a/b", "'a/b' is no name for a run"),
        ("größer", "'größer' is no name for a run"),
        ("--no-test", "'--no-test' is no name for a run: a line begins with one"),
        ("lock", "'lock' is no name for a run"),
        ("sweep.json", "'sweep.json' is no name for a run"),
        ("first.log", "'first.log' is no name for a run"),
        ("x --sed 3", "No such option"),
        ("x --seed three", "--seed"),
        ("x --seed", "--seed"),
        ("x --help", "No such option"),
        ("x export", "unexpected extra argument"),
        ("x 'open", "No closing quotation"),
        ("x --depth 33", "--depth is 33; it must be 6n+2"),
        ("x --recipe fast", "--recipe is 'fast'; it must be one of"),
        ("x --plateau-patience 3", "--plateau-patience has no effect with --schedule cosine"),
        ("x --output-dir y", "--output-dir has no place here"),
        ("x --resume", "--resume has no place here"),
        ("x --push-to-hub a/b", "--push-to-hub has no place here: publishing is a step of its own"),
        ("x --private", "--private has no place here"),
        ("x --data-dir d", "--data-dir has no place here: all runs share it, so it belongs after --"),
        ("x --download-from hub", "--download-from has no place here"),
    ],
)
def test_a_mistake_in_a_line_is_refused_with_its_number_before_anything_starts(sweep, out, downloads, line, words):
    with pytest.raises(ConfigError) as refused:
        sweep("quick", "# the first", "first", line)
    assert "runs.txt, line 4: " in str(refused.value) and words in str(refused.value)
    assert not out.exists() and not downloads


@pytest.mark.parametrize(
    "flags", [["--output-dir", "x"], ["--resume"], ["--push-to-hub", "a/b"], ["--sed", "1"], ["x"]]
)
def test_a_mistake_in_the_flags_for_every_run_is_refused_too(sweep, out, flags):
    with pytest.raises(ConfigError, match="^in the flags for every run: "):
        sweep("quick", common=flags)
    assert not out.exists()


def test_flags_for_every_run_are_judged_together_with_those_of_each(sweep, out):
    with pytest.raises(ConfigError, match="line 2: --plateau-patience has no effect"):
        sweep("quick-1 --schedule plateau", "quick-2", common=["--plateau-patience", "3"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"a\xff", "is not UTF-8 text"), (b"", "names no run"), (b"\n # only a word\n", "no run")],
)
def test_a_file_without_a_run_is_refused(tmp_path, out, content, words):
    runs_file = tmp_path / "runs.txt"
    if content is not None:
        runs_file.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as refused:
        module.sweep(runs_file, out, [], 1, None, given_by, FAKE)
    assert str(runs_file) in str(refused.value) and not out.exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"at_once": 0}, "--at-once is 0"),
        ({"minutes": 0.0}, "--minutes is 0"),
        ({"minutes": float("nan")}, "--minutes is nan"),
    ],
)
def test_no_run_at_once_and_no_minutes_are_refused(sweep, out, option, words):
    with pytest.raises(ConfigError, match=words):
        sweep("quick", **option)
    assert not out.exists()


# The runs


def test_each_run_is_a_process_with_its_flags_its_folder_its_log_and_its_own_session(sweep, out, capsys):
    sweep("quick-1 --seed 1", "quick-2", common=["--max-epochs", "3"])
    ((first,), (second,)) = calls(out, "quick-1"), calls(out, "quick-2")
    assert first["arguments"] == ["--output-dir", str(out / "quick-1"), "--max-epochs", "3", "--seed", "1"]
    assert second["arguments"] == ["--output-dir", str(out / "quick-2"), "--max-epochs", "3"]
    assert first["session"] == first["pid"] and second["session"] == second["pid"]
    assert (out / "quick-1.log").read_text() == "started\n"
    assert exit_codes(out) == {"quick-1": 0, "quick-2": 0}
    assert records(out)["quick-1"]["flags"] == ["--max-epochs", "3", "--seed", "1"]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" after ")[0] for line in printed[:4]] == [
        "quick-1 starts",
        "quick-1 done",
        "quick-2 starts",
        "quick-2 done",
    ]
    assert printed[1].endswith("minutes, epoch 2, best val accuracy 52.00%")


@pytest.mark.parametrize(
    ("given", "at_once", "expected"),
    [(None, 1, None), (None, 2, "4"), (None, 3, "2"), (None, 16, "1"), ("5", 2, None)],
)
def test_runs_at_once_share_the_cores_unless_the_threads_are_given(monkeypatch, given, at_once, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS") if given is None else monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    added = module.environment_of_runs(at_once)
    assert added.get("OMP_NUM_THREADS") == added.get("TORCHINDUCTOR_COMPILE_THREADS") == expected


def test_the_runs_get_their_threads_by_the_environment(sweep, out, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS")
    sweep("quick-1", "quick-2", at_once=2)
    assert [calls(out, name)[0]["environment"]["OMP_NUM_THREADS"] for name in ("quick-1", "quick-2")] == ["3", "3"]


def test_the_data_is_looked_for_once_before_the_runs_and_never_where_all_are_finished(
    sweep, out, downloads, monkeypatch
):
    monkeypatch.setenv("CIFAR10_DIR", "by/environment")
    sweep("quick-1", "quick-2")
    assert downloads == [(Path("by/environment"), "official")]
    sweep("quick-1", "quick-2")
    assert len(downloads) == 1
    common = ["--data-dir", "by/flag", "--download-from", "hub"]
    monkeypatch.setattr(module, "train_all", lambda *_: pytest.fail("trained before the data was there"))
    monkeypatch.setattr(module, "download_if_missing", lambda *given: downloads.append(given) or sys.exit(5))
    with pytest.raises(SystemExit):
        sweep("quick-3", common=common)
    assert downloads[1:] == [(Path("by/flag"), "hub")]


def test_a_finished_run_is_not_trained_again(sweep, out, capsys):
    sweep("quick-1", "quick-2 --seed 2")
    before = records(out)
    sweep("quick-2 --seed 2", "quick-3")
    assert len(calls(out, "quick-2")) == 1 and len(calls(out, "quick-3")) == 1
    assert before.items() <= records(out).items()  # of quick-1, which has left the file, too
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[-3:-1]] == [
        ["quick-2", "done"],
        ["quick-3", "done"],
    ]


def test_a_finished_run_is_refused_other_flags(sweep, out):
    sweep("quick --seed 2")
    before = records(out)
    with pytest.raises(ConfigError, match=r"quick was finished with other flags \(--seed 2\): take another name or"):
        sweep("quick --seed 3", "quick-2")
    assert records(out) == before and not (out / "quick-2").exists()


def test_a_finished_run_is_not_taken_for_one_of_its_recipe_as_it_is_today(sweep, out, monkeypatch):
    sweep("quick --seed 2")
    changed = dataclasses.replace(RECIPES["default"], learning_rate=0.3)
    monkeypatch.setitem(RECIPES, "default", changed)
    told = r"quick was finished with --learning-rate 0.2, which its recipe had then, not 0.3: take another name"
    with pytest.raises(ConfigError, match=told):
        sweep("quick --seed 2", "quick-2")
    assert not (out / "quick-2").exists()
    run = json.loads((out / "quick" / "run.json").read_text())
    run["hyperparameters"]["younger"] = 1
    (out / "quick" / "run.json").write_text(json.dumps(run))
    with pytest.raises(RunError, match="written by another version of this program: .* younger"):
        sweep("quick --seed 2", "quick-2")
    shutil.rmtree(out / "quick")
    sweep("quick --seed 2", "quick-2")
    assert exit_codes(out) == {"quick": 0, "quick-2": 0}


def test_a_finished_run_may_have_its_data_elsewhere_and_its_flags_written_otherwise(sweep, out):
    sweep("quick --seed 2", common=["--data-dir", "here"])
    sweep("quick --seed=2", "quick-2", common=["--data-dir", "there", "--download-from", "hub"])
    assert exit_codes(out) == {"quick": 0, "quick-2": 0} and len(calls(out, "quick")) == 1


def test_a_run_that_fails_stops_no_other_and_is_tried_again(sweep, out, capsys):
    lines = "fails", "quick-1", "quick-2"
    with pytest.raises(TrainingError, match=r"^1 of 3 runs failed: fails \(exit code 3\)\. .*NAME\.log says why"):
        sweep(*lines, at_once=2)
    assert exit_codes(out) == {"fails": 3, "quick-1": 0, "quick-2": 0}
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("fails failed with exit code 3 a")
    ]
    assert line.endswith(f", see {out / 'fails.log'}")
    before = records(out)["fails"]["seconds"]
    for _ in range(2):
        with pytest.raises(TrainingError):
            sweep(*lines)
        (out / "fails" / "run.json").write_text('{"split": {"train": 270}}')
    assert resumed(out, "fails") == [False, False, True]  # with --resume once there is a run.json
    assert (out / "fails.log").read_text() == "started\nstarted\nresumed\n"
    assert records(out)["fails"]["seconds"] > before > 0
    assert len(calls(out, "quick-1")) == 1


# Stopped


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_every_run_and_the_same_command_goes_on(sweep, out, capsys, name):
    lines = "quick-1", "waits", f"sends-{name}", "quick-2"
    with pytest.raises(Interrupted) as stopped:
        sweep(*lines, at_once=2)
    assert str(stopped.value) == f"interrupted by {name}. The same command goes on from here"
    assert stopped.value.exit_code == 128 + signal.Signals[name]
    assert exit_codes(out) == {"quick-1": 0, "waits": None, f"sends-{name}": None}
    table = capsys.readouterr().out.splitlines()[-5:-1]
    assert [line.split()[1] for line in table] == ["done", "stopped", "stopped", "waiting"]
    sweep(*lines, at_once=2)
    assert exit_codes(out) == dict.fromkeys(lines, 0)
    assert resumed(out, "waits") == resumed(out, f"sends-{name}") == [False, True]
    assert resumed(out, "quick-1") == resumed(out, "quick-2") == [False]
    assert "waits goes on, epoch 1, best val accuracy 51.00%" in capsys.readouterr().out


def test_a_second_signal_kills_the_runs(sweep, out):
    with pytest.raises(Interrupted, match="interrupted by SIGTERM. The same command goes on"):
        sweep("stubborn", "waits", "sends-SIGTERM", at_once=3)
    assert exit_codes(out) == dict.fromkeys(("stubborn", "waits", "sends-SIGTERM"))
    assert not is_alive(calls(out, "stubborn")[0]["pid"])


def test_a_run_that_does_not_stop_is_killed_with_what_it_started(sweep, out, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_TO_STOP", 0.5)
    with time_over_once_there(out / "deaf" / "run.json"):
        sweep("deaf", minutes=10)
    assert exit_codes(out) == {"deaf": None}
    deadline = time.monotonic() + 60
    while is_alive(int((out / "deaf" / "child").read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert time.monotonic() < deadline


def test_when_the_minutes_are_over_all_at_work_stop_none_starts_and_that_is_no_fault(sweep, out, capsys):
    lines = "waits-1", "waits-2", "quick"
    with time_over_once_there(out / "waits-1" / "run.json", out / "waits-2" / "run.json"):
        sweep(*lines, at_once=2, minutes=10)
    assert exit_codes(out) == {"waits-1": None, "waits-2": None}  # two were at work at once, and never three
    assert capsys.readouterr().out.splitlines()[-1] == "10 minutes are over: the same command goes on from here."
    sweep(*lines, minutes=10)
    assert exit_codes(out) == dict.fromkeys(lines, 0)
    assert "are over" not in capsys.readouterr().out


def test_a_run_that_failed_is_named_when_the_minutes_are_over(sweep, out, capsys):
    over = time_over_once_there(out / "waits" / "run.json")
    with over, pytest.raises(TrainingError, match="1 of 2 runs failed: fails"):
        sweep("fails", "waits", minutes=10)
    assert "10 minutes are over" in capsys.readouterr().out
    assert exit_codes(out) == {"fails": 3, "waits": None}


def test_no_run_outlives_a_sweep_that_the_operating_system_refuses_something(sweep, out, monkeypatch):
    (out / "quick.log").mkdir(parents=True)
    start, started = module.start, []
    monkeypatch.setattr(module, "start", lambda *given: started.append(start(*given)) or started[-1])
    with pytest.raises(TrainingError, match="the operating system refused something to the sweep .*quick.log"):
        sweep("waits", "quick", at_once=2)
    (process,) = started
    assert process.returncode is not None


def test_a_second_sweep_in_the_same_folder_is_refused(sweep, out):
    with at_work_in(out), pytest.raises(RunError, match=f"out is in use by process {os.getpid()}"):
        sweep("quick")
    assert not (out / "quick").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"quick": 3}',
        '{"quick": {"exit_code": 0}}',
        '{"quick": {"flags": "--seed", "exit_code": 0, "seconds": 1}}',
        '{"quick": {"flags": [1], "exit_code": 0, "seconds": 1}}',
        '{"quick": {"flags": [], "exit_code": "0", "seconds": 1}}',
        '{"quick": {"flags": [], "exit_code": 0, "seconds": null}}',
        "\xff",
    ],
)
def test_a_damaged_sweep_json_is_named(sweep, out, text):
    out.mkdir()
    (out / "sweep.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match="sweep.json is damaged: delete it"):
        sweep("quick")
    assert not (out / "quick").exists()


# The table


def test_the_table_shows_each_run_and_the_last_line_what_they_reached_together(sweep, out, capsys):
    with time_over_once_there(out / "waits" / "run.json"), pytest.raises(TrainingError):
        sweep("fails", "quick-1", "waits", "quick-2", minutes=10)
    state = {name: record | {"seconds": 1234.4} for name, record in records(out).items()}
    (out / "sweep.json").write_text(json.dumps(state))
    names = ["fails", "quick-1", "waits", "quick-2"]
    work = module.Sweep(out, dict.fromkeys(names, []), module.read_records(out), FAKE)
    assert module.table(work).splitlines() == [
        "run      state                      epochs  best val acc  in epoch   seconds  images/s",
        "fails    failed with exit code 3         0                             1,234",
        "quick-1  done                            2        52.00%         2     1,234        50",
        "waits    stopped                         1        51.00%         1     1,234        50",
        "quick-2  waiting                         0                                 0",
    ]
    with pytest.raises(TrainingError):
        sweep("fails", "quick-1", "waits", "quick-2")
    # waits has one epoch more, quick-2 two; the two of quick-1 are from the call before
    assert f"All runs together: {3 * 270} images of whole epochs in " in capsys.readouterr().out.splitlines()[-1]


def test_images_per_second_are_those_of_the_new_epochs_over_the_time_of_the_call(out):
    for name, epochs in (("a", 3), ("b", 1)):
        (out / name).mkdir(parents=True)
        (out / name / "run.json").write_text('{"split": {"train": 5000}}')
        write_history(out / name, epochs)
    line = module.throughput(out, {"a": 1, "b": 1, "c": 0}, 4.0)
    assert line == "All runs together: 10,000 images of whole epochs in 4 s, 2,500 images/s"


# The command


def test_the_command_hands_over_its_options_and_the_flags_after_two_dashes(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(module, "sweep", lambda *arguments: given.append(arguments))
    main(
        monkeypatch, "sweep", "r", "--output-dir", "d", "--at-once", 3, "--minutes", 9.5, "--", "--seed", 2, "--no-test"
    )
    main(monkeypatch, "sweep", "r", "--output-dir", "d")
    assert [arguments[:5] for arguments in given] == [
        (Path("r"), Path("d"), ["--seed", "2", "--no-test"], 3, 9.5),
        (Path("r"), Path("d"), [], 1, None),
    ]


def test_a_mistake_is_answered_with_one_sentence_and_exit_code_2(tmp_path):
    (tmp_path / "runs.txt").write_text("a --depth 33\n")
    answer = run("sweep", tmp_path / "runs.txt", "--output-dir", tmp_path / "out")
    assert answer.returncode == 2 and answer.stderr.startswith(f"Error: {tmp_path / 'runs.txt'}, line 1: --depth is 33")
    assert answer.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_two_real_runs_at_once_stopped_in_mid_epoch_and_gone_on_with_end_as_if_never_stopped(
    tiny_cifar, tmp_path, out, monkeypatch, capsys
):
    runs = {"plain": ["--seed", "1"], "ema": ["--seed", "2", "--ema-decay", "0.9"]}
    (tmp_path / "runs.txt").write_text("\n".join(shlex.join([name, *flags]) for name, flags in runs.items()))
    common = [*TINY_FLAGS, "--no-test"]
    command = ["sweep", tmp_path / "runs.txt", "--output-dir", out, "--at-once", 2, "--minutes", 10, "--", *common]
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("CIFAR10_DIR", str(tiny_cifar))
    pausing = (sys.executable, "-m", "tests.pausing_trainer")
    monkeypatch.setattr(module, "sweep", functools.partial(module.sweep, command=pausing))

    with time_over_once_there(out / "plain" / "paused", out / "ema" / "paused"):
        assert main(monkeypatch, *command) in (0, None)
    assert capsys.readouterr().out.splitlines()[-1] == "10 minutes are over: the same command goes on from here."
    assert exit_codes(out) == {"plain": None, "ema": None}
    assert [len(read_history(out / name)) for name in runs] == [1, 1]  # of two epochs

    assert main(monkeypatch, *command) in (0, None)
    assert exit_codes(out) == {"plain": 0, "ema": 0}
    for name, flags in runs.items():
        whole = tmp_path / "whole" / name
        CliRunner().invoke(app, [*common, *flags, "--output-dir", str(whole)], catch_exceptions=False)
        assert_same(out / name, whole)


def test_it_needs_neither_torch_nor_lightning():
    assert not imported_by("import trainer.sweep") & {"torch", "lightning", "torchvision"}
