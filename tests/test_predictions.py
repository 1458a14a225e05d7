import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest

from model import Classifier, artifact
from model.artifact import ArtifactError, Metrics
from model.predictions import COLUMNS, read_predictions


@pytest.fixture(scope="module")
def metrics(tiny_artifact) -> Metrics:
    return artifact.read(tiny_artifact).metrics


def rows_of(folder) -> list[list[str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_the_exported_file_is_read_row_by_row(tiny_artifact, metrics):
    found = read_predictions(tiny_artifact, metrics)
    expected = rows_of(tiny_artifact)[1:]
    assert len(expected) == 250
    assert found.index.tolist() == [int(row[0]) for row in expected]
    assert found.label.tolist() == [int(row[1]) for row in expected]
    assert found.predicted.tolist() == [int(row[2]) for row in expected]
    assert found.confidence.tolist() == [float(row[3]) for row in expected]
    assert found.true_probability.tolist() == [float(row[4]) for row in expected]
    assert [column.dtype for column in (found.index, found.label, found.predicted)] == [np.int64] * 3


def test_it_counts_what_metrics_json_counts(tiny_artifact, metrics):
    matrix = read_predictions(tiny_artifact, metrics).confusion_matrix(10)
    assert matrix.tolist() == [list(row) for row in metrics.test.confusion_matrix]
    assert matrix.sum() == 250 and (matrix.sum(1) == 25).all()


def test_the_bundled_models_file_is_accepted():
    classifier = Classifier.load()
    assert len(read_predictions(classifier.folder, classifier.metrics).index) == 10_000


def test_rows_may_stand_in_any_order_and_what_is_read_keeps_it(tiny_artifact, metrics, tmp_path):
    head, *rows = rows_of(tiny_artifact)
    write(tmp_path, [head, *reversed(rows)])
    assert read_predictions(tmp_path, metrics).index.tolist() == list(range(249, -1, -1))


def write(folder, rows) -> None:
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def cell(row: int, column: str, value: str):
    """Puts `value` into a cell; row 1 is the first below the head."""

    def damage(rows):
        rows[row][COLUMNS.index(column)] = value

    return damage


def without_a_column(rows):
    for row in rows:
        del row[3]


def with_a_column(rows):
    for row in rows:
        row.append("0")


def columns_in_another_order(rows):
    for row in rows:
        row[3], row[4] = row[4], row[3]


def two_images_in_a_row(rows):
    rows[1:] = [rows[k] + rows[k + 1] for k in range(1, len(rows), 2)]


def another_prediction(rows):
    rows[1][2] = str((int(rows[1][2]) + 1) % 10)


DAMAGES = {
    "a missing column": without_a_column,
    "a column more": with_a_column,
    "columns in another order": columns_in_another_order,
    "another head": cell(0, "label", "truth"),
    "no head": lambda rows: rows.pop(0),
    "two images in a row": two_images_in_a_row,
    "a short row": lambda rows: rows[7].pop(),
    "a missing row": lambda rows: rows.pop(),
    "a row twice": lambda rows: rows.append(rows[3]),
    "only the head": lambda rows: rows.__delitem__(slice(1, None)),
    "nothing": lambda rows: rows.clear(),
    "an index twice": cell(2, "index", "0"),
    "a fractional index": cell(1, "index", "0.5"),
    "a negative index": cell(1, "index", "-1"),
    "an endless index": cell(1, "index", "inf"),
    "an index beyond all integers": cell(1, "index", "1e30"),
    "an index that is a word": cell(1, "index", "first"),
    "an empty cell": cell(1, "index", ""),
    "a label too large": cell(1, "label", "10"),
    "a negative label": cell(1, "label", "-1"),
    "a label that is no number": cell(1, "label", "nan"),
    "a prediction too large": cell(1, "predicted", "10"),
    "a fractional prediction": cell(1, "predicted", "0.5"),
    "another prediction than was counted": another_prediction,
    "a confidence above 1": cell(1, "confidence", "1.000001"),
    "a confidence below 0": cell(1, "confidence", "-0.1"),
    "a confidence that is no number": cell(1, "confidence", "nan"),
    "a probability above 1": cell(1, "true_probability", "2"),
    "a probability that is no number": cell(1, "true_probability", "NaN"),
    "an endless probability": cell(1, "true_probability", "inf"),
}


def refused(folder, metrics) -> str:
    with pytest.raises(ArtifactError) as caught:
        read_predictions(folder, metrics)
    return str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_by_its_name_and_what_to_do(tiny_artifact, metrics, tmp_path, damage):
    rows = rows_of(tiny_artifact)
    damage(rows)
    write(tmp_path, rows)
    message = refused(tmp_path, metrics)
    assert message.startswith(f"{tmp_path / 'predictions.csv'} is not one row per test image")
    assert "counted as in metrics.json" in message and message.endswith("export the artifact again")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00 not text",
        b",".join(name.encode() for name in COLUMNS) + b"\n0,0,0,0.\xe9,1\n",
        b"PK\x03\x04\x00",
        b"index\0",
        b'"' + b"x" * 200_000,
    ],
    ids=["UTF-16", "Latin-1", "a zip", "a NUL", "a cell longer than csv reads"],
)
def test_what_is_no_csv_in_utf_8_is_refused(metrics, tmp_path, content):
    (tmp_path / "predictions.csv").write_bytes(content)
    assert "is not one row per test image" in refused(tmp_path, metrics)


def test_a_missing_file_is_refused(metrics, tmp_path):
    assert "is not one row per test image" in refused(tmp_path, metrics)


def test_metrics_of_another_run_refuse_it(tiny_artifact, metrics, tmp_path):
    shutil.copy(tiny_artifact / "predictions.csv", tmp_path)
    matrix = [list(row) for row in metrics.test.confusion_matrix]
    true, row = next((i, row) for i, row in enumerate(matrix) if len({*row[:i], *row[i + 1 :]}) > 1)
    low, high = sorted(set(range(10)) - {true}, key=row.__getitem__)[::8]
    row[low], row[high] = row[high], row[low]
    other = replace(metrics, test=replace(metrics.test, confusion_matrix=tuple(map(tuple, matrix))))
    assert "counted as in metrics.json" in refused(tmp_path, other)
