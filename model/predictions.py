"""predictions.csv of an artifact: what its network said of every test image. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.artifact import PREDICTIONS, ArtifactError, Metrics, read_table

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
        table = read_table(path, COLUMNS)
        index, label, predicted = whole = table[:, :3].T.astype(np.int64)
        found = Predictions(index, label, predicted, *table[:, 3:].T)
        intact = (table >= 0).all() and (table[:, 3:] <= 1).all() and (table[:, :3] == whole.T).all()
        intact = intact and (whole[1:] < len(matrix)).all() and len(np.unique(index)) == len(index)
    except (OSError, ValueError):
        intact = False
    if not intact or not np.array_equal(found.confusion_matrix(len(matrix)), matrix):
        raise ArtifactError(
            f"{path} is not one row per test image with the columns {', '.join(COLUMNS)}, counted as in metrics.json's "
            "test.confusion_matrix; export the artifact again"
        )
    return found
