"""predictions.csv of an artifact: what its network said of every test image. Needs numpy only."""

import csv
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from model.artifact import PREDICTIONS, ArtifactError, Metrics

COLUMNS = ("index", "label", "predicted", "confidence", "true_probability")


@dataclass(frozen=True)
class Predictions:
    """One entry per test image, in the order of the file.

    index              in the official test set, int64 (N,)
    label, predicted   positions in class_names, int64 (N,)
    confidence         calibrated probability of `predicted`, float64 (N,)
    true_probability   calibrated probability of `label`, float64 (N,)
    """

    index: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    true_probability: np.ndarray

    def confusion_matrix(self, classes: int) -> np.ndarray:
        """Counts (classes, classes), row: true label, column: predicted."""
        matrix = np.zeros((classes, classes), np.int64)
        np.add.at(matrix, (self.label, self.predicted), 1)
        return matrix


def read_predictions(folder: Path, metrics: Metrics) -> Predictions:
    """The rows of predictions.csv. Raises ArtifactError unless they are those that `metrics` (metrics.json) counts."""
    path = folder / PREDICTIONS
    matrix = np.asarray(metrics.test.confusion_matrix)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            if tuple(next(rows)) != COLUMNS:
                raise ValueError("other columns")
            lines = []
            for row in islice(rows, metrics.test.n + 1):
                if len(row) != len(COLUMNS):
                    raise ValueError("a row of another length")
                lines.append(row)
        table = np.array(lines, dtype=np.float64).reshape(-1, len(COLUMNS))
        if not (np.abs(table) <= 10**12).all():  # nor what is not finite
            raise ValueError("a number out of range")
        index, label, predicted = (column.astype(np.int64) for column in table.T[:3])
        found = Predictions(index, label, predicted, table[:, 3], table[:, 4])
        whole = (table[:, :3] == np.stack([index, label, predicted], 1)).all() and (table[:, :3] >= 0).all()
        intact = whole and ((table[:, 3:] >= 0) & (table[:, 3:] <= 1)).all() and len(set(index)) == len(index)
        intact = intact and (table[:, 1:3] < len(matrix)).all()
    except (OSError, ValueError, StopIteration, csv.Error):
        intact = False
    if not intact or not np.array_equal(found.confusion_matrix(len(matrix)), matrix):
        raise ArtifactError(
            f"{path} is not one row per test image with the columns {', '.join(COLUMNS)}, counted as in metrics.json's "
            "test.confusion_matrix; export the artifact again"
        )
    return found
