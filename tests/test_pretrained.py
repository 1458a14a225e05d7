"""Networks that take part in a training: the one it begins with, the one that teaches."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model import artifact
from model.resnet import ResNet
from model.schema import to_json
from tests.conftest import reseal
from tests.hub_client import REPO
from tests.test_fit import assert_same, cut_short, equal, run, weights
from trainer import data
from trainer.config import ConfigError, TrainConfig
from trainer.data import load_training_data
from trainer.export import export
from trainer.pretrained import load_pretrained
from trainer.run import RunError


def config(**settings):
    return TrainConfig(**{"depth": 8} | {name: str(value) for name, value in settings.items()})


def test_the_training_begins_with_an_artifacts_weights_not_with_its_mean(tiny_cifar, tiny_artifact, tmp_path):
    settings = {"max_epochs": 1, "learning_rate": 1e-12, "initial_weights": str(tiny_artifact), "train_images": 100}
    run_dir = run(tiny_cifar, tmp_path / "run", **settings)
    trained, first = weights(run_dir), ResNet.from_pretrained(tiny_artifact)
    for name, parameter in first.named_parameters():
        assert torch.allclose(trained[f"network.{name}"], parameter, atol=1e-6), name
    mean = json.loads((run_dir / "run.json").read_text())["mean"]  # of the run's own images
    assert trained["network.mean"].flatten().tolist() == pytest.approx(mean)
    assert mean != pytest.approx(first.mean.flatten().tolist())


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


def test_a_teacher_is_in_eval_mode_teaches_and_is_no_part_of_the_result(tiny_cifar, tiny_artifact, tmp_path):
    data = load_training_data(tiny_cifar)
    teacher = load_pretrained(config(teacher=tiny_artifact), data)["teacher"].network
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    taught = weights(run(tiny_cifar, tmp_path / "taught", max_epochs=1, teacher=str(tiny_artifact)))
    alone = weights(run(tiny_cifar, tmp_path / "alone", max_epochs=1))
    assert taught.keys() == alone.keys() and all(name.startswith("network.") for name in taught)
    assert not equal(taught, alone)


def test_a_distillation_that_was_cut_short_goes_on_bit_for_bit(tiny_cifar, tiny_artifact, tmp_path):
    settings = {"max_epochs": 2, "teacher": str(tiny_artifact), "initial_weights": str(tiny_artifact)}
    cut = cut_short(tiny_cifar, tmp_path / "cut", 1, **settings)
    assert_same(run(tiny_cifar, cut, resume=True, **settings), run(tiny_cifar, tmp_path / "whole", **settings))


def test_a_network_that_has_seen_validation_images_is_refused(tiny_cifar, tiny_artifact, monkeypatch):
    here = load_training_data(tiny_cifar)
    part = load_training_data(tiny_cifar, train_images=100)
    monkeypatch.setattr(data, "SPLIT_SEED", 1)
    elsewhere = load_training_data(tiny_cifar)
    for name in ("teacher", "initial_weights"):
        assert load_pretrained(config(**{name: tiny_artifact}), here).keys() == {name}
        assert load_pretrained(config(**{name: tiny_artifact}), part)
        with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} .* trained with other validation images"):
            load_pretrained(config(**{name: tiny_artifact}), elsewhere)


def test_a_network_of_unknown_validation_images_or_of_other_classes_is_refused(tiny_cifar, tiny_artifact, tmp_path):
    data = load_training_data(tiny_cifar)
    other = replace(data, class_names=tuple(reversed(data.class_names)))
    with pytest.raises(ConfigError, match="has other classes"):
        load_pretrained(config(teacher=tiny_artifact), other)
    folder = shutil.copytree(tiny_artifact, tmp_path / "older")
    metrics = artifact.read(folder).metrics
    split = replace(metrics.training.split, val_sha256=None)
    artifact.write_metrics(folder, replace(metrics, training=replace(metrics.training, split=split)))
    reseal(folder)
    with pytest.raises(ConfigError, match="other validation images"):
        load_pretrained(config(teacher=folder), data)


@pytest.mark.parametrize(("name", "value"), [("depth", 14), ("shortcut", "B")])
def test_first_weights_must_be_of_the_same_architecture_a_teacher_need_not(
    tiny_cifar, tiny_artifact, tmp_path, name, value
):
    data = load_training_data(tiny_cifar)
    other = {"depth": 8} | {name: value}
    with pytest.raises(ConfigError, match=f"has --{name.replace('_', '-')} .*, not {value}"):
        load_pretrained(TrainConfig(initial_weights=str(tiny_artifact), **other), data)
    assert load_pretrained(TrainConfig(teacher=str(tiny_artifact), **other), data)["teacher"].facts["depth"] == 8
    with pytest.raises(ConfigError):
        run(tiny_cifar, tmp_path / "run", initial_weights=str(tiny_artifact), **other)
    assert not (tmp_path / "run").exists()


def test_resuming_is_refused_with_another_network_not_with_a_moved_one(tiny_cifar, tiny_artifact, tmp_path):
    settings = {"max_epochs": 1, "teacher": str(tiny_artifact)}
    path = run(tiny_cifar, tmp_path / "run", **settings) / "run.json"
    moved = shutil.copytree(tiny_artifact, tmp_path / "moved")
    run(tiny_cifar, tmp_path / "run", resume=True, **settings | {"teacher": str(moved)})
    with pytest.raises(RunError, match="was started with --teacher .*, not None"):
        run(tiny_cifar, tmp_path / "run", resume=True, max_epochs=1)
    path.write_text(path.read_text().replace(json.loads(path.read_text())["pretrained"]["teacher"]["sha256"], "0" * 64))
    with pytest.raises(RunError, match="another network as --teacher"):
        run(tiny_cifar, tmp_path / "run", resume=True, **settings)


def test_a_teacher_may_come_from_the_hub(tiny_cifar, hub, sha):
    data = load_training_data(tiny_cifar)
    found = load_pretrained(config(teacher=REPO), data)["teacher"]
    assert found.facts["epochs"] == 2 and found.facts["source"] == f"hub:{REPO}@{sha}"
