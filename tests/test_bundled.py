"""The artifact that comes with the project, as far as it can be checked without CIFAR-10."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import Classifier, artifact, cifar10
from model.hub import BUNDLED
from model.resnet import ResNet
from trainer.config import TrainConfig
from trainer.data import SPLIT_SEED
from trainer.evaluate import wilson_interval


@pytest.fixture(scope="module")
def bundled():
    return Classifier.load()


def test_it_is_the_default_recipes_resnet_32(bundled):
    training = bundled.metrics.training
    assert bundled.config.depth == 32 and training.parameters == 464_154
    assert training.recipe == "default"
    TrainConfig.from_hyperparameters(training.hyperparameters)  # every setting still exists
    assert bundled.class_names == cifar10.CLASS_NAMES


def test_it_was_scored_on_all_images_of_the_official_split(bundled):
    assert (bundled.metrics.val.n, bundled.metrics.test.n) == (5_000, 10_000)
    split = bundled.metrics.training.split
    assert (split.train, split.val, split.test, split.seed) == (45_000, 5_000, 10_000, SPLIT_SEED)


def test_it_reaches_91_percent_on_test(bundled):
    assert bundled.metrics.test.accuracy >= 0.91


def test_its_predictions_file_adds_up_to_its_metrics(bundled):
    with (bundled.folder / artifact.PREDICTIONS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    matrix = np.zeros((10, 10), int)
    for row in rows:
        matrix[int(row["label"]), int(row["predicted"])] += 1
    test = bundled.metrics.test
    assert matrix.tolist() == [list(row) for row in test.confusion_matrix]
    assert test.accuracy_interval == pytest.approx(wilson_interval(test.correct, len(rows)))


def test_its_best_epoch_is_the_first_with_the_highest_val_accuracy(bundled):
    with (bundled.folder / artifact.HISTORY).open(newline="") as file:
        accuracies = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
    assert bundled.metrics.training.epochs == len(accuracies)
    assert bundled.metrics.training.best_epoch == int(np.argmax(accuracies)) + 1
    # Exported in float32, trained perhaps in bf16: a few of 5,000 images may change sides.
    assert bundled.metrics.val.accuracy == pytest.approx(max(accuracies), abs=0.004)


def test_its_two_networks_are_the_same(bundled):
    images = np.random.RandomState(0).rand(64, 3, 32, 32).astype(np.float32)
    with torch.inference_mode():
        expected = ResNet.from_pretrained(BUNDLED)(torch.from_numpy(images)).numpy()
    assert np.abs(bundled.logits(images) - expected).max() < 1e-4


def test_it_recognises_the_drawn_examples(bundled):
    examples = sorted(Path(BUNDLED.parent / "examples").glob("*.png"))
    right = [path.stem for path in examples if bundled.predict(Image.open(path))[0][0] == path.stem]
    assert len(right) >= 7, f"only {right}"


def test_its_threshold_lets_the_drawn_examples_pass_and_flags_a_grey_card(bundled):
    examples = sorted(Path(BUNDLED.parent / "examples").glob("*.png"))
    assert len(examples) == 10
    assert bundled.is_in_distribution(bundled.logits([Image.open(path) for path in examples])).all()
    assert not bundled.is_in_distribution(bundled.logits([Image.new("RGB", (32, 32), (128, 128, 128))])).any()


def test_no_dataset_pixels_are_committed_with_it():
    assert not (BUNDLED / artifact.SAMPLES).exists() and not (BUNDLED / artifact.TENSORBOARD).exists()


def test_its_card_states_its_accuracy(bundled):
    card = (BUNDLED / artifact.CARD).read_text()
    assert f"{bundled.metrics.test.accuracy:.2%}" in card
