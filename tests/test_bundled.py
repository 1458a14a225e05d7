"""The artifact that comes with the project, as far as it can be checked without CIFAR-10."""

import numpy as np
import pytest
from PIL import Image

from model import Classifier, artifact, cifar10
from model.hub import BUNDLED
from trainer.card import write_card
from trainer.config import TrainConfig
from trainer.data import SPLIT_SEED


@pytest.fixture(scope="module")
def bundled():
    return Classifier.load()


def test_it_is_a_resnet_32_that_one_command_trained_from_random_weights(bundled):
    training = bundled.metrics.training
    assert bundled.config.depth == 32 and training.parameters == 464_154
    assert training.recipe == "default" and training.pretrained is None
    command = f"python -m trainer --compile {' '.join(training.changes)}"  # of the seed 0
    assert command in (BUNDLED.parents[1] / "README.md").read_text().splitlines() and training.seed == 0
    TrainConfig.from_hyperparameters(training.hyperparameters)  # every setting still exists
    assert bundled.class_names == cifar10.CLASS_NAMES


def test_it_was_scored_on_all_images_of_the_official_split(bundled):
    assert (bundled.metrics.val.n, bundled.metrics.test.n) == (5_000, 10_000) and bundled.metrics.test.accuracy >= 0.91
    split = bundled.metrics.training.split
    assert (split.train, split.val, split.test, split.seed) == (45_000, 5_000, 10_000, SPLIT_SEED)


def test_its_best_epoch_is_the_first_with_the_highest_val_accuracy(bundled):
    accuracies = [row["val_accuracy"] for row in artifact.read_history(BUNDLED)]
    assert bundled.metrics.training.epochs == len(accuracies)
    assert bundled.metrics.training.best_epoch == int(np.argmax(accuracies)) + 1
    # Exported in float32, trained perhaps in bf16: a few of 5,000 images may change sides.
    assert bundled.metrics.val.accuracy == pytest.approx(max(accuracies), abs=0.004)


def test_it_recognizes_the_drawn_examples_and_flags_a_gray_card(bundled):
    paths = sorted((BUNDLED.parent / "examples").glob("*.png"))
    examples = [Image.open(path) for path in paths]
    found = bundled.classify(examples)
    assert len(examples) == 10 and all(one.in_distribution for one in found)
    assert sum(bundled.class_names[one.best(1)[0]] == path.stem for one, path in zip(found, paths, strict=True)) >= 7
    assert not bundled.classify([Image.new("RGB", (32, 32), (128, 128, 128))])[0].in_distribution


def test_no_dataset_pixels_are_committed_with_it():
    assert not (BUNDLED / artifact.SAMPLES).exists() and not (BUNDLED / artifact.TENSORBOARD).exists()


def test_its_card_is_what_its_metrics_and_config_give(bundled, tmp_path):
    write_card(bundled.metrics, bundled.config, tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text() == (BUNDLED / artifact.CARD).read_text()
