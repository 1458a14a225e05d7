import json
import shutil
from pathlib import Path

import pytest
import torch

from model import artifact
from model.resnet import ResNet
from model.schema import to_json
from tests.conftest import reseal
from tests.hub_client import REPO
from tests.test_fit import equal, history, run, weights
from trainer import data, fit
from trainer.callbacks import PredictionPanel
from trainer.config import ConfigError, TrainConfig
from trainer.data import load_training_data
from trainer.export import export
from trainer.module import TrainingModule
from trainer.pretrained import load_pretrained
from trainer.run import RunError


def config(**settings):
    return TrainConfig(**{"depth": 8} | {name: str(value) for name, value in settings.items()})


def test_the_training_begins_with_the_weights_of_an_artifact(tiny_cifar, tiny_artifact, tmp_path, monkeypatch):
    seen = {}

    def keep(self, trainer, module):
        seen.update({name: value.clone() for name, value in module.network.state_dict().items()})

    monkeypatch.setattr(PredictionPanel, "on_train_start", keep, raising=False)
    run(tiny_cifar, tmp_path / "run", max_epochs=1, initial_weights=str(tiny_artifact))
    assert equal(seen, ResNet.from_pretrained(tiny_artifact).state_dict())


def test_mean_and_deviation_are_those_of_the_runs_own_images(tiny_cifar, tiny_artifact, tmp_path):
    run_dir = run(tiny_cifar, tmp_path / "run", max_epochs=1, initial_weights=str(tiny_artifact), train_images=100)
    mean = json.loads((run_dir / "run.json").read_text())["mean"]
    assert weights(run_dir)["network.mean"].flatten().tolist() == pytest.approx(mean)
    assert mean != pytest.approx(ResNet.from_pretrained(tiny_artifact).mean.flatten().tolist())


def test_a_run_and_its_artifact_tell_which_networks_took_part(tiny_cifar, tiny_artifact, tmp_path):
    source = str(tiny_artifact)
    assert Path(source).is_absolute()
    run(tiny_cifar, tmp_path / "run", max_epochs=1, initial_weights=source, teacher=source)
    metrics, config = artifact.read(tiny_artifact).metrics, artifact.read(tiny_artifact).config
    expected = {"recipe": "default", "seed": 0, "epochs": 2, "depth": 8} | {
        "parameters": metrics.training.parameters,
        "val_accuracy": metrics.val.accuracy,
        "sha256": config.sha256[artifact.WEIGHTS],
    }
    both = {"initial_weights": expected, "teacher": expected}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["pretrained"] == both
    training = artifact.read(export(tmp_path / "run", tiny_cifar)).metrics.training
    assert to_json(training.pretrained) == both and training.hyperparameters["teacher"] == tiny_artifact.name
    for file in (tmp_path / "run" / "artifact").rglob("*"):  # published, unlike run.json
        assert not file.is_file() or source.encode() not in file.read_bytes()


def test_a_teacher_is_asked_in_eval_mode_about_what_the_network_sees_and_stays_as_it_is(
    tiny_cifar, tiny_artifact, tmp_path, monkeypatch
):
    before = ResNet.from_pretrained(tiny_artifact).state_dict()
    teachers, asked = [], []
    original = TrainingModule.training_step

    def watched(self, batch, batch_index):
        if not teachers:
            teachers.extend(self._teachers)
            teachers[0].register_forward_hook(lambda module, images, _: asked.append((module.training, images[0])))
        loss = original(self, batch, batch_index)
        assert torch.equal(asked[-1][1], batch[0])
        return loss

    monkeypatch.setattr(TrainingModule, "training_step", watched)
    run(tiny_cifar, tmp_path / "run", max_epochs=2, teacher=str(tiny_artifact))
    assert len(asked) == 2 * 9 and not any(training for training, _ in asked)
    assert equal(teachers[0].state_dict(), before)
    assert not [name for name in weights(tmp_path / "run") if not name.startswith("network.")]


@pytest.mark.slow
def test_an_interrupted_distillation_goes_on_bit_for_bit(tiny_cifar, tiny_artifact, tmp_path, monkeypatch):
    settings = {"teacher": str(tiny_artifact), "initial_weights": str(tiny_artifact), "max_epochs": 2}
    whole = run(tiny_cifar, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(PredictionPanel, "on_train_epoch_start", fail_in_second_epoch, raising=False)
        with pytest.raises(ZeroDivisionError):
            run(tiny_cifar, tmp_path / "cut", **settings)
    cut = run(tiny_cifar, tmp_path / "cut", resume=True, **settings)
    assert history(cut) == history(whole) and equal(weights(cut), weights(whole))


def fail_in_second_epoch(self, trainer, module):
    if trainer.current_epoch == 1:
        raise ZeroDivisionError


def test_a_network_that_has_seen_validation_images_is_refused(tiny_cifar, tiny_artifact, monkeypatch):
    here = load_training_data(tiny_cifar).split.val_sha256()
    part = load_training_data(tiny_cifar, train_images=100).split.val_sha256()
    monkeypatch.setattr(data, "SPLIT_SEED", 1)
    elsewhere = load_training_data(tiny_cifar).split.val_sha256()
    for name in ("teacher", "initial_weights"):
        assert load_pretrained(config(**{name: tiny_artifact}), here).keys() == {name}
        assert load_pretrained(config(**{name: tiny_artifact}), part)
        with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} .* trained with other validation images"):
            load_pretrained(config(**{name: tiny_artifact}), elsewhere)


def test_an_artifact_that_does_not_say_what_it_was_trained_on_is_refused(tiny_artifact, tmp_path):
    folder = shutil.copytree(tiny_artifact, tmp_path / "old")
    metrics = json.loads((folder / artifact.METRICS).read_text())
    val_sha256 = metrics["training"]["split"].pop("val_sha256")
    artifact.write_json(folder / artifact.METRICS, metrics)
    reseal(folder)
    with pytest.raises(ConfigError, match="other validation images"):
        load_pretrained(config(teacher=folder), val_sha256)


def test_a_network_of_other_classes_is_refused(tiny_cifar, tiny_artifact, monkeypatch):
    from model import cifar10

    val_sha256 = load_training_data(tiny_cifar).split.val_sha256()
    monkeypatch.setattr(cifar10, "CLASS_NAMES", tuple(reversed(cifar10.CLASS_NAMES)))
    with pytest.raises(ConfigError, match="has other classes"):
        load_pretrained(config(teacher=tiny_artifact), val_sha256)


@pytest.mark.parametrize(("name", "value"), [("depth", 14), ("stem_kernel", 1), ("shortcut", "B")])
def test_first_weights_must_be_those_of_the_same_architecture_a_teacher_need_not(
    tiny_cifar, tiny_artifact, name, value
):
    val_sha256 = load_training_data(tiny_cifar).split.val_sha256()
    other = {"depth": 8} | {name: value}
    with pytest.raises(ConfigError, match=f"has --{name.replace('_', '-')} .*, not {value}"):
        load_pretrained(TrainConfig(initial_weights=str(tiny_artifact), **other), val_sha256)
    assert load_pretrained(TrainConfig(teacher=str(tiny_artifact), **other), val_sha256)["teacher"].facts["depth"] == 8


def test_resuming_is_refused_with_another_network_and_not_with_the_same_one_in_another_place(
    tiny_cifar, tiny_artifact, tmp_path
):
    settings = {"max_epochs": 1, "teacher": str(tiny_artifact)}
    path = run(tiny_cifar, tmp_path / "run", **settings) / "run.json"
    moved = shutil.copytree(tiny_artifact, tmp_path / "moved")
    run(tiny_cifar, tmp_path / "run", resume=True, **settings | {"teacher": str(moved)})
    path.write_text(path.read_text().replace(json.loads(path.read_text())["pretrained"]["teacher"]["sha256"], "0" * 64))
    with pytest.raises(RunError, match="another network as --teacher"):
        run(tiny_cifar, tmp_path / "run", resume=True, **settings)


def test_a_teacher_may_come_from_the_hub(tiny_cifar, hub, sha):
    val_sha256 = load_training_data(tiny_cifar).split.val_sha256()
    found = load_pretrained(config(teacher=REPO), val_sha256)["teacher"]
    assert found.facts["epochs"] == 2 and found.facts["source"] == f"hub:{REPO}@{sha}"


def test_nothing_is_written_where_a_network_cannot_take_part(tiny_cifar, tiny_artifact, tmp_path):
    with pytest.raises(ConfigError):
        fit.fit(
            TrainConfig(depth=14, device="cpu", initial_weights=str(tiny_artifact)), tiny_cifar, tmp_path / "run", False
        )
    assert not (tmp_path / "run").exists()
