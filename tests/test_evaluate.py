"""Metrics against torch, torchmetrics and published values; what `evaluate` finds out about false claims."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from model import Classifier, artifact, cifar10
from model.hub import BUNDLED
from model.resnet import ResNet
from tests.conftest import reseal
from trainer import evaluate as evaluation
from trainer.evaluate import evaluate, fit_temperature, wilson_interval


@pytest.fixture(scope="module")
def scored():
    """Logits that are right about half of the time and too sure of themselves: (2000, 10), labels (2000,)."""
    random = np.random.RandomState(0)
    labels = random.randint(0, 10, 2000)
    logits = random.randn(2000, 10) * 4
    logits[np.arange(2000), labels] += 4
    return logits.astype(np.float32), labels


def test_counts_losses_and_matrix_agree_with_torch(scored):
    logits, labels = scored
    found = evaluate(logits, labels, temperature=2.0)
    tensor, target = torch.from_numpy(logits), torch.from_numpy(labels)
    assert found.n == 2000
    assert found.correct == int((tensor.argmax(1) == target).sum())
    assert found.accuracy == found.correct / 2000
    assert found.loss == pytest.approx(torch.nn.functional.cross_entropy(tensor, target).item(), abs=1e-5)
    after = torch.nn.functional.cross_entropy(tensor / 2, target).item()
    assert found.calibration.loss_after == pytest.approx(after, abs=1e-5)
    matrix = multiclass_confusion_matrix(tensor, target, num_classes=10)
    assert found.confusion_matrix == tuple(map(tuple, matrix.tolist()))
    assert found.per_class_accuracy == pytest.approx((matrix.diag() / matrix.sum(1)).tolist())


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_calibration_error_agrees_with_torchmetrics(scored, temperature):
    logits, labels = scored
    found = evaluate(logits, labels, temperature).calibration
    for t, error in ((1.0, found.ece_before), (temperature, found.ece_after)):
        probabilities = torch.softmax(torch.from_numpy(logits) / t, 1)
        oracle = multiclass_calibration_error(probabilities, torch.from_numpy(labels), num_classes=10, n_bins=15)
        assert error == pytest.approx(oracle.item(), abs=1e-5)
    assert sum(b.n for b in found.bins_after) == 2000 and len(found.bins_after) == 15
    assert found.bins_before == evaluate(logits, labels, 1.0).calibration.bins_after


def test_the_ends_of_a_bin_belong_to_the_lower_one():
    bins = evaluation.calibration_bins(np.array([[0.4, 0.6], [1.0, 0.0], [0.5, 0.5]]), np.array([1, 0, 0]))
    assert [i for i, b in enumerate(bins) if b.n] == [7, 8, 14]


def test_empty_bins_have_no_confidence_and_no_accuracy():
    bins = evaluation.calibration_bins(np.array([[0.95, 0.05]], np.float32), np.array([0]))
    assert (bins[0].n, bins[0].confidence, bins[0].accuracy) == (0, None, None)
    assert (bins[14].n, bins[14].confidence, bins[14].accuracy) == (1, pytest.approx(0.95), 1.0)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    # Newcombe 1998 (doi 10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0)],
)
def test_wilson_interval_matches_published_values(correct, n, low, high):
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_the_temperature_minimizes_the_loss(scored):
    logits, labels = scored
    best = fit_temperature(logits, labels)
    loss = evaluation.cross_entropy(logits / best, labels)
    grid = [evaluation.cross_entropy(logits / t, labels) for t in np.linspace(0.5, 8, 400)]
    assert loss <= min(grid) + 1e-9 and best > 1.5


def test_the_temperature_stays_in_its_range_and_is_1_where_every_answer_is_right(scored):
    logits, labels = scored
    assert fit_temperature(logits / 1000, labels) == pytest.approx(evaluation.TEMPERATURE_RANGE[0])
    assert fit_temperature(np.eye(10, dtype=np.float32), np.arange(10)) == 1


@pytest.mark.parametrize(("n", "below"), [(5_000, 250), (19, 0)])
def test_the_threshold_is_the_greatest_that_95_percent_of_the_highest_logits_reach(n, below):
    highest = np.random.default_rng(n).permutation(n).astype(np.float32) / 8
    logits = np.full((n, 10), -3, np.float32)
    logits[np.arange(n), np.arange(n) % 10] = highest
    threshold = evaluation.fit_threshold(logits)
    assert (highest < threshold).sum() == below and (highest >= threshold).mean() >= 0.95
    assert (highest > threshold).mean() < 0.95  # a greater one is reached by fewer


def test_images_that_tie_at_the_threshold_all_reach_it():
    logits = np.repeat(np.array([[0, 1], [0, 2]], np.float32), [10, 90], axis=0)
    assert evaluation.fit_threshold(logits) == 1


def test_the_flipped_view_is_the_mean_of_the_logits_of_an_image_and_its_mirror_image(tiny_artifact, tiny_cifar):
    images, labels = cifar10.read_test(tiny_cifar)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    network = ResNet.from_pretrained(tiny_artifact)
    with torch.inference_mode():
        single = network(pixels)
        both = (single + network(pixels.flip(dims=[3]))) / 2
    assert (single - both).abs().max() > 1e-3  # the pictures are not symmetric
    flipped, target = Classifier.load(tiny_artifact).metrics.test.flip_tta, torch.from_numpy(labels).long()
    assert flipped.n == 250 and flipped.correct == int((both.argmax(1) == target).sum())
    assert flipped.accuracy == flipped.correct / 250
    assert flipped.accuracy_interval == wilson_interval(flipped.correct, 250)
    assert flipped.loss == pytest.approx(torch.nn.functional.cross_entropy(both, target).item(), abs=1e-5)


def rewritten(tiny_artifact, folder, change, **config):
    """A copy of the artifact with other claims, sealed as if they were true. `change` edits metrics.json's value."""
    shutil.copytree(tiny_artifact, folder)
    metrics = json.loads((folder / artifact.METRICS).read_text())
    change(metrics)
    artifact.write_json(folder / artifact.METRICS, metrics)
    reseal(folder, **config)
    return folder


def claims(differences):
    """The names of the claims, without the numbers."""
    return [line.partition(" is ")[0] for line in differences]


def test_a_threshold_may_differ_a_little_in_the_thousands_by_the_digits_of_float32():
    logits = np.full((20, 10), 3000, np.float32)
    config = artifact.read_config(BUNDLED / artifact.CONFIG)
    assert evaluation.compare_threshold(replace(config, threshold=3000.02), logits) == []
    assert evaluation.compare_threshold(replace(config, threshold=3000.04), logits) != []
    assert evaluation.compare_threshold(replace(config, threshold=1.00005), logits / 3000) == []


def one_less(score):
    score["correct"] -= 1
    score["accuracy"] = score["correct"] / score["n"]


def another_matrix(val):
    """Another claim that is true to itself: what contradicts itself is refused when the artifact is read."""
    matrix = val["confusion_matrix"]
    right = next(i for i in range(10) if matrix[i][i])
    matrix[right][right] -= 1
    matrix[right][(right + 1) % 10] += 1
    one_less(val)
    val["per_class_accuracy"][right] = matrix[right][right] / sum(matrix[right])


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda val: val["accuracy_interval"].__setitem__(0, 0.0), ["val: accuracy_interval"]),
        (lambda val: val["calibration"].update(ece_before=0.0), ["val: ece_before"]),
        (lambda val: val["calibration"].update(ece_after=0.9, loss_after=9.0), ["val: ece_after", "val: loss_after"]),
        (lambda val: val.update(loss=val["loss"] + 1e-3), ["val: loss"]),
        (lambda val: val["flip_tta"].update(loss=val["flip_tta"]["loss"] + 1e-3), ["val flip_tta: loss"]),
        (lambda val: one_less(val["flip_tta"]), ["val flip_tta: correct"]),
        (another_matrix, ["val: correct", "val: confusion_matrix", "val: per_class_accuracy"]),
    ],
)
def test_recompute_names_every_claim_that_does_not_hold(tiny_artifact, tiny_cifar, tmp_path, change, names):
    threshold = artifact.read(tiny_artifact).config.threshold + 2e-4
    folder = rewritten(
        tiny_artifact, tmp_path / "artifact", lambda metrics: change(metrics["val"]), threshold=threshold
    )
    *differences, last = evaluation.recompute(folder, tiny_cifar)
    assert claims(differences) == names
    assert last.startswith("val: threshold is") and last.endswith(f"config.json says {threshold}")


def test_what_an_older_artifact_does_not_claim_is_not_looked_at(tiny_artifact, tiny_cifar, tmp_path):
    def older(metrics):
        del metrics["val"]["flip_tta"], metrics["test"]["flip_tta"]
        metrics["training"]["hyperparameters"]["of_old"] = 7  # a setting that no longer exists

    folder = rewritten(tiny_artifact, tmp_path / "artifact", older, threshold=None)
    assert evaluation.recompute(folder, tiny_cifar) == []
    assert "flip" not in evaluation.summary_table({"test": artifact.read(folder).metrics.test})


def test_the_summary_has_a_row_of_its_own_for_the_flipped_view_of_each_split(tiny_artifact):
    metrics = artifact.read(tiny_artifact).metrics
    val, test = metrics.val, metrics.test
    _, *rows = evaluation.summary_table({"val": val, "test": test}).splitlines()
    assert [row[:6].rstrip() for row in rows] == ["val", "+ flip", "test", "+ flip"]
    for row, scores in zip(rows, (val, val.flip_tta, test, test.flip_tta), strict=True):
        low, high = scores.accuracy_interval
        said = row[6:].split()
        assert said[:5] == [f"{scores.n}", f"{scores.accuracy:.2%}", f"{low:.2%}", "-", f"{high:.2%}"]
        assert said[5] == f"{scores.loss:.4f}"
        assert len(said) == (8 if scores in (val, test) else 6)  # calibration is told of the single view alone


def test_recompute_says_so_where_the_artifact_used_another_split(tiny_artifact, tiny_cifar, monkeypatch):
    monkeypatch.setattr("trainer.data.SPLIT_SEED", 1)
    assert any(line.startswith("split: ") for line in evaluation.recompute(tiny_artifact, tiny_cifar))
