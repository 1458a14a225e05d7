import json
import os
import signal
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
from torch._inductor.exc import TritonMissing
from torch.overrides import TorchFunctionMode

from model.artifact import read_history
from trainer import callbacks, checkpoints, fit
from trainer.config import ConfigError, TrainConfig
from trainer.data import load_training_data
from trainer.module import TrainingModule, cosine_with_warmup
from trainer.run import RunError
from trainer.stops import Interrupted, NonFiniteLoss, TrainingError

TINY = {"depth": 8, "max_epochs": 3, "batch_size": 30, "device": "cpu", "precision": "32-true"}
TIMING = {"seconds", "images_per_second"}


def run(data_dir, run_dir, resume=False, **settings):
    fit.fit(TrainConfig(**TINY | settings), data_dir, run_dir, resume, progress_bar=False)
    return run_dir


def history(run_dir):
    return [{k: v for k, v in row.items() if k not in TIMING} for row in read_history(run_dir)]


def weights(run_dir, name=checkpoints.LAST):
    return torch.load(run_dir / "checkpoints" / name, weights_only=True)["state_dict"]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def finished(made_up_cifar, tmp_path_factory):
    """Two uninterrupted runs, cosine and plateau."""
    from model import cifar10
    from tests.conftest import md5_of

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "MD5", md5_of(made_up_cifar))
        folder = tmp_path_factory.mktemp("finished")
        cosine = run(made_up_cifar, folder / "cosine")
        script_val_losses(patch)
        return {"cosine": cosine, "plateau": run(made_up_cifar, folder / "plateau", **PLATEAU)}


class PowerCut(Exception):
    pass


def cut_short(data_dir, run_dir, monkeypatch, epoch, **settings):
    """A run that ends when `epoch` (from 0) begins."""

    def cut(self, trainer, module):
        if trainer.current_epoch == epoch:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.PredictionPanel, "on_train_epoch_start", cut, raising=False)
        with pytest.raises(PowerCut):
            run(data_dir, run_dir, **settings)


PLATEAU = {"schedule": "plateau", "plateau_patience": 0, "learning_rate": 0.1, "max_epochs": 4}
VAL_LOSSES = (1.0, 0.5, 0.7, 0.6)


def script_val_losses(patch):
    """Plateau runs see these val losses, so that what the schedule does is the same on every machine."""
    original = TrainingModule.on_validation_epoch_end

    def scripted(self):
        self.val_sums[0] = VAL_LOSSES[self.current_epoch] * self.val_sums[2]
        original(self)

    patch.setattr(TrainingModule, "on_validation_epoch_end", scripted)


def test_the_same_seed_gives_the_same_history_and_weights(tiny_cifar, tmp_path, finished):
    again = run(tiny_cifar, tmp_path / "again")
    assert history(again) == history(finished["cosine"])
    assert equal(weights(again), weights(finished["cosine"]))


def test_another_seed_gives_another_history(tiny_cifar, tmp_path, finished):
    assert history(run(tiny_cifar, tmp_path / "other", seed=1, max_epochs=1)) != history(finished["cosine"])[:1]


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_and_resumed_run_ends_like_an_uninterrupted_one(
    tiny_cifar, tmp_path, monkeypatch, finished, schedule, epoch
):
    settings = PLATEAU if schedule == "plateau" else {}
    if schedule == "plateau":
        script_val_losses(monkeypatch)
    cut_short(tiny_cifar, tmp_path / "cut", monkeypatch, epoch, **settings)
    assert len(history(tmp_path / "cut")) == epoch
    (tmp_path / "cut").rename(tmp_path / "moved")  # perhaps to another machine
    run(tiny_cifar, tmp_path / "moved", resume=True, **settings)
    assert history(tmp_path / "moved") == history(finished[schedule])
    assert equal(weights(tmp_path / "moved"), weights(finished[schedule]))
    assert equal(weights(tmp_path / "moved", checkpoints.BEST), weights(finished[schedule], checkpoints.BEST))
    assert len(json.loads((tmp_path / "moved" / "run.json").read_text())["resumed"]) == 1


def test_a_run_that_died_in_its_first_epoch_starts_again(tiny_cifar, tmp_path, monkeypatch, finished):
    with monkeypatch.context() as patch:
        patch.setattr(fit.TrainingModule, "on_train_epoch_start", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tiny_cifar, tmp_path / "cut")
    run(tiny_cifar, tmp_path / "cut", resume=True)
    assert history(tmp_path / "cut") == history(finished["cosine"])


def test_the_plateau_schedule_lowers_the_rate_after_an_epoch_without_a_lower_val_loss(finished):
    rows = history(finished["plateau"])
    assert [row["val_loss"] for row in rows] == pytest.approx(VAL_LOSSES)
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.1, 0.1, 0.1, 0.01])


def test_the_best_checkpoint_is_the_first_epoch_with_the_highest_val_accuracy(finished):
    for run_dir in finished.values():
        rows = history(run_dir)
        best = max(rows, key=lambda row: row["val_accuracy"])
        checkpoint = torch.load(run_dir / "checkpoints" / checkpoints.BEST, weights_only=True)
        assert checkpoint["epoch"] + 1 == best["epoch"]


def test_the_history_has_one_row_per_epoch_with_the_columns_of_the_artifact(finished):
    header = (finished["cosine"] / "history.csv").read_text().splitlines()[0]
    assert header == ("epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy,seconds,images_per_second")
    assert [row["epoch"] for row in history(finished["cosine"])] == [1, 2, 3]


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_tensorboard_gets_losses_accuracies_learning_rate_and_a_panel_of_val_images(finished, schedule):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished[schedule] / "tensorboard"))
    events.Reload()
    expected = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr-SGD"}
    assert expected <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["val/predictions"]
    logged = [e.value for e in events.Scalars("val/accuracy")]
    assert logged == pytest.approx([row["val_accuracy"] for row in history(finished[schedule])])
    steps = [e.step for e in events.Scalars("val/accuracy")]
    assert steps == [9 * epoch - 1 for epoch in range(1, len(logged) + 1)]  # 270 images, 30 a step
    assert [e.step for e in events.Images("val/predictions")] == steps


@pytest.mark.parametrize(("max_epochs", "panels", "first"), [(1, 1, 1), (50, 50, 1), (51, 26, 1), (1920, 50, 9)])
def test_a_long_run_gets_no_more_than_50_panels_the_last_of_its_last_epoch(max_epochs, panels, first):
    due = [epoch for epoch in range(1, max_epochs + 1) if callbacks.panel_is_due(epoch, max_epochs)]
    assert (len(due), due[0], due[-1]) == (panels, first, max_epochs)


def test_a_run_that_max_steps_ends_has_a_panel_of_its_last_epoch(tiny_cifar, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = run(tiny_cifar, tmp_path / "run", max_epochs=1000, max_steps=11)  # 9 an epoch
    events = EventAccumulator(str(run_dir / "tensorboard"), {"images": 0}).Reload()
    assert [image.step for image in events.Images("val/predictions")] == [8, 10]


def test_a_run_records_config_versions_commit_device_and_split(tiny_cifar, finished):
    found = json.loads((finished["cosine"] / "run.json").read_text())
    assert TrainConfig.from_hyperparameters(found["hyperparameters"]) == TrainConfig(**TINY)
    assert found["split"] == {
        "train": 270,
        "val": 30,
        "seed": 0,
        "sha256": load_training_data(tiny_cifar).split.sha256(),
    }
    assert found["versions"]["torch"] == version("torch")
    assert found["device"].startswith("CPU: ") and found["precision"] == "32-true"


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(tiny_cifar, finished):
    before = (finished["cosine"] / "history.csv").read_bytes()
    with pytest.raises(RunError, match="already holds a run: add --resume"):
        run(tiny_cifar, finished["cosine"])
    assert (finished["cosine"] / "history.csv").read_bytes() == before


def test_resume_with_another_setting_names_the_flag(tiny_cifar, finished):
    with pytest.raises(RunError, match="was started with --learning-rate 0.2, not 0.3"):
        run(tiny_cifar, finished["cosine"], resume=True, learning_rate=0.3)


def test_resume_on_other_data_is_refused(tiny_cifar, finished, monkeypatch):
    from trainer import data

    monkeypatch.setattr(data, "SPLIT_SEED", 1)
    with pytest.raises(RunError, match="was trained on other data"):
        run(tiny_cifar, finished["cosine"], resume=True)


def test_resume_without_a_run_says_so(tiny_cifar, tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        run(tiny_cifar, tmp_path / "nothing", resume=True)


def test_an_output_folder_that_cannot_be_written_is_refused_before_training(tiny_cifar, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written .*choose another --output-dir"):
        run(tiny_cifar, tmp_path / "file" / "run")


def test_a_device_that_is_not_there_is_named_with_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device is cuda.*available: .*cpu"):
        fit.resolve_device("cuda")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_automatic_device_is_cuda_then_mps_then_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert fit.resolve_device("auto") == expected


@pytest.mark.parametrize(
    ("device", "amx", "expected"),
    [("cuda", False, "bf16-mixed"), ("mps", False, "32-true"), ("cpu", False, "32-true"), ("cpu", True, "bf16-mixed")],
)
def test_the_automatic_precision_is_bf16_only_where_it_is_fast(monkeypatch, device, amx, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert fit.resolve_precision("auto", device) == expected
    assert fit.resolve_precision("32-true", device) == "32-true"


def test_a_gpu_without_bf16_trains_in_float32_and_refuses_the_other(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert fit.resolve_precision("auto", "cuda") == "32-true"
    with pytest.raises(ConfigError, match="--precision is bf16-mixed, which this GPU does not support"):
        fit.check_devices(TrainConfig(precision="bf16-mixed"), "cuda")
    fit.check_devices(TrainConfig(precision="32-true"), "cuda")


def test_cuda_graphs_are_refused_on_other_devices(monkeypatch):
    config = TrainConfig(compile=True, cuda_graphs=True)
    with pytest.raises(ConfigError, match="--cuda-graphs has no effect on the device cpu: leave it out"):
        fit.check_devices(config, "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    fit.check_devices(config, "cuda")


def test_the_average_of_a_compiled_network_is_validated_by_its_own_weights(tiny_cifar, tmp_path, monkeypatch):
    """Whatever is compiled: a copy that called what was compiled for the original would compute with its weights."""
    own, step = [], TrainingModule.validation_step

    def noted(module, batch, index):
        step(module, batch, index)
        if index == 0:
            module.average.fc.bias.data[:] = torch.eye(10)[3] * 1e6
            step(module, batch, index)
            own.append(set(module.first_val_predictions.tolist()))

    monkeypatch.setattr(TrainingModule, "validation_step", noted)
    monkeypatch.setattr(fit, "compile_if_asked", lambda network, config: network.compile(backend="eager"))
    run(tiny_cifar, tmp_path, compile=True, ema_decay=0.5, max_epochs=1)
    assert own == [{3}]


# What can go wrong


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_a_damaged_last_checkpoint_is_named_and_the_one_before_is_used(
    tiny_cifar, tmp_path, monkeypatch, finished, capsys
):
    cut_short(tiny_cifar, tmp_path, monkeypatch, epoch=2)
    flip_a_bit(tmp_path / "checkpoints" / "last.ckpt")
    capsys.readouterr()
    run(tiny_cifar, tmp_path, resume=True)
    told = capsys.readouterr().out.splitlines()[0]
    assert "last.ckpt is damaged (" in told and told.endswith("continuing from last.previous.ckpt, step 9")
    assert told in (tmp_path / "train.log").read_text()
    assert history(tmp_path) == history(finished["cosine"])
    assert equal(weights(tmp_path), weights(finished["cosine"]))
    assert equal(weights(tmp_path, checkpoints.BEST), weights(finished["cosine"], checkpoints.BEST))


@pytest.mark.slow
def test_the_checkpoint_that_replaced_a_damaged_one_is_kept_beside_the_next(tiny_cifar, tmp_path, monkeypatch):
    cut_short(tiny_cifar, tmp_path, monkeypatch, epoch=2)
    folder = tmp_path / "checkpoints"
    flip_a_bit(folder / "last.ckpt")
    damaged = (folder / "last.ckpt").read_bytes()
    cut_short(tiny_cifar, tmp_path, monkeypatch, epoch=2, resume=True)
    steps = [checkpoints.read_checkpoint(folder / name)["global_step"] for name in ("last.previous.ckpt", "last.ckpt")]
    assert steps == [9, 18]
    assert (folder / "last.damaged.ckpt").read_bytes() == damaged


@pytest.mark.slow
def test_with_no_whole_checkpoint_left_both_are_named_and_nothing_is_changed(tiny_cifar, tmp_path, monkeypatch):
    cut_short(tiny_cifar, tmp_path, monkeypatch, epoch=2)
    for name in ("last.ckpt", "last.previous.ckpt"):
        flip_a_bit(tmp_path / "checkpoints" / name)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunError, match="last.ckpt is damaged.*last.previous.ckpt is damaged"):
        run(tiny_cifar, tmp_path, resume=True)
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_at_once_and_keeps_the_last_good_checkpoint(
    tiny_cifar, tmp_path, monkeypatch, value
):
    steps = []
    original = TrainingModule.training_step

    def poisoned(self, batch, batch_index):
        steps.append(batch_index)
        loss = original(self, batch, batch_index)
        if len(steps) == 13:
            loss = loss * value
            self.step_losses[batch_index] = loss.detach()
        return loss

    monkeypatch.setattr(TrainingModule, "training_step", poisoned)
    with pytest.raises(TrainingError) as caught:
        run(tiny_cifar, tmp_path, warmup_fraction=0.0, schedule="cosine")
    rate = 0.2 * cosine_with_warmup(12, 27, 0.0)
    expected = f"the training loss became {value} at step 13 (epoch 2) with learning rate {rate:.3g}"
    assert expected in str(caught.value) and "--learning-rate" in str(caught.value)
    assert expected in (tmp_path / "train.log").read_text()
    assert len(steps) == 13
    kept = checkpoints.read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert kept["global_step"] == 9
    assert all(t.isfinite().all() for t in kept["state_dict"].values())


def test_weights_that_break_in_the_last_step_of_an_epoch_are_not_saved(tiny_cifar, tmp_path, monkeypatch):
    def break_weights(self):
        if self.current_epoch == 1:
            self.network.fc.weight.data.fill_(float("nan"))

    monkeypatch.setattr(TrainingModule, "on_validation_start", break_weights)
    with pytest.raises(TrainingError, match=r"the validation loss became nan at step 18 \(epoch 2\)"):
        run(tiny_cifar, tmp_path)
    assert checkpoints.read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 9


def test_a_learning_rate_that_diverges_is_answered_with_the_flag(tiny_cifar, tmp_path):
    with pytest.raises(TrainingError, match="--learning-rate"):
        run(tiny_cifar, tmp_path, learning_rate=1e30)


def test_a_signal_does_not_save_a_network_that_computes_nan_between_two_looks(tiny_cifar, tmp_path, monkeypatch):
    as_on_cuda, original, steps = callbacks.callbacks, TrainingModule.training_step, []

    def poisoned(self, batch, batch_index):
        steps.append(batch_index)
        loss = original(self, batch, batch_index)
        if len(steps) == 13:
            os.kill(os.getpid(), signal.SIGTERM)
        if len(steps) == 12:
            self.step_losses[batch_index] = float("nan")
        return loss

    monkeypatch.setattr(fit, "callbacks", lambda *arguments: as_on_cuda(*arguments[:-1], "cuda"))
    monkeypatch.setattr(TrainingModule, "training_step", poisoned)
    with pytest.raises(NonFiniteLoss, match="nan at step 12"):
        run(tiny_cifar, tmp_path)
    assert checkpoints.read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 9


def test_a_loss_that_is_nan_in_another_process_is_reported_as_such():
    def reduce(tensor, reduce_op):  # the other process found it in step 3
        return {"min": torch.minimum(tensor, torch.tensor(3.0)), "sum": tensor + float("nan")}[reduce_op]

    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=reduce), current_epoch=1)
    module = SimpleNamespace(step_losses=torch.ones(9), device="cpu", steps_per_epoch=9, learning_rates=[0.1] * 9)
    with pytest.raises(NonFiniteLoss, match=r"became nan at step 13 \(epoch 2\)"):
        callbacks.raise_if_not_finite(trainer, module, 5)


needs_a_full_device = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")


@pytest.mark.slow
@needs_a_full_device
@pytest.mark.parametrize("name", ["last.tmp", "best.tmp"])
def test_a_disk_that_fills_up_stops_the_run_and_it_can_go_on(tiny_cifar, tmp_path, monkeypatch, finished, name):
    def fill(self, trainer, module):
        if trainer.current_epoch == 1:
            (tmp_path / "checkpoints" / name).symlink_to("/dev/full")

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.PredictionPanel, "on_train_epoch_start", fill, raising=False)
        patch.setattr(checkpoints.MovableCheckpoint, "check_monitor_top_k", lambda *_: True)  # save "best" every time
        with pytest.raises(TrainingError, match="could not be saved .No space left on device.*--resume"):
            run(tiny_cifar, tmp_path)
    assert checkpoints.read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 9
    run(tiny_cifar, tmp_path, resume=True)
    assert history(tmp_path) == history(finished["cosine"])
    assert equal(weights(tmp_path), weights(finished["cosine"]))


@needs_a_full_device
def test_a_history_that_cannot_be_written_stops_the_run_with_a_sentence(tiny_cifar, tmp_path, monkeypatch):
    def fill(self, trainer, module):
        (tmp_path / "history.tmp").symlink_to("/dev/full")

    monkeypatch.setattr(callbacks.PredictionPanel, "on_train_epoch_start", fill, raising=False)
    with pytest.raises(
        TrainingError, match="the operating system refused something to the run .*No space left on device"
    ):
        run(tiny_cifar, tmp_path)


@pytest.mark.slow
@needs_a_full_device
def test_a_log_that_cannot_be_written_ends_no_run(tiny_cifar, tmp_path, finished, capsys):
    (tmp_path / "train.log").symlink_to("/dev/full")
    run(tiny_cifar, tmp_path)
    assert history(tmp_path) == history(finished["cosine"])
    assert capsys.readouterr().err == ""


@needs_a_full_device
def test_a_lock_that_cannot_be_written_is_a_folder_that_cannot(tiny_cifar, tmp_path):
    (tmp_path / "lock").symlink_to("/dev/full")
    with pytest.raises(RunError, match="cannot be written .*choose another --output-dir"):
        run(tiny_cifar, tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("CUDA error: out of memory\nmore"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_too_little_device_memory_names_the_flag_to_lower(tiny_cifar, tmp_path, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(TrainingModule, "training_step", full)
    with pytest.raises(TrainingError, match=r"--batch-size 30: give a lower one, [^\n]* \(CUDA [^\n]*\)$"):
        run(tiny_cifar, tmp_path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("No working C++ compiler found\nmore"),
            r"--compile failed \(RuntimeError: No working C\+\+ comp",
        ),
        (FileNotFoundError(2, "No such file or directory", "g++"), r"--compile failed \(FileNotFoundError: .*'g\+\+'"),
        (
            RuntimeError("A subprocess said:\n\nTraceback\nOSError: disk full\n"),
            r"\(RuntimeError: OSError: disk full\)",
        ),
        (TritonMissing(None), r"--compile failed \(TritonMissing: Cannot find a working triton"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried.\nmore"), "--batch-size 30: give a lower one"),
    ],
)
def test_what_ends_a_compilation_is_told_in_a_sentence(tiny_cifar, tmp_path, monkeypatch, error, words):
    def broken(*_):
        raise error

    monkeypatch.setattr(fit, "compile_if_asked", lambda network, config: network.compile(backend=broken))
    with pytest.raises(TrainingError, match=words) as told:
        run(tiny_cifar, tmp_path, compile=True)
    assert "\n" not in str(told.value)


def test_more_devices_than_there_are_is_refused(tiny_cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="--devices is 2, but this machine has 1"):
        run(tiny_cifar, tmp_path / "run", device="cuda", devices=2)
    assert not (tmp_path / "run").exists()


def test_too_few_images_for_a_batch_of_several_devices_is_refused(tiny_cifar, tmp_path):
    with pytest.raises(ConfigError, match="--batch-size is 300, but there are only 270"):
        run(tiny_cifar, tmp_path / "run", devices=2, batch_size=300)


# Speed


class HostLooks(TorchFunctionMode):
    """Counts what makes the host wait for an accelerator: reading values, or a size that depends on values."""

    WAITS = {"tolist", "item", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "__array__", "nonzero"}
    WAITS |= {"masked_select", "unique", "equal", "allclose"}

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += getattr(function, "__name__", "") in self.WAITS
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("look", [lambda x: x.tolist(), lambda x: x.cpu(), lambda x: bool(x), lambda x: x.nonzero()])
def test_the_counter_of_looks_sees_them(look):
    with HostLooks() as looks:
        look(torch.ones(()))
    assert looks.count == 1


@pytest.mark.parametrize("settings", [{}, {"crop": "resized", "schedule": "plateau"}], ids=["pad", "resized"])
def test_no_step_looks_at_what_the_device_computed(tiny_cifar, tmp_path, monkeypatch, settings):
    as_on_cuda = callbacks.callbacks
    monkeypatch.setattr(fit, "callbacks", lambda *arguments: as_on_cuda(*arguments[:-1], "cuda"))
    at_steps = []
    original = TrainingModule.training_step

    def step(self, *batch):
        at_steps.append(looks.count)
        return original(self, *batch)

    monkeypatch.setattr(TrainingModule, "training_step", step)
    with HostLooks() as looks:
        run(tiny_cifar, tmp_path, max_epochs=2, **settings)
    first, second = at_steps[:9], at_steps[9:]
    assert len(set(first)) == 1 and len(set(second)) == 1
    assert second[0] > first[0]  # it does look when the epoch ends


# Lengths and records


def test_a_run_with_max_steps_ends_in_mid_epoch_with_a_row_for_what_was_trained(tiny_cifar, tmp_path):
    run(tiny_cifar, tmp_path, max_steps=13, schedule="steps")
    rows = history(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.02, 0.002])  # milestones at steps 6 and 9
    assert checkpoints.read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 13
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    run(tiny_cifar, tmp_path, resume=True, max_steps=13, schedule="steps")  # nothing is left to do
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


def test_deterministic_reaches_pytorch_and_gives_the_same_weights_on_the_cpu(tiny_cifar, tmp_path, finished):
    try:
        run(tiny_cifar, tmp_path, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert equal(weights(tmp_path), weights(finished["cosine"]))


def test_the_run_folder_keeps_the_printed_table_and_the_peak_of_memory(tiny_cifar, tmp_path, capsys):
    run(tiny_cifar, tmp_path, max_epochs=1)
    printed = capsys.readouterr().out.splitlines()
    logged = (tmp_path / "train.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in logged] == printed and len(printed) == 2
    found = json.loads((tmp_path / "run.json").read_text())
    assert 50e6 < found["peak_memory_bytes"]["host"] < 10e9 and found["peak_memory_bytes"]["device"] is None
    assert read_history(tmp_path)[0]["seconds"] < found["fit_seconds"] < 60


def test_the_progress_bar_shows_epoch_loss_speed_and_val_accuracy_also_after_an_interruption(
    tiny_cifar, tmp_path, monkeypatch
):
    shown = []
    metrics_of, original = callbacks.ProgressBar.get_metrics, TrainingModule.training_step

    def get_metrics(self, trainer, module):
        bar, metrics = self.train_progress_bar, metrics_of(self, trainer, module)
        shown.append((bar.desc, bar.n, bar.total, metrics))
        return metrics

    def interrupt(self, batch, batch_index):
        if self.global_step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_index)

    monkeypatch.setattr(callbacks.ProgressBar, "get_metrics", get_metrics)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupt)
        with pytest.raises(Interrupted):
            fit.fit(TrainConfig(**TINY), tiny_cifar, tmp_path, resume=False, progress_bar=True)
    assert {total for _, _, total, _ in shown} == {9}
    assert {epoch.rstrip(": ") for epoch, *_ in shown} == {"Epoch 1", "Epoch 2"}
    assert all({"loss", "images/s"} <= metrics.keys() for *_, metrics in shown)
    val_accuracy = read_history(tmp_path)[0]["val_accuracy"]
    assert shown[-1][3]["val acc"] == f"{val_accuracy:.2%}" and "val acc" not in shown[0][3]
    shown.clear()
    fit.fit(TrainConfig(**TINY), tiny_cifar, tmp_path, resume=True, progress_bar=True)
    assert {total for _, _, total, _ in shown} == {9}
    assert {epoch.rstrip(": ") for epoch, *_ in shown} == {"Epoch 2", "Epoch 3"}
    assert float(shown[0][3]["loss"]) < 100 and shown[0][1] >= 4


def test_a_run_of_an_older_version_without_the_newer_settings_is_resumed(tiny_cifar, tmp_path, monkeypatch):
    cut_short(tiny_cifar, tmp_path, monkeypatch, epoch=1)
    description = json.loads((tmp_path / "run.json").read_text())
    for name in ("devices", "num_nodes", "max_steps", "deterministic"):
        del description["hyperparameters"][name]
    (tmp_path / "run.json").write_text(json.dumps(description))
    run(tiny_cifar, tmp_path, resume=True)
    assert len(history(tmp_path)) == 3


def test_a_run_that_moved_to_another_kind_of_device_steps_as_that_one_does(tiny_cifar, tmp_path, monkeypatch):
    cut_short(tiny_cifar, tmp_path, monkeypatch, epoch=1)
    path = tmp_path / checkpoints.FOLDER / checkpoints.LAST

    def saved() -> tuple[dict, list[dict]]:
        checkpoint = torch.load(path, weights_only=True)
        return checkpoint, checkpoint["optimizer_states"][0]["param_groups"]

    checkpoint, (group,) = saved()
    assert group["fused"] is None
    group["fused"] = True  # as on CUDA
    torch.save(checkpoint, path)
    run(tiny_cifar, tmp_path, resume=True)
    assert [group["fused"] for group in saved()[1]] == [None]


def test_the_clock_of_an_interrupted_epoch_goes_on_and_that_of_the_next_begins_anew(tiny_cifar, tmp_path, monkeypatch):
    original = TrainingModule.training_step

    def interrupt(self, batch, batch_index):
        if self.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupt)
        with pytest.raises(Interrupted):
            run(tiny_cifar, tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint = checkpoints.read_checkpoint(last)
    assert 0 < checkpoint["epoch_so_far"]["seconds"] < 60
    checkpoint["epoch_so_far"]["seconds"] = 1000.0
    torch.save(checkpoint, last)
    run(tiny_cifar, tmp_path, resume=True)
    rows = read_history(tmp_path)
    assert rows[0]["seconds"] > 1000 and rows[0]["images_per_second"] < 0.27
    assert all(row["seconds"] < 100 and row["images_per_second"] > 2.7 for row in rows[1:])


def test_a_second_signal_does_not_wait_for_the_step(tmp_path):
    stop = callbacks.StopOnSignal(tmp_path / "last.ckpt", look_every=1)
    stop._note(signal.SIGINT, None)
    with pytest.raises(Interrupted):
        stop._note(signal.SIGINT, None)
