import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from model import ArtifactError, Classifier, artifact, preprocess
from model.classifier import Prediction, softmax
from model.hub import BUNDLED
from model.resnet import ResNet
from tests.conftest import reseal


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture(scope="module")
def pictures():
    random = np.random.RandomState(3)
    return [Image.fromarray(random.randint(0, 256, (h, w, 3), np.uint8)) for h, w in ((32, 32), (50, 90), (7, 5))]


def test_onnx_runtime_agrees_with_torch_within_1e_4(tiny_artifact, classifier):
    images = np.random.RandomState(0).rand(300, 3, 32, 32).astype(np.float32)
    with torch.inference_mode():
        expected = ResNet.from_pretrained(tiny_artifact)(torch.from_numpy(images)).numpy()
    assert np.abs(classifier.logits(images) - expected).max() < 1e-4


def test_pictures_bytes_and_floats_of_the_same_image_give_the_same_logits(classifier, pictures):
    small = np.asarray(pictures[0])[None]
    by_picture = classifier.logits(pictures[:1])
    assert np.array_equal(by_picture, classifier.logits(small))
    assert np.array_equal(by_picture, classifier.logits(preprocess(pictures[0])[None]))


def test_probabilities_are_the_softmax_of_logits_over_the_temperature(classifier, pictures):
    logits = classifier.logits(pictures)
    expected = torch.softmax(torch.from_numpy(logits) / classifier.config.temperature, dim=1).numpy()
    found = classifier.probabilities(pictures)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_calibrated_gives_the_probabilities_of_logits(classifier, pictures):
    found = classifier.calibrated(classifier.logits(pictures))
    assert np.array_equal(found, classifier.probabilities(pictures)) and classifier.config.temperature != 1
    assert classifier.calibrated(np.empty((0, 10), np.float32)).shape == (0, 10)


def test_a_picture_is_recognised_where_its_highest_logit_reaches_the_threshold(classifier, monkeypatch):
    monkeypatch.setattr(classifier, "config", replace(classifier.config, threshold=2.5))
    logits = np.full((4, 10), -1, np.float32)
    logits[[0, 1, 2], [9, 0, 4]] = 2.5, np.nextafter(np.float32(2.5), np.float32(0)), 70
    found = classifier.is_in_distribution(logits)
    assert found.dtype == bool and found.tolist() == [True, False, True, False]
    assert classifier.is_in_distribution(logits[:0]).shape == (0,)


def test_an_older_artifact_without_a_threshold_recognises_everything(tiny_artifact, tmp_path):
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    reseal(folder, threshold=None)
    found = Classifier.load(folder).is_in_distribution(np.array([[-1e9] * 10, [3.0] * 10], np.float32))
    assert found.dtype == bool and found.tolist() == [True, True]


def test_softmax_survives_huge_logits():
    assert softmax(np.array([[1e4, 0.0]], np.float32)).tolist() == [[1.0, 0.0]]


def test_predict_gives_the_k_most_probable_first(classifier, pictures):
    probabilities = classifier.probabilities(pictures[1:2])[0]
    found = classifier.predict(pictures[1], top_k=3)
    assert [label for label, _ in found] == [classifier.class_names[i] for i in np.argsort(-probabilities)[:3]]
    assert [p for _, p in found] == pytest.approx(sorted(probabilities.tolist(), reverse=True)[:3])
    assert len(classifier.predict(pictures[1])) == 5
    assert sum(p for _, p in classifier.predict(pictures[1], top_k=10)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("fit", [None, "crop", "pad", "stretch"])
def test_classify_gives_each_image_what_it_gets_alone_from_one_run(classifier, pictures, monkeypatch, fit):
    alone = [classifier.classify([picture], fit)[0] for picture in pictures]
    heights = np.sort(classifier.logits(pictures, fit).max(1))
    monkeypatch.setattr(classifier, "config", replace(classifier.config, threshold=float(heights[1])))
    asked, run = [], classifier._run
    monkeypatch.setattr(classifier, "_run", lambda images: asked.append(len(images)) or run(images))
    found = classifier.classify(pictures, fit)
    assert asked == [3] and len({one.milliseconds for one in found}) == 1 and found[0].milliseconds > 0
    expected = classifier.probabilities(pictures, fit)
    for one, other, row in zip(found, alone, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
        assert one.probabilities.dtype == np.float32 and np.array_equal(one.probabilities, row)
    known = classifier.is_in_distribution(classifier.logits(pictures, fit)).tolist()
    assert [one.in_distribution for one in found] == known and sum(known) == 2


def test_the_best_of_a_prediction_come_most_probable_first_and_ties_in_label_order():
    found = Prediction(np.array([0.1, 0.4, 0.1, 0.4], np.float32), True, 1.0)
    assert found.best(3) == [1, 3, 0] and found.best(10) == [1, 3, 0, 2]
    assert all(type(label) is int for label in found.best(4))


@pytest.mark.parametrize("top_k", [0, 11, -1, 2.5, True, "3", None])
def test_top_k_out_of_range_is_refused_with_the_range(classifier, pictures, top_k):
    with pytest.raises(ValueError, match="must be a whole number from 1 to 10"):
        classifier.predict(pictures[0], top_k=top_k)


def test_batches_do_not_change_the_answer(classifier, monkeypatch):
    images = np.random.RandomState(1).randint(0, 256, (23, 32, 32, 3)).astype(np.uint8)
    whole = classifier.logits(images)
    monkeypatch.setattr("model.classifier.BATCH", 5)
    np.testing.assert_allclose(classifier.logits(images), whole, atol=1e-5)
    assert classifier.logits(images[:0]).shape == (0, 10)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((1, 3, 32, 32)),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 28, 28, 3), np.uint8),
    ],
)
def test_an_array_of_another_kind_is_refused(classifier, wrong):
    with pytest.raises(ValueError, match="give Pillow images"):
        classifier.logits(wrong)


def test_source_metrics_and_folder_say_what_was_loaded(tiny_artifact, classifier):
    assert str(classifier.source) == f"folder:{tiny_artifact}"
    assert classifier.folder == tiny_artifact
    assert classifier.metrics == artifact.read(tiny_artifact).metrics


def test_without_a_source_the_bundled_model_is_loaded():
    bundled = Classifier.load()
    assert str(bundled.source) == "bundled" and bundled.folder == BUNDLED


def spoil(tiny_artifact, tmp_path, name, change):
    """A copy of the artifact with one other tensor, sealed."""
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    weights = load_file(folder / artifact.WEIGHTS)
    save_file(weights | {name: change(weights[name])}, folder / artifact.WEIGHTS)
    reseal(folder)
    return folder


def test_a_network_that_does_not_answer_as_expected_is_refused(tiny_artifact, tmp_path):
    folder = spoil(tiny_artifact, tmp_path, "fc.bias", lambda bias: bias + 0.01)
    with pytest.raises(ArtifactError, match="model.safetensors does not answer as config.json expects"):
        Classifier.load(folder)


@pytest.mark.parametrize(("name", "factor"), [("bn.running_var", -1), ("std", 0)])
def test_statistics_that_make_no_number_are_refused(tiny_artifact, tmp_path, name, factor):
    folder = spoil(tiny_artifact, tmp_path, name, lambda tensor: tensor * np.float32(factor))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ArtifactError, match="model.safetensors does not answer as config.json expects"):
            Classifier.load(folder)


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"a virus"), lambda path: path.unlink()])
def test_the_artifacts_own_graph_is_never_read(tiny_artifact, tmp_path, classifier, pictures, damage):
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    damage(folder / artifact.GRAPH)
    assert np.array_equal(Classifier.load(folder).logits(pictures), classifier.logits(pictures))


def test_any_number_of_threads_gives_the_same_answer(tiny_artifact, classifier):
    images = np.random.RandomState(2).randint(0, 256, (64, 32, 32, 3)).astype(np.uint8)
    found = Classifier.load(tiny_artifact, threads=2).logits(images)
    np.testing.assert_allclose(found, classifier.logits(images), atol=1e-5)


def test_the_artifact_says_how_an_image_becomes_square(tiny_artifact, tmp_path, classifier, pictures):
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    reseal(folder, fit="pad")
    padding = Classifier.load(folder)
    assert np.array_equal(padding.logits(pictures), classifier.logits(pictures, "pad"))
    assert np.array_equal(padding.logits(pictures, "crop"), classifier.logits(pictures))
    assert not np.array_equal(padding.logits(pictures), classifier.logits(pictures))
