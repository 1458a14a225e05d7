"""Runs that end before their time, by real signals in processes of their own, and what --resume makes of them."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model import cifar10
from tests import tiny_trainer
from tests.conftest import md5_of
from tests.test_fit import assert_same
from tests.tiny_trainer import wait_for_epoch
from trainer import checkpoints
from trainer.config import TrainConfig

pytestmark = pytest.mark.slow

TINY = {"depth": 8, "max_epochs": 4, "batch_size": 30, "device": "cpu", "precision": "32-true"}
RECIPES = {
    "cosine": {},
    "plateau": {"schedule": "plateau", "plateau_patience": 0, "learning_rate": 0.1, "crop": "resized"},
    "steps": {"schedule": "steps", "max_steps": 31, "ema_decay": 0.9, "flip": "alternating", "erasing": 0.5}
    | {"mixup": 0.2, "cutmix": 1.0, "trivial_augment": True},
    "bf16": {"precision": "bf16-mixed"},
}

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["trainer.fit", "tests.test_interruptions"])


def train(data_dir: Path, run_dir: Path, settings: dict, end: str = "", at: int = -1, save: int = 0) -> None:
    """One attempt in a process of its own. In step `at` of this attempt, from 0, something ends it: `end` is the name
    of a signal that the process sends itself, or "save": killed after renaming a file for the `save`th time more."""
    from trainer import fit
    from trainer.errors import Interrupted
    from trainer.module import TrainingModule

    cifar10.MD5 = md5_of(data_dir)
    torch.set_num_threads(1)
    steps, renames = iter(range(10**6)), iter(range(10**6))
    step_of, rename = TrainingModule.training_step, os.replace

    def rename_and_die(source, target):
        rename(source, target)
        if next(renames) == save:
            os.kill(os.getpid(), signal.SIGKILL)

    def step(self, *batch):
        loss = step_of(self, *batch)
        if next(steps) == at:
            if end == "save":
                os.replace = rename_and_die
            else:
                os.kill(os.getpid(), signal.Signals[end])
        return loss

    TrainingModule.training_step = step
    try:
        fit.fit(TrainConfig(**TINY | settings), data_dir, run_dir, resume=True, progress_bar=False)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)


def attempt(*arguments, **options) -> int:
    process = processes.Process(target=train, args=arguments, kwargs=options)
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def uninterrupted(made_up_cifar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    for name, settings in RECIPES.items():
        assert attempt(made_up_cifar, folder / name, settings) == 0
    return folder


@pytest.mark.parametrize("end", ["SIGKILL", "save"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("seed", range(int(os.environ.get("KILL_SEEDS", "1"))))
def test_a_run_killed_several_times_ends_bit_identical(made_up_cifar, tmp_path, uninterrupted, recipe, end, seed):
    draw = random.Random(f"{seed} {recipe} {end}")
    run_dir, settings = tmp_path / "run", RECIPES[recipe]

    def killed(at):
        assert attempt(made_up_cifar, run_dir, settings, end=end, at=at, save=draw.randrange(7)) == -signal.SIGKILL

    # An epoch has 9 steps, so the first attempt gets into its second epoch and the third into its third or fourth.
    killed(draw.randrange(9, 13) if end == "SIGKILL" else 8)
    assert attempt(made_up_cifar, run_dir, settings, end="SIGTERM", at=draw.randrange(8)) == 143
    killed(draw.randrange(9, 13) if end == "SIGKILL" else 8)
    assert attempt(made_up_cifar, run_dir, settings) == 0
    assert_same(run_dir, uninterrupted / recipe)


@pytest.mark.parametrize("at", [8, 30])
def test_a_signal_in_the_last_step_of_an_epoch_or_of_the_run(made_up_cifar, tmp_path, uninterrupted, at):
    run_dir, settings = tmp_path / "run", RECIPES["steps"]
    assert attempt(made_up_cifar, run_dir, settings, end="SIGTERM", at=at) == 143
    assert attempt(made_up_cifar, run_dir, settings) == 0
    assert_same(run_dir, uninterrupted / "steps")


@pytest.fixture
def start(made_up_cifar, tmp_path):
    """Starts trainers on tmp_path/run; none outlives the test."""
    started = []

    def start_one(*flags: str) -> subprocess.Popen:
        started.append(tiny_trainer.start(made_up_cifar, tmp_path / "run", "--max-epochs", "500", *flags))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_its_exit_code_and_a_line_that_says_how_to_go_on(start, tmp_path, signum, code):
    process = start()
    wait_for_epoch(process, 2)
    process.send_signal(signum)
    _, error = process.communicate(timeout=180)
    assert process.returncode == code
    saved = len(checkpoints.read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["history"])
    assert error == (
        f"Stopped: interrupted by {signum.name} in epoch {saved + 1}; {saved} epoch{'s are' if saved > 1 else ' is'} "
        "saved. To continue, repeat the command with --resume.\n"
    )


def test_a_second_trainer_in_the_same_folder_is_refused_while_the_first_goes_on(start, tmp_path):
    first = start()
    wait_for_epoch(first, 1)
    before = (tmp_path / "run" / "run.json").read_bytes()
    for flags in ([], ["--resume"]):
        second = start(*flags)
        _, error = second.communicate(timeout=180)
        assert (
            second.returncode == 2 and error.startswith("Error: another trainer works in ") and error.count("\n") == 1
        )
    assert first.poll() is None and (tmp_path / "run" / "run.json").read_bytes() == before
    first.kill()
    first.communicate()
    assert "epoch" in start("--resume").stdout.readline()  # a dead process locks nobody out
