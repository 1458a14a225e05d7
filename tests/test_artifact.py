import json
import re
import shutil
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from model import Classifier, artifact
from model.artifact import ArtifactError
from tests.conftest import reseal
from trainer.evaluate import evaluate


@pytest.fixture
def copy(tiny_artifact, tmp_path):
    return shutil.copytree(tiny_artifact, tmp_path / "artifact")


def edit(path, **changes):
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not ...}))


def test_an_exported_folder_reads_back(tiny_artifact):
    found = artifact.read(tiny_artifact)
    assert found.config.depth == 8 and found.config.class_names[3] == "cat"
    assert found.metrics.test.n == 250


def test_the_probe_picture_is_computed_and_never_changes():
    image = artifact.probe_image()
    assert image.shape == (1, 3, 32, 32) and image.dtype == np.float32
    assert image[0, 0, 0, 1] == np.float32(7 / 255) and image[0, 0, 1, 0] == np.float32((32 * 7 + 13) % 256 / 255)
    assert image.min() >= 0 and image.max() <= 1 and len(np.unique(image)) > 200


@pytest.mark.parametrize("name", (artifact.CONFIG, *artifact.SERVING))
def test_a_folder_with_a_missing_file_is_refused_by_name(copy, name):
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=f"lacks {name}"):
        artifact.read(copy)


@pytest.mark.parametrize("name", artifact.SERVING)
def test_an_altered_file_is_refused_by_name(copy, name):
    path = copy / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match=f"{name} is damaged or altered"):
        artifact.read(copy)


@pytest.mark.parametrize("name", [artifact.CARD, artifact.FIGURES, artifact.SAMPLES, artifact.TENSORBOARD])
def test_card_figures_samples_and_events_may_be_absent(copy, name):
    path = copy / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    artifact.read(copy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "has format_version 2 where 1 is allowed"),
        ({"format_version": 1.0}, "has format_version 1.0"),
        ({"depth": 1208}, "has depth 1208"),
        ({"expected_logits": [None] * 10}, r"has expected_logits\[0\] null where a finite number"),
        ({"sha256": {"a\nb": 5}}, r'has sha256\["a\\nb"\] 5 where a short text'),
        ({"depth": 33}, "has depth 33 where 6n"),
        ({"depth": 10**9}, "has depth"),
        ({"depth": True}, "has depth"),
        ({"stem_kernel": 5}, "has stem_kernel 5 where 1 or 3 is allowed"),
        ({"stem_kernel": True}, "has stem_kernel true"),
        ({"image_size": 32.0}, "has image_size 32.0"),
        ({"shortcut": "C"}, "has shortcut"),
        ({"class_names": ["a"] * 10}, "is wrong: it has a class name twice"),
        ({"class_names": ["a", "b"]}, "it has 2 class_names for num_classes 10"),
        ({"class_names": "airplane"}, "has class_names"),
        ({"class_names": list("abcdefghi") + ["j\n"]}, "has class_names"),
        ({"class_names": list("abcdefghi") + ["j" * 65]}, "has class_names"),
        ({"class_names": list("abcdefghi") + ["<b>j"]}, "has class_names"),
        ({"class_names": list("abcdefghi") + ["j\u202e"]}, "has class_names"),
        ({"class_names": list(range(10))}, "has class_names"),
        ({"num_classes": 101}, "has num_classes"),
        ({"temperature": 0}, "has temperature"),
        ({"temperature": "1"}, "has temperature"),
        ({"temperature": 10**400}, "has temperature"),
        ({"threshold": "5"}, 'has threshold "5" where a finite number is allowed'),
        ({"threshold": None}, "has threshold null where"),
        ({"threshold": True}, "has threshold true where"),
        ({"threshold": 10**400}, "has threshold"),
        ({"threshold": [5.0]}, "has threshold"),
        ({"expected_logits": [0.0]}, "it has 1 expected_logits for num_classes 10"),
        ({"sha256": {}}, "has no sha256 of model.safetensors"),
        ({"sha256": ...}, "lacks sha256"),
        ({"sha256": ["0"]}, "has sha256"),
        ({"image_size": 64}, "has image_size 64 where 32 is allowed"),
        ({"fit": "zoom"}, 'has fit "zoom" where "crop" or "pad" or "stretch" is allowed'),
        ({"fit": None}, "has fit"),
    ],
)
def test_a_config_out_of_range_is_refused_with_the_field(copy, changes, words):
    edit(copy / artifact.CONFIG, **changes)
    with pytest.raises(ArtifactError, match=words):
        artifact.read(copy)


@pytest.mark.parametrize("threshold", [..., 0, -3.5, 7])
def test_the_threshold_may_be_absent_or_any_finite_number(copy, threshold):
    edit(copy / artifact.CONFIG, threshold=threshold)
    assert artifact.read(copy).config.threshold == (None if threshold is ... else threshold)


def test_json_with_nan_or_rubbish_is_refused(copy):
    (copy / artifact.CONFIG).write_text('{"temperature": NaN}')
    with pytest.raises(ArtifactError, match="not valid JSON"):
        artifact.read(copy)
    (copy / artifact.CONFIG).write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        artifact.read(copy)
    (copy / artifact.CONFIG).write_text("[1]")
    with pytest.raises(ArtifactError, match="is not a JSON object"):
        artifact.read(copy)


@pytest.fixture
def refusal(tiny_artifact, tmp_path):
    """Why metrics.json with other values, such as `{"test.loss": None}`, is refused; `...` leaves a field out."""

    config = artifact.read_config(tiny_artifact / artifact.CONFIG)

    def why(changes):
        metrics = json.loads((tiny_artifact / artifact.METRICS).read_text())
        for where, value in changes.items():
            *parents, name = where.split(".")
            section = reduce(dict.__getitem__, parents, metrics)
            section[name] = value
            if value is ...:
                del section[name]
        (tmp_path / artifact.METRICS).write_text(json.dumps(metrics).replace("Infinity", "1e400"))
        try:
            artifact.read_metrics(tmp_path / artifact.METRICS, config)
        except ArtifactError as error:
            return str(error).removeprefix(f"{tmp_path / artifact.METRICS} ")

    return why


def test_metrics_whose_counts_contradict_each_other_are_refused(tiny_artifact, refusal):
    test = artifact.read(tiny_artifact).metrics.test
    assert refusal({}) is None
    assert "has a wrong test: its accuracy is not correct / n" in refusal({"test.accuracy": 0.999})
    for count in ({"test.n": 251}, {"test.correct": test.correct + 1}):
        n, correct = count.get("test.n", test.n), count.get("test.correct", test.correct)
        assert "does not add up" in refusal(count | {"test.accuracy": correct / n})
    assert "not within its accuracy_interval" in refusal({"test.accuracy_interval": [0.99, 1.0]})
    shares = list(test.per_class_accuracy)
    other = [*shares[:9], abs(shares[9] - 0.01)]
    assert "is not that of its confusion_matrix" in refusal({"test.per_class_accuracy": other})
    assert "is not 10 by 10" in refusal({"test.confusion_matrix": [[1]]})
    one = {"test.confusion_matrix": [[250]], "test.per_class_accuracy": [1], "test.correct": 250, "test.accuracy": 1}
    assert "has a test.confusion_matrix that is not 10 by 10" in refusal(one | {"test.accuracy_interval": [0.9, 1]})
    bins = [dict(lower=0, upper=1, n=249, confidence=0.5, accuracy=0.5)]
    assert "calibration.bins_after do not add up to n" in refusal({"test.calibration.bins_after": bins})


def test_a_value_of_any_depth_is_refused(copy):
    text, config = (copy / artifact.METRICS).read_text(), artifact.read_config(copy / artifact.CONFIG)
    for depth in range(500, 1001):  # Python's own limit is in there, once for the parser, once for what shows the value
        deep = text.replace('"recipe": "default"', f'"recipe": {"[" * depth}{"]" * depth}', 1)
        (copy / artifact.METRICS).write_text(deep)
        with pytest.raises(ArtifactError):
            artifact.read_metrics(copy / artifact.METRICS, config)


def test_the_flipped_view_may_be_absent_but_must_be_sound(tiny_artifact, refusal):
    flip = artifact.read(tiny_artifact).metrics.val.flip_tta
    assert refusal({"val.flip_tta": ...}) is None
    assert "has val.flip_tta null where an object is allowed" in refusal({"val.flip_tta": None})
    assert "lacks val.flip_tta.n" in refusal({"val.flip_tta": {}})
    for name, value in {"n": 0, "correct": 1.5, "accuracy": 2, "accuracy_interval": [0.5], "loss": -1}.items():
        assert f"has val.flip_tta.{name} " in refusal({f"val.flip_tta.{name}": value})
    other = {"val.flip_tta.n": 60, "val.flip_tta.accuracy": flip.correct / 60, "val.flip_tta.accuracy_interval": [0, 1]}
    assert "its flip_tta.n is not n" in refusal(other)
    assert "has a wrong val.flip_tta: its accuracy is not" in refusal({"val.flip_tta.accuracy": flip.accuracy / 2})


BIN = {"lower": 0, "upper": 1, "n": 250, "confidence": 0.9, "accuracy": 0.8}
EARLIER = {"recipe": "x", "seed": 0, "epochs": 1, "parameters": 1, "depth": 8, "val_accuracy": 0.5, "sha256": "0"}
LATER = {"started": "x", "device": "x", "precision": "x", "versions": {}, "git_commit": None}


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("format_version", 2, "has format_version 2 where 1 is allowed"),
        ("test.loss", None, "has test.loss null"),
        ("test.n", True, "has test.n true where a positive whole number"),
        ("test.accuracy_interval", [0, 0.5, 1], "has test.accuracy_interval"),
        ("test.calibration", ..., "lacks test.calibration"),
        ("test.calibration", "<b>", 'has test.calibration "<b>" where an object'),
        ("test.calibration.ece_before", 1.1, "has test.calibration.ece_before 1.1 where a fraction"),
        ("test.calibration.loss_after", ..., "lacks test.calibration.loss_after"),
        ("test.calibration.bins_before", {"lower": 0}, "has test.calibration.bins_before"),
        ("test.calibration.bins_before", [7], r"bins_before\[0\] 7 where an object"),
        ("test.calibration.bins_before", [BIN | {"n": 1.5}], r"bins_before\[0\].n 1.5 where a whole number"),
        ("test.calibration.bins_before", [BIN | {"upper": 1e400}], r"bins_before\[0\].upper"),
        ("test.calibration.bins_before", [], "has test.calibration.bins_before .* where 1 to 100 bins"),
        ("test.calibration.bins_before", [BIN] * 101, "where 1 to 100 bins"),
        ("test.calibration.bins_before", [BIN | {"upper": 0}], "its lower is not below its upper"),
        ("test.calibration.bins_before", [BIN | {"accuracy": None}], "no confidence or accuracy"),
        (
            "test.calibration.bins_before",
            [BIN | {"confidence": "1"}],
            r'bins_before\[0\].confidence "1" where a fraction',
        ),
        ("training.split", {"train": 1, "val": 1, "test": 1}, "lacks training.split.seed"),
        ("training.split.val_sha256", 7, "has training.split.val_sha256"),
        ("training.best_epoch", None, "has training.best_epoch"),
        ("training.device", "x" * 201, "has training.device"),
        ("training.git_commit", 7, "has training.git_commit"),
        ("training.wall_seconds", "long", "has training.wall_seconds"),
        ("training.changes", ["--depth 8", 7], r"has training.changes\[1\] 7"),
        ("training.changes", "--depth 8", "has training.changes"),
        ("training.changes", ["x" * 1001], "has training.changes"),
        ("training.changes", ["x"] * 1001, "has training.changes"),
        ("training.hyperparameters", [], "has training.hyperparameters"),
        (
            "training.hyperparameters",
            {"depth": {"deep": 8}},
            r"has training.hyperparameters\[.depth.\] .* where a plain value",
        ),
        ("training.hyperparameters", {"scale": [[1]]}, "has training.hyperparameters"),
        ("training.hyperparameters", {"deep": reduce(lambda inner, _: [inner], range(900), 0)}, "where a plain value"),
        ("training.best_epoch", 3, "has a wrong training: its best_epoch is none of its epochs"),
        ("training.parameters", 464154, "has training.parameters 464,154; there are"),
        ("training.split.test", 251, "has a test.n that is not training.split.test"),
        ("training.hyperparameters", {"text": "x" * 1001}, r"has training.hyperparameters\[.text.\]"),
        ("training.hyperparameters", {"many": [0] * 101}, r"has training.hyperparameters\[.many.\]"),
        ("training.hyperparameters", {"x" * 201: 0}, "plain values by name"),
        ("training.hyperparameters", {"half \ud800": 0}, "has training.hyperparameters"),
        ("training.versions", {"half": ["\ud800"]}, r"has training.versions\[.half.\]"),
        ("training.recipe", "half \ud800", "has training.recipe"),
        ("training.hyperparameters", dict.fromkeys(map(str, range(201)), 0), "plain values by name"),
        ("training.versions", {"torch": float(10**10)}, r"has training.versions\[.torch.\]"),
        ("training.peak_memory_bytes", {"host": "much", "device": None}, "has training.peak_memory_bytes.host"),
        ("training.peak_memory_bytes", None, "has training.peak_memory_bytes null where an object"),
        ("training.resumed", [LATER | {"device": 7}], r"has training.resumed\[0\].device 7"),
        ("training.resumed", 3, "has training.resumed"),
        (
            "training.pretrained",
            {"teacher": EARLIER | {"val_accuracy": 1.2}},
            "has training.pretrained.teacher.val_acc",
        ),
        ("training.mean", [0.5, 0.5], "has training.mean .* where a list of 3"),
        ("training.mean", [0.5, 0.5, "x"], r'has training.mean\[2\] "x" where a finite number'),
    ],
)
def test_every_known_field_of_metrics_is_checked(refusal, where, value, words):
    assert re.search(words, refusal({where: value}))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("new", {"deep": [{}]}),
        ("test.new", "<b>"),
        ("training.split.new", None),
        ("training.pretrained", {"initial_weights": EARLIER, "new": 7}),
        ("training.resumed", [LATER | {"new": 7}] * 300),
        ("training.hyperparameters", {"new": [1, "a", None], "newer": True, "flag": None, "seed": 2**32 - 1}),
    ],
)
def test_what_a_newer_trainer_adds_is_ignored(refusal, where, value):
    assert refusal({where: value}) is None


def test_an_artifact_that_was_published_before_is_read(copy):
    """Of format 1, without what came later; its graph, which nobody reads, from another writer or not there at all."""
    edit(copy / artifact.CONFIG, threshold=..., fit=...)
    metrics = json.loads((copy / artifact.METRICS).read_text())
    del metrics["val"]["flip_tta"], metrics["test"]["flip_tta"], metrics["training"]["split"]["val_sha256"]
    for name in ("changes", "resumed", "peak_memory_bytes"):
        del metrics["training"][name]
    artifact.write_json(copy / artifact.METRICS, metrics)
    (copy / artifact.GRAPH).write_bytes(b"from another writer")
    digests = {name: artifact.sha256(copy / name) for name in artifact.CHECKSUMMED}
    edit(copy / artifact.CONFIG, sha256=digests)
    read = artifact.read(copy)
    assert read.config.fit == "crop" and read.config.threshold is None and read.metrics.training.changes == ()
    (copy / artifact.GRAPH).unlink()
    edit(copy / artifact.CONFIG, sha256={n: digest for n, digest in digests.items() if n != artifact.GRAPH})
    assert artifact.read(copy) == replace(read, config=artifact.read_config(copy / artifact.CONFIG))
    assert Classifier.load(copy).is_in_distribution(np.full((1, 10), -1e9)).all()


def test_what_is_written_reads_back_equal_and_nothing_else_is_written(copy):
    found = artifact.read(copy)
    artifact.write_metrics(copy, found.metrics)
    artifact.write_checksums(copy, found.config)
    assert artifact.read(copy) == found
    with pytest.raises(ArtifactError, match="has temperature NaN"):
        artifact.write_checksums(copy, replace(found.config, temperature=float("nan")))
    with pytest.raises(ArtifactError, match="has training.device"):
        training = replace(found.metrics.training, device="x" * 201)
        artifact.write_metrics(copy, replace(found.metrics, training=training))
    assert artifact.read(copy) == found


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_have_images():
    labels, predicted = np.array([0] * 90 + [1] * 10), np.array([0] * 95 + [1] * 5)
    scores = evaluate(np.eye(3)[predicted], labels, 1.0)  # the third class has no image
    assert scores.accuracy == 0.95 and scores.balanced_accuracy == (90 / 90 + 5 / 10) / 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",".join(artifact.HISTORY_COLUMNS) + "\n",
        ",".join(artifact.HISTORY_COLUMNS[1:]) + "\n" + ",".join(["1"] * 7) + "\n",
        ",".join(artifact.HISTORY_COLUMNS) + "\n" + ",".join(["1"] * 7) + "\n",
        ",".join(artifact.HISTORY_COLUMNS) + "\n" + ",".join(["1"] * 9) + "\n",
        ",".join(artifact.HISTORY_COLUMNS) + "\n" + ",".join(["2"] * 8) + "\n",
        ",".join(artifact.HISTORY_COLUMNS) + "\n1,nan" + ",1" * 6 + "\n",
        ",".join(artifact.HISTORY_COLUMNS) + "\n1,1e308" + ",1" * 6 + "\n",
    ],
)
def test_a_history_that_is_not_one_row_of_numbers_per_epoch_is_refused(tmp_path, text):
    (tmp_path / artifact.HISTORY).write_text(text)
    with pytest.raises(ArtifactError, match="history.csv is not one row of finite numbers per epoch"):
        artifact.read_history(tmp_path)


def test_a_history_of_another_number_of_epochs_than_metrics_json_is_refused(copy):
    with (copy / artifact.HISTORY).open("a") as file:
        file.write("3" + ",1" * 7 + "\n")
    reseal(copy)
    with pytest.raises(ArtifactError, match=r"history.csv has 3 epochs, metrics.json 2$"):
        artifact.read(copy)


def test_logits_agree_only_with_the_same_shape_and_without_nan():
    assert artifact.agrees(np.ones((1, 3)), np.ones((1, 3)) + 5e-4)
    assert not artifact.agrees(np.ones((1, 3)), np.ones((1, 3)) + 2e-3)
    assert not artifact.agrees(np.ones((1, 1)), np.ones((1, 3)))
    assert not artifact.agrees(np.full((1, 3), np.nan), np.ones((1, 3)))


def test_large_logits_agree_within_a_part_of_the_largest():
    expected = np.array([[-3000.0, 5.0]])
    assert artifact.agrees(expected + 0.09, expected)
    assert not artifact.agrees(expected + 0.11, expected)
    assert artifact.agrees(expected + 0.009, expected, 1e-4)
    assert not artifact.agrees(expected + 0.011, expected, 1e-4)
    assert not artifact.agrees(np.array([[np.inf, 5.0]]), expected)
    assert not artifact.agrees(expected, np.array([[np.inf, 5.0]]))


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="nowhere is not a folder"):
        artifact.read(tmp_path / "nowhere")


def test_the_parameters_of_a_network_are_bounded(copy, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_PARAMETERS", 1000)
    with pytest.raises(ArtifactError, match=r"is wrong: a network of \d+,\d+ parameters; 1,000 are allowed"):
        artifact.read(copy)


@pytest.mark.parametrize("name", (artifact.CONFIG, *artifact.SERVING))
def test_a_file_that_is_too_large_is_refused_before_it_is_read(copy, name, monkeypatch):
    opened, original = [], Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **k: opened.append(path.name) or original(path, *a, **k))
    with original(copy / name, "r+b") as file:
        file.truncate(10**12)  # sparse: takes no room on the disk
    with pytest.raises(ArtifactError, match=f"{name} has 1,000,000,000,000 bytes"):
        artifact.read(copy)
    assert name not in opened and (name == artifact.CONFIG or artifact.CONFIG in opened)


def test_files_that_are_not_asked_for_may_be_absent(copy):
    for name in (artifact.METRICS, artifact.HISTORY, artifact.PREDICTIONS):
        (copy / name).unlink()
    assert artifact.read(copy, files=(artifact.WEIGHTS,)).metrics is None
    with pytest.raises(ArtifactError, match="lacks metrics.json, history.csv, predictions.csv"):
        artifact.read(copy)
