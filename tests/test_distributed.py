"""Two processes on the CPU that train together (gloo), started both ways."""

import json
import os
import signal
import subprocess

import numpy as np
import pytest
import torch

from tests.test_fit import SLURM, equal, history, weights
from tests.tiny_trainer import start, wait_for_epoch
from trainer.config import TrainConfig
from trainer.data import EvalLoader, load_training_data
from trainer.module import build_network

pytestmark = pytest.mark.slow

FLAGS = ("--max-epochs", "8", "--no-test")


def finish(process: subprocess.Popen) -> tuple[str, str]:
    try:
        return process.communicate(timeout=400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def by_torchrun(made_up_cifar, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("torchrun") / "run"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start(made_up_cifar, run_dir, *FLAGS, launcher=launcher)
    out, error = finish(process)
    assert process.returncode == 0, error
    (run_dir / "stdout.txt").write_text(out)
    return run_dir


def test_one_process_alone_writes_and_prints(by_torchrun):
    assert len(list((by_torchrun / "tensorboard").glob("events*"))) == 1
    printed = (by_torchrun / "stdout.txt").read_text().splitlines()
    assert [line.split()[0] for line in printed] == ["epoch", *"12345678", "images", "val", "+", "Finished:"]
    hyperparameters = json.loads((by_torchrun / "run.json").read_text())["hyperparameters"]
    assert (hyperparameters["devices"], hyperparameters["num_nodes"]) == (2, 1)


def test_val_metrics_are_those_of_a_single_process_on_the_same_weights(by_torchrun, tiny_cifar):
    data = load_training_data(tiny_cifar)
    network = build_network(TrainConfig(depth=8), 10, data.mean, data.std).eval()
    network.load_state_dict({k.removeprefix("network."): v for k, v in weights(by_torchrun).items()})
    images, labels = data.images[data.split.val], data.labels[data.split.val]
    (batch,) = EvalLoader(torch.from_numpy(images), torch.from_numpy(labels))
    with torch.inference_mode():
        logits = network(batch[0])
    last = history(by_torchrun)[-1]
    assert last["val_accuracy"] == (logits.argmax(1) == batch[1]).sum().item() / 30
    assert last["val_loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, batch[1]).item(), abs=1e-6)


def test_every_training_image_counts_once(by_torchrun):
    for row in history(by_torchrun):
        assert row["train_accuracy"] * 270 == pytest.approx(round(row["train_accuracy"] * 270), abs=1e-9)
    assert history(by_torchrun)[-1]["train_accuracy"] > 0.3


@pytest.mark.parametrize("to_all", [True, False], ids=["Ctrl-C reaches both", "SIGTERM the first"])
def test_devices_2_does_the_same_also_when_a_signal_interrupts_it(made_up_cifar, tmp_path, by_torchrun, to_all):
    run_dir = tmp_path / "run"
    process = start(made_up_cifar, run_dir, *FLAGS, "--devices", "2")
    wait_for_epoch(process, 1)
    os.killpg(process.pid, signal.SIGINT) if to_all else process.send_signal(signal.SIGTERM)
    _, error = finish(process)  # the pipe closes only when no process is left
    assert process.returncode == (130 if to_all else 143), error
    assert error.count("\n") == 1 and "--resume" in error
    process = start(made_up_cifar, run_dir, *FLAGS, "--devices", "2", "--resume", **SLURM)
    _, error = finish(process)
    assert process.returncode == 0, error
    assert equal(weights(run_dir), weights(by_torchrun))
    for row, expected in zip(history(run_dir), history(by_torchrun), strict=True):
        np.testing.assert_allclose(list(row.values()), list(expected.values()), rtol=1e-6)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
def test_a_fault_of_the_first_process_ends_the_other_without_another_word(made_up_cifar, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.tmp").symlink_to("/dev/full")
    process = start(made_up_cifar, tmp_path / "run", *FLAGS, "--devices", "2")
    _, error = finish(process)
    assert process.returncode == 1
    assert error.count("\n") == 1 and "No space left on device" in error
