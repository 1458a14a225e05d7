"""One run: what it computes, writes and goes on from, and what it says of a fault."""

import json
import math
import os
import shutil
import signal
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.overrides import TorchFunctionMode

from model import cifar10
from model.artifact import read_history
from tests.conftest import md5_of
from trainer import callbacks, checkpoints, fit
from trainer.config import ConfigError, TrainConfig
from trainer.data import load_training_data
from trainer.errors import Interrupted, NonFiniteLoss, TrainingError
from trainer.module import TrainingModule, cosine_with_warmup
from trainer.run import RunError

TINY = {"depth": 8, "max_epochs": 3, "batch_size": 30, "device": "cpu", "precision": "32-true"}
PLATEAU = {"schedule": "plateau", "plateau_patience": 0, "learning_rate": 0.1, "max_epochs": 4}
VAL_LOSSES = (1.0, 0.5, 0.7, 0.6)
TIMING = {"seconds", "images_per_second"}


def run(data_dir, run_dir, resume=False, deadline=math.inf, progress_bar=False, **settings):
    fit.fit(TrainConfig(**TINY | settings), data_dir, run_dir, resume, deadline, progress_bar)
    return run_dir


def cut_short(data_dir, run_dir, epochs, **settings):
    """A run that ended after so many epochs."""
    for epoch in range(epochs):
        run(data_dir, run_dir, resume=epoch > 0, deadline=0, **settings)
    return run_dir


def history(run_dir):
    return [{k: v for k, v in row.items() if k not in TIMING} for row in read_history(run_dir)]


def saved(run_dir, name=checkpoints.LAST):
    return checkpoints.read_checkpoint(run_dir / checkpoints.FOLDER / name)


def weights(run_dir, name=checkpoints.LAST):
    return saved(run_dir, name)["state_dict"]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_same(run_dir, expected):
    """Weights of the last and the best epoch, momentum, and the history but for its clock."""
    assert history(run_dir) == history(expected)
    for name in (checkpoints.LAST, checkpoints.BEST):
        found, wanted = saved(run_dir, name), saved(expected, name)
        momentum, other = (each["optimizer_states"][0]["state"] for each in (found, wanted))
        assert found["epoch"] == wanted["epoch"] and equal(found["state_dict"], wanted["state_dict"])
        assert momentum.keys() == other.keys() and all(equal(momentum[key], other[key]) for key in momentum)


@pytest.fixture(scope="module")
def finished(made_up_cifar, tmp_path_factory):
    """Two uninterrupted runs, cosine and plateau."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "MD5", md5_of(made_up_cifar))
        folder = tmp_path_factory.mktemp("finished")
        cosine = run(made_up_cifar, folder / "cosine")
        script_val_losses(patch)
        return {"cosine": cosine, "plateau": run(made_up_cifar, folder / "plateau", **PLATEAU)}


def script_val_losses(patch):
    """Plateau runs see these val losses, so that what the schedule does is the same on every machine."""
    original = TrainingModule.on_validation_epoch_end

    def scripted(self):
        self.val_sums[0] = VAL_LOSSES[self.current_epoch] * self.val_sums[2]
        original(self)

    patch.setattr(TrainingModule, "on_validation_epoch_end", scripted)


@pytest.fixture
def at_step(monkeypatch):
    """at_step(number, act): `act(module, batch_index)` after that training step of the test, from 1."""

    def install(number, act):
        original, steps = TrainingModule.training_step, []

        def step(self, batch, batch_index):
            loss = original(self, batch, batch_index)
            steps.append(batch_index)
            return loss if len(steps) != number or (other := act(self, batch_index)) is None else loss * other

        monkeypatch.setattr(TrainingModule, "training_step", step)
        return steps

    return install


def as_on_cuda(monkeypatch):
    """The host looks at what the device computed as rarely as on a GPU."""
    original = callbacks.callbacks
    patched = lambda folder, names, bar, device, *rest: original(folder, names, bar, "cuda", *rest)  # noqa: E731
    monkeypatch.setattr(fit, "callbacks", patched)


# What a run computes and writes


def test_the_seed_decides_history_and_weights_whatever_is_deterministic(tiny_cifar, tmp_path, finished):
    try:
        assert_same(run(tiny_cifar, tmp_path / "again", deterministic=True), finished["cosine"])
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert history(run(tiny_cifar, tmp_path / "other", seed=1, max_epochs=1)) != history(finished["cosine"])[:1]


def test_every_epoch_has_an_order_of_its_own(tiny_cifar, tmp_path, monkeypatch):
    firsts, step = [], TrainingModule.training_step

    def noted(module, batch, index):
        if index == 0:
            firsts.append(tuple(batch[1].tolist()))
        return step(module, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", noted)
    run(tiny_cifar, tmp_path, max_epochs=2)
    assert len(set(firsts)) == len(firsts) == 2


def test_the_plateau_schedule_lowers_the_rate_after_an_epoch_without_a_lower_loss(finished):
    rows = history(finished["plateau"])
    assert [row["val_loss"] for row in rows] == pytest.approx(VAL_LOSSES)
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.1, 0.1, 0.1, 0.01])


def test_the_history_has_a_row_per_epoch_and_the_best_checkpoint_is_of_the_best(finished):
    header = (finished["cosine"] / "history.csv").read_text().splitlines()[0]
    assert header == "epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy,seconds,images_per_second"
    assert [row["epoch"] for row in history(finished["cosine"])] == [1, 2, 3]
    for run_dir in finished.values():
        best = max(history(run_dir), key=checkpoints.selection)
        assert saved(run_dir, checkpoints.BEST)["epoch"] + 1 == best["epoch"]


def test_tensorboard_gets_losses_accuracies_learning_rate_and_a_panel_of_images(finished):
    events = EventAccumulator(str(finished["cosine"] / "tensorboard")).Reload()
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr-SGD"} <= set(events.Tags()["scalars"])
    logged = events.Scalars("val/accuracy")
    assert [e.value for e in logged] == pytest.approx([row["val_accuracy"] for row in history(finished["cosine"])])
    assert [e.step for e in logged] == [8, 17, 26]  # 270 images, 30 a step
    assert [e.step for e in events.Images("val/predictions")] == [8, 17, 26]


@pytest.mark.parametrize(("max_epochs", "panels", "first"), [(50, 50, 1), (51, 26, 1), (1920, 50, 9)])
def test_a_long_run_gets_no_more_than_50_panels_the_last_of_its_last_epoch(max_epochs, panels, first):
    due = [epoch for epoch in range(1, max_epochs + 1) if callbacks.panel_is_due(epoch, max_epochs)]
    assert (len(due), due[0], due[-1]) == (panels, first, max_epochs)


def test_a_run_records_config_versions_device_split_memory_and_time(tiny_cifar, finished):
    found = json.loads((finished["cosine"] / "run.json").read_text())
    assert TrainConfig.from_hyperparameters(found["hyperparameters"]) == TrainConfig(**TINY)
    split = load_training_data(tiny_cifar).split
    assert found["split"] == {"train": 270, "val": 30, "seed": 0, "sha256": split.sha256()}
    assert found["versions"]["torch"] == version("torch")
    assert found["device"].startswith("CPU: ") and found["precision"] == "32-true"
    assert 50e6 < found["peak_memory_bytes"]["host"] < 10e9 and found["peak_memory_bytes"]["device"] is None
    assert sum(row["seconds"] for row in read_history(finished["cosine"])) < found["fit_seconds"] < 60


def test_max_steps_ends_a_run_in_mid_epoch_with_a_row_and_a_panel(tiny_cifar, tmp_path):
    run(tiny_cifar, tmp_path, max_epochs=1000, max_steps=13, schedule="steps")
    rows = history(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.02, 0.002])  # milestones at steps 6 and 9
    assert saved(tmp_path)["global_step"] == 13
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"images": 0}).Reload()
    assert [image.step for image in events.Images("val/predictions")] == [8, 12]
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    run(tiny_cifar, tmp_path, resume=True, max_epochs=1000, max_steps=13, schedule="steps")  # nothing is left to do
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


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


def test_the_progress_bar_shows_epoch_loss_speed_and_val_accuracy(tiny_cifar, tmp_path, monkeypatch):
    shown, metrics_of = [], callbacks.ProgressBar.get_metrics

    def get_metrics(self, trainer, module):
        bar, metrics = self.train_progress_bar, metrics_of(self, trainer, module)
        shown.append((bar.desc.rstrip(": "), bar.total, metrics))
        return metrics

    monkeypatch.setattr(callbacks.ProgressBar, "get_metrics", get_metrics)
    run(tiny_cifar, tmp_path, max_epochs=2, progress_bar=True)
    assert {(epoch, total) for epoch, total, _ in shown} == {("Epoch 1", 9), ("Epoch 2", 9)}
    assert all({"loss", "images/s"} <= metrics.keys() for *_, metrics in shown)
    val_accuracies = {f"{row['val_accuracy']:.2%}" for row in history(tmp_path)}
    assert "val acc" not in shown[0][2] and shown[-1][2]["val acc"] in val_accuracies


# Going on


@pytest.mark.parametrize(("schedule", "settings", "epochs"), [("cosine", {}, 1), ("plateau", PLATEAU, 2)])
def test_a_run_that_ended_early_and_was_moved_goes_on_as_if_nothing_had_happened(
    tiny_cifar, tmp_path, monkeypatch, finished, schedule, settings, epochs
):
    if schedule == "plateau":
        script_val_losses(monkeypatch)
    cut_short(tiny_cifar, tmp_path / "cut", epochs, **settings)
    assert len(history(tmp_path / "cut")) == epochs
    (tmp_path / "cut").rename(tmp_path / "moved")  # perhaps to another machine
    run(tiny_cifar, tmp_path / "moved", resume=True, **settings)
    assert_same(tmp_path / "moved", finished[schedule])
    assert len(json.loads((tmp_path / "moved" / "run.json").read_text())["resumed"]) == epochs


@pytest.mark.parametrize(("losses", "best"), [((30, 60), 0), ((60, 30), 1)])
def test_a_moved_run_still_knows_its_best_epoch_of_equals_by_the_loss(tiny_cifar, tmp_path, monkeypatch, losses, best):
    original = TrainingModule.on_validation_epoch_end

    def equally_accurate(self):
        self.val_sums[:2] = torch.tensor([losses[self.current_epoch], 20])
        original(self)

    monkeypatch.setattr(TrainingModule, "on_validation_epoch_end", equally_accurate)
    cut_short(tiny_cifar, tmp_path / "cut", 1, max_epochs=2).rename(tmp_path / "moved")
    run(tiny_cifar, tmp_path / "moved", resume=True, max_epochs=2)
    assert (saved(tmp_path / "moved", checkpoints.BEST)["epoch"], saved(tmp_path / "moved")["epoch"]) == (best, 1)


def test_a_run_ends_after_the_last_epoch_that_fits_before_its_deadline(tiny_cifar, tmp_path, monkeypatch):
    now = iter(range(0, 1000, 10))  # each epoch takes 10 seconds
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: next(now)))
    assert fit.fit(TrainConfig(**TINY), tiny_cifar, tmp_path, deadline=29) == fit.Progress(2, 3)
    assert len(history(tmp_path)) == saved(tmp_path)["epoch"] + 1 == 2


def test_resume_starts_a_run_where_there_is_none_or_it_died_in_its_first_epoch(
    tiny_cifar, tmp_path, monkeypatch, finished
):
    with monkeypatch.context() as patch:
        patch.setattr(fit.TrainingModule, "on_train_epoch_start", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tiny_cifar, tmp_path, resume=True)
    run(tiny_cifar, tmp_path, resume=True)
    assert_same(tmp_path, finished["cosine"])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_at_once_and_says_how_much_is_saved(tiny_cifar, tmp_path, at_step, signum):
    steps = at_step(13, lambda *_: os.kill(os.getpid(), signum))
    with pytest.raises(Interrupted) as told:
        run(tiny_cifar, tmp_path)
    assert str(told.value) == f"interrupted by {signum.name} in epoch 2; 1 epoch is saved"
    assert len(steps) == 13 and f"interrupted by {signum.name}" in (tmp_path / "train.log").read_text()
    assert saved(tmp_path)["global_step"] == 9


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(tiny_cifar, finished):
    before = (finished["cosine"] / "history.csv").read_bytes()
    with pytest.raises(RunError, match="already holds a run: add --resume"):
        run(tiny_cifar, finished["cosine"])
    assert (finished["cosine"] / "history.csv").read_bytes() == before


def test_resume_with_another_setting_or_on_other_data_is_refused(tiny_cifar, tmp_path, finished, monkeypatch):
    with pytest.raises(RunError, match="was started with --learning-rate 0.2, not 0.3"):
        run(tiny_cifar, finished["cosine"], resume=True, learning_rate=0.3)
    monkeypatch.setattr("trainer.data.SPLIT_SEED", 1)
    with pytest.raises(RunError, match="was trained on other data"):
        run(tiny_cifar, finished["cosine"], resume=True)
    older = shutil.copytree(finished["cosine"], tmp_path / "older")
    description = json.loads((older / "run.json").read_text())
    description["hyperparameters"]["dropout"] = 0.1
    (older / "run.json").write_text(json.dumps(description))
    with pytest.raises(RunError, match="was started with --dropout, which is no longer there"):
        run(tiny_cifar, older, resume=True)


def test_an_average_over_a_fraction_of_the_steps_is_that_of_the_decay(tiny_cifar, tmp_path):
    for name, settings in (("fraction", {"ema_fraction": 0.5}), ("decay", {"ema_decay": 1 - 1 / 4.5})):  # 9 steps
        run(tiny_cifar, tmp_path / name, max_epochs=1, **settings)
    assert_same(tmp_path / "fraction", tmp_path / "decay")


def test_a_run_of_an_older_version_or_another_device_is_resumed(tiny_cifar, tmp_path, finished):
    cut_short(tiny_cifar, tmp_path, epochs=1)
    description = json.loads((tmp_path / "run.json").read_text())
    for name in ("devices", "num_nodes", "max_steps", "deterministic"):
        del description["hyperparameters"][name]
    (tmp_path / "run.json").write_text(json.dumps(description | {"fit_seconds": 1000}))
    checkpoint = saved(tmp_path)
    checkpoint["optimizer_states"][0]["param_groups"][0]["fused"] = True  # as on CUDA
    torch.save(checkpoint, tmp_path / "checkpoints" / "last.ckpt")
    run(tiny_cifar, tmp_path, resume=True)
    assert_same(tmp_path, finished["cosine"])
    assert saved(tmp_path)["optimizer_states"][0]["param_groups"][0]["fused"] is None
    assert json.loads((tmp_path / "run.json").read_text())["fit_seconds"] > 1000  # of all attempts


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_last_checkpoint_is_named_and_the_one_before_is_used(tiny_cifar, tmp_path, finished, capsys):
    folder = cut_short(tiny_cifar, tmp_path, epochs=2) / "checkpoints"
    flip_a_bit(folder / "last.ckpt")
    capsys.readouterr()
    run(tiny_cifar, tmp_path, resume=True, deadline=0)
    told = capsys.readouterr().out.splitlines()[0]
    assert "last.ckpt is damaged (" in told and told.endswith("continuing from last.previous.ckpt, epoch 1")
    assert told in (tmp_path / "train.log").read_text()
    assert [saved(tmp_path, f"last{name}.ckpt")["global_step"] for name in (".previous", "")] == [9, 18]
    run(tiny_cifar, tmp_path, resume=True)
    assert_same(tmp_path, finished["cosine"])


def test_with_no_whole_checkpoint_left_both_are_named_and_nothing_is_changed(tiny_cifar, tmp_path):
    cut_short(tiny_cifar, tmp_path, epochs=2)
    for name in ("last.ckpt", "last.previous.ckpt"):
        flip_a_bit(tmp_path / "checkpoints" / name)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunError, match="last.ckpt is damaged.*last.previous.ckpt is damaged"):
        run(tiny_cifar, tmp_path, resume=True)
    assert (tmp_path / "run.json").read_bytes() == before


# Losses that are no numbers


def test_an_infinite_loss_stops_at_once_and_keeps_the_last_good_checkpoint(tiny_cifar, tmp_path, at_step):
    def poison(module, batch_index):
        module.step_losses[batch_index] = math.inf
        return math.inf

    steps = at_step(13, poison)
    with pytest.raises(TrainingError) as caught:
        run(tiny_cifar, tmp_path, warmup_fraction=0.0)
    rate = 0.2 * cosine_with_warmup(12, 27, 0.0)
    expected = f"the training loss became inf at step 13 (epoch 2) with learning rate {rate:.3g}"
    assert expected in str(caught.value) and "--learning-rate" in str(caught.value)
    assert expected in (tmp_path / "train.log").read_text()
    assert len(steps) == 13 and saved(tmp_path)["global_step"] == 9
    assert all(t.isfinite().all() for t in saved(tmp_path)["state_dict"].values())


@pytest.mark.parametrize("where", ["a loss between two looks", "weights in the last step of an epoch"])
def test_a_network_that_computes_nan_is_not_saved(tiny_cifar, tmp_path, monkeypatch, at_step, where):
    def break_weights(self):
        if self.current_epoch == 1:
            self.network.fc.weight.data.fill_(float("nan"))

    if where.startswith("a loss"):
        as_on_cuda(monkeypatch)
        at_step(12, lambda module, index: module.step_losses[index].fill_(float("nan")) and None)
        words = "training loss became nan at step 12"
    else:
        monkeypatch.setattr(TrainingModule, "on_validation_start", break_weights)
        words = r"validation loss became nan at step 18 \(epoch 2\)"
    with pytest.raises(NonFiniteLoss, match=words):
        run(tiny_cifar, tmp_path)
    assert saved(tmp_path)["global_step"] == 9


def test_a_loss_that_is_nan_in_another_process_is_reported_as_such():
    def reduce(tensor, reduce_op):  # the other process found it in step 3
        return {"min": torch.minimum(tensor, torch.tensor(3.0)), "sum": tensor + float("nan")}[reduce_op]

    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=reduce), current_epoch=1, is_last_batch=False)
    trainer.global_step = 15
    module = SimpleNamespace(
        step_losses=torch.ones(9), device="cpu", steps_per_epoch=9, total_steps=27, learning_rates=[0.1] * 9
    )
    with pytest.raises(NonFiniteLoss, match=r"became nan at step 13 \(epoch 2\)"):
        callbacks.StopOnNonFiniteLoss(1).on_train_batch_end(trainer, module, None, None, 5)


# What the system refuses

needs_a_full_device = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")


@needs_a_full_device
def test_a_disk_that_fills_up_stops_the_run_and_it_can_go_on(tiny_cifar, tmp_path, finished):
    cut_short(tiny_cifar, tmp_path, epochs=1)
    for name, words in {
        "history.tmp": "the operating system refused something to the run .*No space left on device",
        "checkpoints/last.tmp": "last.ckpt could not be saved .No space left on device.*--resume",
    }.items():
        (tmp_path / name).symlink_to("/dev/full")
        with pytest.raises(TrainingError, match=words):
            run(tiny_cifar, tmp_path, resume=True)
        (tmp_path / name).unlink(missing_ok=True)
    run(tiny_cifar, tmp_path, resume=True)
    assert_same(tmp_path, finished["cosine"])


@needs_a_full_device
def test_a_log_that_cannot_be_written_ends_no_run(tiny_cifar, tmp_path, capsys):
    (tmp_path / "train.log").symlink_to("/dev/full")
    run(tiny_cifar, tmp_path, max_epochs=1)
    assert len(history(tmp_path)) == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["", "run.json.tmp", "train.log"])
def test_an_output_folder_that_cannot_be_written_is_refused_before_training(tiny_cifar, tmp_path, name):
    (tmp_path / "file").write_text("")
    run_dir = tmp_path / "run" if name else tmp_path / "file" / "run"
    if name:
        (run_dir / name).mkdir(parents=True)
    with pytest.raises(RunError, match="cannot be written .*choose another --output-dir"):
        run(tiny_cifar, run_dir)


TRAINING, READING = "trainer.module.TrainingModule.training_step", "model.cifar10.read_train"
OUT_OF_MEMORY = [
    (TRAINING, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")),
    (TRAINING, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    (TRAINING, RuntimeError("[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory: you")),
    (READING, MemoryError("Unable to allocate 527. MiB for an array with shape (45000, 32, 32, 3)")),
    (TRAINING, RuntimeError("can't start new thread")),
]


def raising(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(("where", "error"), OUT_OF_MEMORY, ids=str)
def test_too_little_memory_names_the_flag_to_lower(tiny_cifar, tmp_path, monkeypatch, where, error):
    monkeypatch.setattr(where, raising(error))
    with pytest.raises(TrainingError, match=r"too little memory for --batch-size 30: give a lower one, [^\n]*$"):
        run(tiny_cifar, tmp_path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file or directory", "g++"), r"--compile failed \(FileNotFoundError: .*'g\+\+'"),
        (RuntimeError("It said:\n\nTraceback\nOSError: disk full\n"), r"\(RuntimeError: OSError: disk full\)"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried.\nmore"), "--batch-size 30: give a lower one"),
    ],
)
def test_what_ends_a_compilation_is_told_in_a_sentence(tiny_cifar, tmp_path, monkeypatch, error, words):
    monkeypatch.setattr(fit, "compile_if_asked", lambda network, config: network.compile(backend=raising(error)))
    with pytest.raises(TrainingError, match=words) as told:
        run(tiny_cifar, tmp_path, compile=True)
    assert "\n" not in str(told.value)


def test_a_missing_triton_of_which_pytorch_tells_otherwise_is_told_alike(tiny_cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(TRAINING, raising(RuntimeError("Cannot find a working triton installation.\nmore")))
    with pytest.raises(TrainingError, match=r"--compile failed \(RuntimeError: Cannot find a working triton ins"):
        run(tiny_cifar, tmp_path, compile=True)


# Devices


def pretend(monkeypatch, cuda=0, mps=False, bf16=False, amx=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 or including_emulation)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)


@pytest.mark.parametrize(
    ("machine", "device", "precision"),
    [
        ({"cuda": 1, "mps": True, "bf16": True}, "cuda", "bf16-mixed"),
        ({"cuda": 1}, "cuda", "16-mixed"),  # T4, V100
        ({"mps": True, "amx": True}, "mps", "32-true"),
        ({}, "cpu", "32-true"),
        ({"amx": True}, "cpu", "bf16-mixed"),
    ],
)
def test_the_automatic_device_and_precision_are_the_fastest_there_are(monkeypatch, machine, device, precision):
    pretend(monkeypatch, **machine)
    assert fit.resolve_device("auto") == device and fit.resolve_precision("auto", device) == precision
    assert fit.resolve_precision("32-true", device) == "32-true"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "mps"}, "--device is mps, .*; available: cuda, cpu"),
        ({"device": "cuda", "devices": 2}, "--devices is 2, but this machine has 1"),
        ({"device": "cuda", "precision": "bf16-mixed"}, "--precision is bf16-mixed, which this GPU does not support"),
        ({"precision": "16-mixed"}, "--precision is 16-mixed, which is for CUDA GPUs, not for the device cpu"),
        ({"compile": True, "cuda_graphs": True}, "--cuda-graphs has no effect on the device cpu: leave it out"),
        ({"devices": 2, "batch_size": 300}, "--batch-size is 300, but there are only 270"),
        ({"num_nodes": 2}, "--num-nodes is 2: start the trainer with torchrun or srun"),
    ],
)
def test_what_the_machine_cannot_do_is_refused_before_training(tiny_cifar, tmp_path, monkeypatch, settings, words):
    pretend(monkeypatch, cuda=1)
    with pytest.raises(ConfigError, match=words):
        run(tiny_cifar, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


SLURM = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "t", "SLURM_NODELIST": "localhost", "SLURM_NNODES": "1"}
SLURM |= {"SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}


def test_in_a_slurm_job_without_srun_one_device_trains_as_anywhere(tiny_cifar, tmp_path, monkeypatch, finished):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert_same(run(tiny_cifar, tmp_path), finished["cosine"])


def test_srun_with_another_number_of_tasks_than_devices_is_refused(tiny_cifar, tmp_path, monkeypatch):
    for name, value in (SLURM | {"SLURM_STEP_NUM_TASKS": "4"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="srun started 4 tasks, .* is 1: use srun --ntasks 1"):
        run(tiny_cifar, tmp_path)


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


def test_no_step_looks_at_what_the_device_computed(tiny_cifar, tmp_path, monkeypatch):
    as_on_cuda(monkeypatch)
    at_steps, original = [], TrainingModule.training_step

    def step(self, *batch):
        at_steps.append(looks.count)
        return original(self, *batch)

    monkeypatch.setattr(TrainingModule, "training_step", step)
    with HostLooks() as looks:
        run(tiny_cifar, tmp_path, max_epochs=2, ema_decay=0.9, crop="resized", schedule="plateau")
    first, second = at_steps[:9], at_steps[9:]
    assert len(set(first)) == 1 and len(set(second)) == 1
    assert second[0] > first[0]  # it does look when the epoch ends
