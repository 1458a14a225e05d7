import shutil

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from model import artifact
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
    assert found["n"] == 2000
    assert found["correct"] == int((tensor.argmax(1) == target).sum())
    assert found["accuracy"] == found["correct"] / 2000
    assert found["loss"] == pytest.approx(torch.nn.functional.cross_entropy(tensor, target).item(), abs=1e-5)
    after = torch.nn.functional.cross_entropy(tensor / 2, target).item()
    assert found["calibration"]["loss_after"] == pytest.approx(after, abs=1e-5)
    matrix = multiclass_confusion_matrix(tensor, target, num_classes=10)
    assert found["confusion_matrix"] == matrix.tolist()
    assert found["per_class_accuracy"] == pytest.approx((matrix.diag() / matrix.sum(1)).tolist())


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_calibration_error_agrees_with_torchmetrics(scored, temperature):
    logits, labels = scored
    found = evaluate(logits, labels, temperature)["calibration"]
    probabilities = torch.softmax(torch.from_numpy(logits) / temperature, 1)
    oracle = multiclass_calibration_error(probabilities, torch.from_numpy(labels), num_classes=10, n_bins=15)
    assert found["ece_after"] == pytest.approx(oracle.item(), abs=1e-5)
    assert sum(b["n"] for b in found["bins_after"]) == 2000 and len(found["bins_after"]) == 15


def test_empty_bins_have_no_confidence_and_no_accuracy():
    bins = evaluation.calibration_bins(np.array([[0.95, 0.05]], np.float32), np.array([0]))
    assert [b["n"] for b in bins] == [0] * 14 + [1]
    assert bins[0]["confidence"] is None and bins[0]["accuracy"] is None
    assert bins[14]["confidence"] == pytest.approx(0.95) and bins[14]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    # Newcombe 1998 (doi 10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_matches_published_values(correct, n, low, high):
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_the_temperature_minimises_the_loss(scored):
    logits, labels = scored
    best = fit_temperature(logits, labels)
    loss = evaluation.cross_entropy(logits / best, labels)
    grid = [evaluation.cross_entropy(logits / t, labels) for t in np.linspace(0.5, 8, 400)]
    assert loss <= min(grid) + 1e-9 and best > 1.5


def test_the_temperature_stays_in_its_range_where_every_answer_is_right():
    logits = np.eye(10, dtype=np.float32)
    assert fit_temperature(logits, np.arange(10)) == pytest.approx(evaluation.TEMPERATURE_RANGE[0])


def test_recompute_finds_the_artifacts_own_numbers(tiny_artifact, tiny_cifar):
    assert evaluation.recompute(tiny_artifact, tiny_cifar) == []


def test_recompute_names_every_claim_that_does_not_hold(tiny_artifact, tiny_cifar, tmp_path):
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    found = artifact.read(folder)
    test = found.metrics["test"]
    matrix = [list(row) for row in test["confusion_matrix"]]
    right = next(i for i in range(10) if matrix[i][i])
    matrix[right][right] -= 1
    matrix[right][(right + 1) % 10] += 1
    test |= {"correct": test["correct"] - 1, "accuracy": (test["correct"] - 1) / test["n"]}
    test |= {"confusion_matrix": matrix, "loss": test["loss"] + 1e-3}
    artifact.write_json(folder / artifact.METRICS, found.metrics)
    artifact.seal(folder, found.config)
    differences = "\n".join(evaluation.recompute(folder, tiny_cifar))
    assert "test: correct is" in differences and "test: confusion_matrix is" in differences
    assert "test: loss is" in differences and "val:" not in differences


def test_recompute_says_so_where_the_artifact_used_another_split(tiny_artifact, tiny_cifar, monkeypatch):
    from trainer import data

    monkeypatch.setattr(data, "SPLIT_SEED", 1)
    assert any(line.startswith("split: ") for line in evaluation.recompute(tiny_artifact, tiny_cifar))
