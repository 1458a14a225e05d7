import json
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from model.artifact import read_history
from trainer import callbacks, fit
from trainer.config import ConfigError, TrainConfig
from trainer.data import load_training_data
from trainer.module import TrainingModule
from trainer.run import RunError

TINY = {"depth": 8, "max_epochs": 3, "batch_size": 30, "device": "cpu", "precision": "32-true"}
TIMING = {"seconds", "images_per_second"}


def run(data_dir, run_dir, resume=False, **settings):
    fit.fit(TrainConfig(**TINY | settings), data_dir, run_dir, resume, progress_bar=False)
    return run_dir


def history(run_dir):
    return [{k: v for k, v in row.items() if k not in TIMING} for row in read_history(run_dir)]


def weights(run_dir, name=callbacks.LAST):
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
    class PowerCut(Exception):
        pass

    settings = PLATEAU if schedule == "plateau" else {}
    if schedule == "plateau":
        script_val_losses(monkeypatch)

    def cut(self, trainer, module):
        if trainer.current_epoch == epoch:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.PredictionPanel, "on_train_epoch_start", cut, raising=False)
        with pytest.raises(PowerCut):
            run(tiny_cifar, tmp_path / "cut", **settings)
    assert len(history(tmp_path / "cut")) == epoch
    (tmp_path / "cut").rename(tmp_path / "moved")  # perhaps to another machine
    run(tiny_cifar, tmp_path / "moved", resume=True, **settings)
    assert history(tmp_path / "moved") == history(finished[schedule])
    assert equal(weights(tmp_path / "moved"), weights(finished[schedule]))
    assert equal(weights(tmp_path / "moved", callbacks.BEST), weights(finished[schedule], callbacks.BEST))
    assert len(json.loads((tmp_path / "moved" / "run.json").read_text())["resumed"]) == 1


def test_a_run_that_died_in_its_first_epoch_starts_again(tiny_cifar, tmp_path, monkeypatch, finished):
    with monkeypatch.context() as patch:
        patch.setattr(fit.TrainingModule, "on_train_epoch_start", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tiny_cifar, tmp_path / "cut")
    run(tiny_cifar, tmp_path / "cut", resume=True)
    assert history(tmp_path / "cut") == history(finished["cosine"])


def test_a_moved_run_still_knows_its_best_epoch(tmp_path):
    before, _ = callbacks.checkpoints(tmp_path / "before")
    best = str(tmp_path / "before" / "best.ckpt")
    before.best_model_path, before.best_model_score = best, torch.tensor(0.92)
    before.kth_best_model_path, before.kth_value = best, torch.tensor(0.92)
    before.best_k_models = {best: torch.tensor(0.92)}
    after, _ = callbacks.checkpoints(tmp_path / "after")
    after.load_state_dict(before.state_dict())
    assert after.best_model_path == str(tmp_path / "after" / "best.ckpt")
    alone = SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=lambda decision: decision))
    assert not after.check_monitor_top_k(alone, torch.tensor(0.80))
    assert after.check_monitor_top_k(alone, torch.tensor(0.93))


def test_the_plateau_schedule_lowers_the_rate_after_an_epoch_without_a_lower_val_loss(finished):
    rows = history(finished["plateau"])
    assert [row["val_loss"] for row in rows] == pytest.approx(VAL_LOSSES)
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.1, 0.1, 0.1, 0.01])


def test_the_best_checkpoint_is_the_first_epoch_with_the_highest_val_accuracy(finished):
    for run_dir in finished.values():
        rows = history(run_dir)
        best = max(rows, key=lambda row: row["val_accuracy"])
        checkpoint = torch.load(run_dir / "checkpoints" / callbacks.BEST, weights_only=True)
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
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert fit.resolve_precision("auto", device) == expected
    assert fit.resolve_precision("32-true", device) == "32-true"
