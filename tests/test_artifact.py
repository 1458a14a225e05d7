"""The artifact folder: what is read, what is refused in which words, what is written."""

import json
import shutil
import time
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from model import Classifier, artifact
from model.artifact import ArtifactError
from model.schema import to_json
from tests.conftest import reseal
from trainer.evaluate import evaluate


@pytest.fixture
def copy(tiny_artifact, tmp_path):
    return shutil.copytree(tiny_artifact, tmp_path / "artifact")


def edit(path, changes):
    """Puts values into a JSON file, such as `{"test.loss": None}`; `...` removes a field."""
    found = json.loads(path.read_text())
    for where, value in changes.items():
        *parents, name = where.split(".")
        section = reduce(dict.__getitem__, parents, found)
        section[name] = value
        if value is ...:
            del section[name]
    path.write_text(json.dumps(found).replace("Infinity", "1e400"))


def refusal(read, *arguments):
    with pytest.raises(ArtifactError) as caught:
        read(*arguments)
    return str(caught.value)


def test_the_probe_image_is_computed_and_never_changes():
    image = artifact.probe_image()
    assert image.shape == (1, 3, 32, 32) and image.dtype == np.float32
    assert image[0, 0, 0, 1] == np.float32(7 / 255) and image[0, 0, 1, 0] == np.float32((32 * 7 + 13) % 256 / 255)
    assert image.min() >= 0 and image.max() <= 1 and len(np.unique(image)) > 200


@pytest.mark.parametrize("name", (artifact.CONFIG, *artifact.SERVING))
def test_a_missing_altered_or_too_large_file_is_refused_by_name(copy, name, monkeypatch):
    path, whole = copy / name, (copy / name).read_bytes()
    if name != artifact.CONFIG:
        path.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
        assert f"{name} is damaged or altered" in refusal(artifact.read, copy)
    with path.open("r+b") as file:
        file.truncate(10**12)  # sparse: takes no room on the disk
    opened, original = [], Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **k: opened.append(path.name) or original(path, *a, **k))
    assert f"{name} has 1,000,000,000,000 bytes" in refusal(artifact.read, copy) and name not in opened
    path.unlink()
    assert f"lacks {name}" in refusal(artifact.read, copy)


def test_what_is_not_needed_may_be_absent(copy):
    for folder in (artifact.FIGURES, artifact.SAMPLES, artifact.TENSORBOARD):
        shutil.rmtree(copy / folder)
    (copy / artifact.CARD).unlink()
    artifact.read(copy)
    for name in (artifact.METRICS, artifact.HISTORY, artifact.PREDICTIONS):
        (copy / name).unlink()
    assert artifact.read(copy, files=(artifact.WEIGHTS,)).metrics is None
    assert "lacks metrics.json, history.csv, predictions.csv" in refusal(artifact.read, copy)
    assert "nowhere is not a folder" in refusal(artifact.read, copy / "nowhere")
    assert refusal(artifact.read, copy / ("x" * 300)).endswith("cannot be read (File name too long)")


NINE = list("abcdefghi")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2, "depth": ...}, "has format_version 2 where 1 is allowed"),
        ({"depth": 33}, "is wrong: depth is 33; it must be 6n+2"),
        ({"depth": True}, "has depth true where a whole number is allowed"),
        ({"stem_kernel": True}, "has stem_kernel true"),
        ({"image_size": 40}, "has image_size 40"),
        ({"fit": "zoom"}, 'has fit "zoom" where "crop" or "pad" or "stretch" is allowed'),
        ({"num_classes": 101}, "has num_classes 101"),
        ({"class_names": ["a"] * 10}, "is wrong: it has a class name twice"),
        ({"class_names": ["a", "b"]}, "is wrong: it has 2 class_names for num_classes 10"),
        ({"class_names": [*NINE, "j\n"]}, r'has class_names.9 "j\n"'),
        ({"class_names": [*NINE, "j" * 65]}, "has class_names.9"),
        ({"class_names": [*NINE, "<b>j"]}, 'has class_names.9 "<b>j"'),
        ({"class_names": [*NINE, ""]}, 'has class_names.9 ""'),
        ({"expected_logits": [0.0]}, "is wrong: it has 1 expected_logits for num_classes 10"),
        ({"expected_logits": [None] * 10}, "has expected_logits.0 null where a finite number is allowed"),
        ({"temperature": 0}, "has temperature 0 where a number from 0.01 to 100 is allowed"),
        ({"threshold": None}, "has threshold null where a finite number is allowed"),
        ({"sha256": {}}, "has no sha256 of model.safetensors"),
        ({"sha256": {"a\nb": 5}}, r"has sha256.a\nb 5 where a text is allowed"),
    ],
)
def test_a_config_out_of_range_is_refused_with_the_field(copy, changes, words):
    edit(copy / artifact.CONFIG, changes)
    assert f"config.json {words}" in refusal(artifact.read, copy)


def test_a_class_name_may_be_any_printable_text_a_threshold_any_number(copy):
    for name in ("Möwe (klein) 鳥 №1, it's", "گربه\u200cها", "👩\u200d🚀"):
        edit(copy / artifact.CONFIG, {"class_names": [*NINE, name], "threshold": -3.5})
        config = artifact.read(copy).config
        assert config.class_names[9] == name and config.threshold == -3.5


def test_the_parameters_of_a_network_are_bounded(copy, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_PARAMETERS", 1000)
    assert "is wrong: a network of 75,290 parameters; 1,000 are allowed" in refusal(artifact.read, copy)


@pytest.fixture
def metrics_refusal(copy):
    """Why metrics.json with other values is refused, None where it is not."""
    config = artifact.read_config(copy / artifact.CONFIG)
    original = (copy / artifact.METRICS).read_text()

    def why(changes):
        (copy / artifact.METRICS).write_text(original)
        edit(copy / artifact.METRICS, changes)
        try:
            artifact.read_metrics(copy / artifact.METRICS, config)
        except ArtifactError as error:
            return str(error).removeprefix(f"{copy / artifact.METRICS} ")

    return why


BIN = {"lower": 0, "upper": 1, "n": 250, "confidence": 0.9, "accuracy": 0.8}
EARLIER = {"recipe": "x", "seed": 0, "epochs": 1, "parameters": 1, "depth": 8, "val_accuracy": 0.5, "sha256": "0"}
LATER = {"started": "x", "device": "x", "precision": "x", "versions": {}, "git_commit": None}
BINS, SETTINGS = "test.calibration.bins_before", "training.hyperparameters"
ONE = {"confusion_matrix": [[250]], "per_class_accuracy": [1], "correct": 250, "accuracy": 1}


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("test.loss", None, "has test.loss null"),
        ("test.n", 0, "has test.n 0 where"),
        ("test.accuracy_interval", [0.99, 1.0], "has a wrong test: its accuracy is not within its accuracy_interval"),
        ("test.accuracy", 0.999, "has a wrong test: its accuracy is not correct / n"),
        ("test.per_class_accuracy", [0] * 10, "has a wrong test: its per_class_accuracy is not that of its confusion"),
        ("test.confusion_matrix", [[1]], "has a wrong test: its confusion_matrix is not 10 by 10"),
        ("test.confusion_matrix", [[0] * 10] * 10, "has a wrong test: its confusion_matrix does not add up"),
        ("test.calibration", ..., "lacks test.calibration"),
        (BINS, [7], f"has {BINS}.0 7 where an object is allowed"),
        (BINS, [BIN | {"upper": 1e400}], f"has {BINS}.0.upper Infinity"),
        (BINS, [], f"has {BINS} []"),
        (BINS, [BIN | {"upper": 0}], "its lower is not below its upper"),
        (BINS, [BIN | {"accuracy": None}], "no confidence or accuracy"),
        (BINS, [BIN | {"n": 249}], "its calibration.bins_before do not add up to n"),
        ("test.calibration.bins_after", [BIN | {"n": 249}], "its calibration.bins_after do not add up to n"),
        ("training.split.val", 31, "has a val.n that is not training.split.val"),
        ("val.flip_tta.n", 60, "has a wrong val.flip_tta: its accuracy is not"),
        ("val.flip_tta", ONE | {"n": 250, "accuracy_interval": [0.9, 1], "loss": 0}, "its flip_tta.n is not n"),
        ("training.parameters", 464154, "has training.parameters 464,154; there are"),
        ("training.best_epoch", 3, "has a wrong training: its best_epoch is none of its epochs"),
        ("training.device", "x" * 201, "has training.device"),
        ("training.device", "half \ud800", "is not valid JSON"),
        (SETTINGS, {"depth": {"deep": 8}}, f'has {SETTINGS}.depth {{"deep": 8}} where a number, a short text'),
        (SETTINGS, {"scale": [[1]]}, f"has {SETTINGS}.scale [[1]]"),
        (SETTINGS, {"text": "x" * 1001}, f"has {SETTINGS}.text"),
        (SETTINGS, {"many": [0] * 101}, f"has {SETTINGS}.many"),
        (SETTINGS, {"large": 10**13}, f"has {SETTINGS}.large"),
        (SETTINGS, {"x" * 201: 0}, f"has {SETTINGS} "),
        (SETTINGS, dict.fromkeys(map(str, range(201)), 0), f"has {SETTINGS} "),
        ("training.pretrained", {"teacher": EARLIER | {"val_accuracy": 2}}, "has training.pretrained.teacher.val_acc"),
        ("training.mean", [0.5, 0.5], "has training.mean [0.5, 0.5] where a list of 3 is allowed"),
        ("training.new", float("nan"), "is not valid JSON (NaN"),
        ("training.new", "<b>", None),  # from here on what a newer trainer may add
        ("training.pretrained", {"initial_weights": EARLIER, "new": 7}, None),
        ("training.resumed", [LATER | {"new": 7}] * 300, None),
        (SETTINGS, {"new": [1, "a", None], "newer": True, "flag": None, "seed": 2**32 - 1}, None),
    ],
)
def test_every_known_field_of_metrics_is_checked_and_others_ignored(metrics_refusal, where, value, words):
    found = metrics_refusal({where: value})
    assert found is None if words is None else found.startswith(words) or words in found


def test_metrics_of_another_number_of_classes_are_refused(metrics_refusal):
    changes = {f"test.{name}": value for name, value in ONE.items()} | {"test.accuracy_interval": [0.9, 1]}
    assert "has a test.confusion_matrix that is not 10 by 10" in metrics_refusal(changes)


def test_metrics_that_count_one_right_answer_more_than_their_matrix_are_refused(metrics_refusal, copy):
    test = artifact.read(copy).metrics.test
    more = {"test.correct": test.correct + 1, "test.accuracy": (test.correct + 1) / test.n}
    assert "its confusion_matrix does not add up" in metrics_refusal(more | {"test.accuracy_interval": [0, 1]})


def test_a_megabyte_of_errors_is_refused_without_delay(metrics_refusal):
    began = time.process_time()
    assert BINS in metrics_refusal({BINS: [{}] * 130_000})
    assert time.process_time() - began < 10


@pytest.mark.parametrize("depth", [150, 20_000])
def test_a_value_of_any_depth_is_refused(copy, depth):
    text, config = (copy / artifact.METRICS).read_text(), artifact.read_config(copy / artifact.CONFIG)
    deep = text.replace('"recipe": "default"', f'"recipe": {"[" * depth}{"]" * depth}', 1)
    (copy / artifact.METRICS).write_text(deep)
    assert len(refusal(artifact.read_metrics, copy / artifact.METRICS, config)) < 400


def test_an_artifact_that_was_published_before_is_read(copy):
    """Of format 1, without what came later; its graph, which nobody reads, from another writer or not there at all."""
    edit(copy / artifact.CONFIG, {"threshold": ..., "fit": ...})
    later = ("val.flip_tta", "test.flip_tta", "training.split.val_sha256")
    later += ("training.changes", "training.resumed", "training.peak_memory_bytes")
    edit(copy / artifact.METRICS, dict.fromkeys(later, ...))
    (copy / artifact.GRAPH).write_bytes(b"from another writer")
    digests = {name: artifact.sha256(copy / name) for name in artifact.CHECKSUMMED}
    edit(copy / artifact.CONFIG, {"sha256": digests})
    read = artifact.read(copy)
    assert read.config.fit == "crop" and read.config.threshold is None and read.metrics.training.changes == ()
    (copy / artifact.GRAPH).unlink()
    edit(copy / artifact.CONFIG, {"sha256": {n: digest for n, digest in digests.items() if n != artifact.GRAPH}})
    assert artifact.read(copy) == replace(read, config=artifact.read_config(copy / artifact.CONFIG))
    assert Classifier.load(copy).is_in_distribution(np.full((1, 10), -1e9)).all()


def test_what_is_written_reads_back_equal_and_nothing_else_is_written(copy):
    found = artifact.read(copy)
    before = {name: (copy / name).read_bytes() for name in (artifact.METRICS, artifact.CONFIG)}
    artifact.write_metrics(copy, found.metrics)
    artifact.write_checksums(copy, found.config)
    assert artifact.read(copy) == found
    without = to_json(replace(found.config, threshold=None))
    assert "threshold" not in without  # an older page refuses null
    assert all((copy / name).read_bytes() == data and b"NaN" not in data for name, data in before.items())
    with pytest.raises(ArtifactError, match="is not written: it has temperature NaN"):
        artifact.write_checksums(copy, replace(found.config, temperature=float("nan")))
    with pytest.raises(ArtifactError, match="has training.device"):
        training = replace(found.metrics.training, device="x" * 201)
        artifact.write_metrics(copy, replace(found.metrics, training=training))
    assert artifact.read(copy) == found


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_have_images():
    labels, predicted = np.array([0] * 90 + [1] * 10), np.array([0] * 95 + [1] * 5)
    scores = evaluate(np.eye(3)[predicted], labels, 1.0)  # the third class has no image
    assert scores.accuracy == 0.95 and scores.balanced_accuracy == (90 / 90 + 5 / 10) / 2


HEAD = ",".join(artifact.HISTORY_COLUMNS)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [HEAD],
        [HEAD, "1" + ",1" * 6],
        [HEAD, "2" + ",1" * 7],
        [HEAD, "1,nan" + ",1" * 6],
        [HEAD, "1,x" + ",1" * 6],
    ],
)
def test_a_history_that_is_not_one_row_of_numbers_per_epoch_is_refused(tmp_path, lines):
    (tmp_path / artifact.HISTORY).write_text("\n".join(lines) + "\n")
    assert "history.csv is not one row of finite numbers per epoch" in refusal(artifact.read_history, tmp_path)


def test_a_history_of_another_number_of_epochs_than_metrics_json_is_refused(copy):
    with (copy / artifact.HISTORY).open("a") as file:
        file.write("3" + ",1" * 7 + "\n")
    reseal(copy)
    assert refusal(artifact.read, copy).endswith("history.csv has 3 epochs, metrics.json 2")


def test_logits_agree_within_a_tolerance_that_grows_with_large_ones_and_without_nan():
    ones, large = np.ones((1, 3)), np.array([[-3000.0, 5.0]])
    assert artifact.agrees(ones, ones + 5e-4) and not artifact.agrees(ones, ones + 2e-3)
    assert not artifact.agrees(np.ones((1, 1)), ones) and not artifact.agrees(np.full((1, 3), np.nan), ones)
    assert artifact.agrees(large + 0.09, large) and not artifact.agrees(large + 0.11, large)
    assert artifact.agrees(large + 0.009, large, 1e-4) and not artifact.agrees(large + 0.011, large, 1e-4)
    assert not artifact.agrees(np.array([[np.inf, 5.0]]), large)
    assert not artifact.agrees(large, np.array([[np.inf, 5.0]]))
