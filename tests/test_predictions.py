"""predictions.csv: read row by row, and refused where it is not what metrics.json counts."""

import csv

import numpy as np
import pytest

from model import Classifier, artifact
from model.artifact import ArtifactError, Metrics
from model.predictions import COLUMNS, read_predictions


@pytest.fixture(scope="module")
def metrics(tiny_artifact) -> Metrics:
    return artifact.read(tiny_artifact).metrics


@pytest.fixture
def rows(tiny_artifact) -> list[list[str]]:
    with (tiny_artifact / "predictions.csv").open(newline="") as file:
        return list(csv.reader(file))


def write(folder, rows) -> None:
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_rows_are_read_in_any_order_and_add_up_to_metrics_json(rows, metrics, tmp_path):
    head, *below = rows
    write(tmp_path, [head, *reversed(below)])
    found = read_predictions(tmp_path, metrics)
    columns = (found.index, found.label, found.predicted, found.confidence, found.true_probability)
    expected = np.array(below[::-1], np.float64).T
    assert all(np.array_equal(column, wanted) for column, wanted in zip(columns, expected, strict=True))
    assert [column.dtype for column in columns] == [np.int64] * 3 + [np.float64] * 2
    assert found.confusion_matrix(10).tolist() == [list(row) for row in metrics.test.confusion_matrix]


def test_the_bundled_models_file_is_accepted():
    classifier = Classifier.load()
    assert len(read_predictions(classifier.folder, classifier.metrics).index) == 10_000


def cell(row: int, column: str, value: str):
    """Puts `value` into a cell; row 1 is the first below the head."""
    return lambda rows: rows[row].__setitem__(COLUMNS.index(column), value)


DAMAGES = {
    "a missing column": lambda rows: [row.pop() for row in rows],
    "another head": cell(0, "label", "truth"),
    "a missing row": lambda rows: rows.pop(),
    "only the head": lambda rows: rows.__delitem__(slice(1, None)),
    "an index twice": cell(2, "index", "0"),
    "a fractional index": cell(1, "index", "0.5"),
    "an index beyond all integers": cell(1, "index", "1e30"),
    "a label too large": cell(1, "label", "10"),
    "a prediction too large": cell(1, "predicted", "10"),
    "another prediction than was counted": lambda rows: rows[1].__setitem__(2, str((int(rows[1][2]) + 1) % 10)),
    "a confidence above 1": cell(1, "confidence", "1.000001"),
    "a probability below 0": cell(1, "true_probability", "-0.1"),
    "a probability that is no number": cell(1, "true_probability", "NaN"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_by_its_name_and_what_to_do(rows, metrics, tmp_path, damage):
    damage(rows)
    write(tmp_path, rows)
    with pytest.raises(ArtifactError, match="^.*predictions.csv is not one row per test image.*; export the artifact"):
        read_predictions(tmp_path, metrics)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00 not text", b'"' + b"x" * 200_000, None])
def test_what_is_no_csv_in_utf_8_or_missing_is_refused(metrics, tmp_path, data):
    if data is not None:
        (tmp_path / "predictions.csv").write_bytes(data)
    with pytest.raises(ArtifactError, match="is not one row per test image"):
        read_predictions(tmp_path, metrics)
