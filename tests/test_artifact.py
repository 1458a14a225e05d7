import json
import shutil

import numpy as np
import pytest

from model import artifact
from model.artifact import ArtifactError


@pytest.fixture
def copy(tiny_artifact, tmp_path):
    return shutil.copytree(tiny_artifact, tmp_path / "artifact")


def edit(path, **changes):
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not ...}))


def test_an_exported_folder_reads_back(tiny_artifact):
    found = artifact.read(tiny_artifact)
    assert found.config["depth"] == 8 and found.config["class_names"][3] == "cat"
    assert found.metrics["test"]["n"] == 250


def test_the_probe_picture_is_computed_and_never_changes():
    image = artifact.probe_image()
    assert image.shape == (1, 3, 32, 32) and image.dtype == np.float32
    assert image[0, 0, 0, 1] == np.float32(7 / 255) and image[0, 0, 1, 0] == np.float32((32 * 7 + 13) % 256 / 255)
    assert image.min() >= 0 and image.max() <= 1 and len(np.unique(image)) > 200


@pytest.mark.parametrize("name", (artifact.CONFIG, *artifact.SEALED))
def test_a_folder_with_a_missing_file_is_refused_by_name(copy, name):
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=f"lacks {name}"):
        artifact.read(copy)


@pytest.mark.parametrize("name", artifact.SEALED)
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
        ({"format_version": 2}, "has format_version '2' where 1 is allowed"),
        ({"depth": 33}, "has depth '33' where 6n"),
        ({"depth": 10**9}, "has depth"),
        ({"depth": True}, "has depth"),
        ({"stem_kernel": 5}, "has stem_kernel"),
        ({"shortcut": "C"}, "has shortcut"),
        ({"class_names": ["a"] * 10}, "has a class name twice"),
        ({"class_names": ["a", "b"]}, "has 2 class_names for num_classes 10"),
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
        ({"threshold": "5"}, "has threshold '5' where a finite number is allowed"),
        ({"threshold": None}, "has threshold 'None' where"),
        ({"threshold": True}, "has threshold 'True' where"),
        ({"threshold": 10**400}, "has threshold"),
        ({"threshold": [5.0]}, "has threshold"),
        ({"expected_logits": [0.0]}, "has 1 expected_logits for num_classes 10"),
        ({"sha256": {}}, "has sha256"),
        ({"sha256": ...}, "lacks sha256"),
        ({"image_size": 64}, "has image_size"),
    ],
)
def test_a_config_out_of_range_is_refused_with_the_field(copy, changes, words):
    edit(copy / artifact.CONFIG, **changes)
    with pytest.raises(ArtifactError, match=words):
        artifact.read(copy)


@pytest.mark.parametrize("threshold", [..., 0, -3.5, 7])
def test_the_threshold_may_be_absent_or_any_finite_number(copy, threshold):
    edit(copy / artifact.CONFIG, threshold=threshold)
    found = artifact.read(copy).config
    assert found.get("threshold", ...) == threshold


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


def test_metrics_whose_counts_contradict_each_other_are_refused(tiny_artifact):
    metrics = artifact.read(tiny_artifact).metrics

    def problem(**changes):
        with pytest.raises(ArtifactError) as caught:
            artifact.check_metrics(metrics | {"test": metrics["test"] | changes}, 10, tiny_artifact / artifact.METRICS)
        return str(caught.value)

    assert "does not add up" in problem(n=251)
    assert "does not add up" in problem(correct=metrics["test"]["correct"] + 1)
    assert "is not correct / n" in problem(accuracy=0.999)
    assert "not within its accuracy_interval" in problem(accuracy_interval=[0.99, 1.0])
    shares = metrics["test"]["per_class_accuracy"]
    assert "is not that of its confusion_matrix" in problem(per_class_accuracy=[*shares[:9], abs(shares[9] - 0.01)])
    assert "is not 10 by 10" in problem(confusion_matrix=[[1]])
    assert "test.loss" in problem(loss=None)


def test_the_flipped_view_may_be_absent_but_must_be_sound(tiny_artifact):
    metrics = artifact.read(tiny_artifact).metrics
    path = tiny_artifact / artifact.METRICS
    flip = metrics["val"]["flip_tta"]
    without = {name: value for name, value in metrics["val"].items() if name != "flip_tta"}
    artifact.check_metrics(metrics | {"val": without}, 10, path)

    def problem(value):
        with pytest.raises(ArtifactError) as caught:
            artifact.check_metrics(metrics | {"val": without | {"flip_tta": value}}, 10, path)
        return str(caught.value)

    assert "has val.flip_tta 'None' where an object is allowed" in problem(None)
    assert "lacks val.flip_tta.n" in problem({})
    for name, value in {"n": 0, "correct": 1.5, "accuracy": 2, "accuracy_interval": [0.5], "loss": -1}.items():
        assert f"has val.flip_tta.{name} " in problem(flip | {name: value})
    assert "has a val.flip_tta.n that is not val.n" in problem(flip | {"n": 60, "accuracy": flip["correct"] / 60})
    assert "has a val.flip_tta.accuracy that is not correct / n" in problem(flip | {"accuracy": flip["accuracy"] / 2})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": {"train": 1, "val": 1, "test": 1}}, "lacks training.split.seed"),
        ({"best_epoch": None}, "has training.best_epoch"),
        ({"device": "x" * 201}, "has training.device"),
        ({"git_commit": 7}, "has training.git_commit"),
        ({"wall_seconds": "long"}, "has training.wall_seconds"),
    ],
)
def test_what_the_page_says_of_the_training_must_be_there(tiny_artifact, changes, words):
    metrics = artifact.read(tiny_artifact).metrics
    metrics["training"] |= changes
    with pytest.raises(ArtifactError, match=words):
        artifact.check_metrics(metrics, 10, tiny_artifact / artifact.METRICS)


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


@pytest.mark.parametrize("depth", [8, 32, 110])
@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize(("stem_kernel", "num_classes"), [(1, 10), (3, 7)])
def test_parameters_are_counted_as_the_network_has_them(depth, shortcut, stem_kernel, num_classes):
    from model.resnet import ResNet

    architecture = {"depth": depth, "shortcut": shortcut, "stem_kernel": stem_kernel, "num_classes": num_classes}
    assert artifact.parameters(architecture) == sum(p.numel() for p in ResNet(**architecture).parameters())


def test_the_parameters_of_a_network_are_bounded(copy, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_PARAMETERS", 1000)
    with pytest.raises(ArtifactError, match=r"describes a network of \d+,\d+ parameters; 1,000 are allowed"):
        artifact.read(copy)


@pytest.mark.parametrize("name", (artifact.CONFIG, *artifact.SEALED))
def test_a_file_that_is_too_large_is_refused_before_it_is_read(copy, name, monkeypatch):
    monkeypatch.setattr(artifact, "sha256", lambda path: pytest.fail(f"{path} was read") if path.name == name else "")
    monkeypatch.setattr(json, "loads", lambda text, **_: pytest.fail("was read") if name == artifact.CONFIG else {})
    monkeypatch.setattr(artifact, "check_config", lambda config, path: config.update(SMALL))
    with (copy / name).open("r+b") as file:
        file.truncate(10**12)  # sparse: takes no room on the disk
    with pytest.raises(ArtifactError, match=f"{name} has 1,000,000,000,000 bytes"):
        artifact.read(copy)


SMALL = {"depth": 8, "stem_kernel": 3, "shortcut": "A", "num_classes": 10, "sha256": dict.fromkeys(artifact.SEALED, "")}


def test_files_that_are_not_asked_for_may_be_absent(copy):
    for name in (artifact.METRICS, artifact.HISTORY, artifact.PREDICTIONS, artifact.GRAPH):
        (copy / name).unlink()
    assert artifact.read(copy, files=(artifact.WEIGHTS,)).metrics == {}
    with pytest.raises(ArtifactError, match="lacks model.onnx"):
        artifact.read(copy)
