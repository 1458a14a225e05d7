"""Metrics of an exported network, computed through `Classifier`, the engine that serves.

All but `recompute` and `evaluate_flipped` work on logits (N, classes), most with labels (N,), with NumPy.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model import Classifier, cifar10
from model.artifact import Bin, Calibration, Config, Scores, SplitScores
from model.classifier import softmax
from trainer.config import ConfigError, TrainConfig
from trainer.data import load_data

CALIBRATION_BINS = 15  # as in Guo et al. 2017, https://arxiv.org/abs/1706.04599
TEMPERATURE_RANGE = (0.05, 20.0)
TOLERANCE = 1e-4  # for losses, calibration errors and the threshold; counts must be equal
RELATIVE_TOLERANCE = 1e-5  # in addition: losses and thresholds are in the thousands where logits are


def evaluate(logits: np.ndarray, labels: np.ndarray, temperature: float, flip_tta: Scores | None = None) -> SplitScores:
    """All scores of one split; `flip_tta` as `evaluate_flipped` gives it."""
    matrix = np.zeros((logits.shape[1], logits.shape[1]), dtype=np.int64)
    np.add.at(matrix, (labels, logits.argmax(1)), 1)
    before, after = (calibration_bins(softmax(logits / t), labels) for t in (1.0, temperature))
    return SplitScores(
        **vars(score(logits, labels)),
        per_class_accuracy=tuple(float(row[i] / max(1, row.sum())) for i, row in enumerate(matrix)),
        confusion_matrix=tuple(map(tuple, matrix.tolist())),
        calibration=Calibration(
            ece_before=expected_calibration_error(before),
            ece_after=expected_calibration_error(after),
            loss_after=cross_entropy(logits / temperature, labels),
            bins_before=before,
            bins_after=after,
        ),
        flip_tta=flip_tta,
    )


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Accuracy and loss of one view of a split."""
    n, correct = len(labels), int((logits.argmax(1) == labels).sum())
    return Scores(
        n=n,
        correct=correct,
        accuracy=correct / n,
        accuracy_interval=wilson_interval(correct, n),
        loss=cross_entropy(logits, labels),
    )


def evaluate_flipped(classifier: Classifier, images: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> Scores:
    """`flip_tta` of metrics.json: each answer is the mean of the logits of an image and of its mirror image.

    uint8 images (N, 32, 32, 3) and the `logits` (N, classes) of their single view, which alone counts for selection,
    calibration and serving.
    """
    mirrored = images[:, :, ::-1]  # left for right
    return score((logits + classifier.logits(mirrored)) / 2, labels)


def wilson_interval(correct: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927): unlike p +- 1.96 se it never leaves [0, 1]."""
    p = correct / n
    center = p + z * z / (2 * n)
    margin = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (center - margin) / scale), min(1.0, (center + margin) / scale)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the images, in nats."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T that minimizes the cross-entropy of logits / T (Guo et al. 2017), within TEMPERATURE_RANGE. 1 where every
    answer is right, as happens with few images: the loss then falls with T for ever.

    The loss is convex in 1/T, so its slope there changes sign once: bisection.
    """
    if (logits.argmax(1) == labels).all():
        return 1.0
    logits = logits.astype(np.float64)
    true = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        weights = np.exp(inverse * (logits - logits.max(1, keepdims=True)))
        expected = (weights * logits).sum(1) / weights.sum(1)
        return float((expected - true).mean())

    low, high = 1 / TEMPERATURE_RANGE[1], 1 / TEMPERATURE_RANGE[0]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 2 / (low + high)


def fit_threshold(logits: np.ndarray) -> float:
    """The threshold of `Classifier.is_in_distribution`, from the val `logits`: the highest logit of each image, sorted,
    at position N // 20. So at most N // 20 images are below it, 250 of 5,000, and at least 95% reach it (>=).

    Why the highest logit: over 13 kinds of images that show none of the classes, more are below its threshold in the
    mean than with the highest probability, and about as many as with logsumexp of the logits. It is a hint:
    docs/benchmarks.md says how many pass.
    """
    return float(np.sort(logits.max(1))[len(logits) // 20])


def calibration_bins(probabilities: np.ndarray, labels: np.ndarray) -> tuple[Bin, ...]:
    """Images grouped by confidence into equal bins (lower, upper]: n, mean confidence, accuracy (None where n is 0)."""
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    which = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    return tuple(_bin(i, confidence[which == i], right[which == i]) for i in range(CALIBRATION_BINS))


def _bin(i: int, confidence: np.ndarray, right: np.ndarray) -> Bin:
    lower, upper, n = i / CALIBRATION_BINS, (i + 1) / CALIBRATION_BINS, len(right)
    mean, accuracy = (float(confidence.mean()), float(right.mean())) if n else (None, None)
    return Bin(lower=lower, upper=upper, n=n, confidence=mean, accuracy=accuracy)


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean gap between confidence and accuracy, weighted by the bins' counts."""
    total = sum(b.n for b in bins)
    return sum(b.n / total * abs(b.confidence - b.accuracy) for b in bins if b.n)


def all_cores() -> int:
    """For `Classifier`'s `threads`: an evaluation has the machine to itself."""
    return os.cpu_count() or 1


def recompute(folder: Path, data_dir: Path, images: Path | None = None) -> list[str]:
    """Evaluates the artifact on val and test anew, on CIFAR-10 or the folder of `images` that it was trained on.
    Returns the claims of its metrics.json that do not hold, in words.

    Raises ArtifactError, DatasetError, and ConfigError where `images` does not fit the artifact.
    """
    classifier = Classifier.load(folder, threads=all_cores())
    config, dataset = classifier.config, classifier.metrics.training.dataset
    if (images is None) != (dataset == cifar10.NAME):
        words = "leave out --images" if images else "name that folder with --images"
        raise ConfigError(f"{folder} was trained on {dataset}: {words}")
    given = {"images": str(images), "image_size": config.image_size, "fit": config.fit} if images else {}
    data = load_data(TrainConfig(**given), data_dir)
    if data.class_names != classifier.class_names:
        raise ConfigError(f"{folder} has other classes than {data.dataset}")
    differences = []
    val = data.split.val
    if classifier.metrics.training.split.val_sha256 != data.split.val_sha256():
        differences.append("split: metrics.json was computed on other val images than the split gives here")
    for name, (images, labels) in {
        "val": (data.images[val], data.labels[val]),
        "test": data.read_test(),
    }.items():
        claimed, logits = getattr(classifier.metrics, name), classifier.logits(images)
        flipped = evaluate_flipped(classifier, images, labels, logits) if claimed.flip_tta else None
        differences += compare(name, claimed, evaluate(logits, labels, classifier.config.temperature, flipped))
        if name == "val":
            differences += compare_threshold(classifier.config, logits)
    return differences


def compare(split: str, claimed: SplitScores, found: SplitScores) -> list[str]:
    """Where `found` differs from `claimed`: counts must be equal, other numbers as good as equal."""
    names = ("n", "correct", "confusion_matrix", "accuracy_interval", "loss", "per_class_accuracy")
    parts = [(split, claimed, found, names)]
    parts.append((split, claimed.calibration, found.calibration, ("ece_before", "ece_after", "loss_after")))
    if claimed.flip_tta:
        names = ("n", "correct", "accuracy_interval", "loss")
        parts.append((f"{split} flip_tta", claimed.flip_tta, found.flip_tta, names))
    return [
        f"{where}: {name} is {getattr(ours, name)}, metrics.json says {getattr(theirs, name)}"
        for where, theirs, ours, names in parts
        for name in names
        if not _same(getattr(theirs, name), getattr(ours, name))
    ]


def compare_threshold(config: Config, val_logits: np.ndarray) -> list[str]:
    """Where the threshold of config.json, if it has one, is not what the val images give."""
    found = fit_threshold(val_logits)
    if config.threshold is None or _same(config.threshold, found):
        return []
    return [f"val: threshold is {found}, config.json says {config.threshold}"]


def _same(claimed: Any, found: Any) -> bool:
    if np.asarray(found).dtype.kind == "i":  # counts
        return claimed == found
    return np.allclose(claimed, found, rtol=RELATIVE_TOLERANCE, atol=TOLERANCE)


def summary_table(splits: dict[str, SplitScores]) -> str:
    """The scores of val, test or both in a few lines for the terminal; `+ flip`: mean of the image and its mirror
    image."""
    lines = [f"{'':6}{'images':>8}{'accuracy':>10}{'95% interval':>19}{'loss':>9}{'ECE':>8}{'calibrated':>12}"]
    for name, split in splits.items():
        errors = f"{split.calibration.ece_before:>8.4f}{split.calibration.ece_after:>12.4f}"
        lines.append(_summary_row(name, split) + errors)
        if split.flip_tta:
            lines.append(_summary_row("+ flip", split.flip_tta))
    return "\n".join(lines)


def _summary_row(label: str, s: Scores) -> str:
    low, high = s.accuracy_interval
    return f"{label:6}{s.n:>8,}{s.accuracy:>10.2%}{f'{low:.2%} - {high:.2%}':>19}{s.loss:>9.4f}"
