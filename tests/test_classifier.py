import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from model import ArtifactError, Classifier, artifact, preprocess
from model.classifier import softmax
from model.hub import BUNDLED
from model.resnet import ResNet


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


def test_the_second_output_holds_the_feature_maps(tiny_artifact, classifier):
    images = np.random.RandomState(0).rand(2, 3, 32, 32).astype(np.float32)
    features = classifier._session.run(["features"], {"images": images})[0]
    with torch.inference_mode():
        expected = ResNet.from_pretrained(tiny_artifact).features(torch.from_numpy(images)).numpy()
    assert features.shape == (2, 64, 8, 8)
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_pictures_bytes_and_floats_of_the_same_image_give_the_same_logits(classifier, pictures):
    small = np.asarray(pictures[0])[None]
    by_picture = classifier.logits(pictures[:1])
    assert np.array_equal(by_picture, classifier.logits(small))
    assert np.array_equal(by_picture, classifier.logits(preprocess(pictures[0])[None]))


def test_probabilities_are_the_softmax_of_logits_over_the_temperature(classifier, pictures):
    logits = classifier.logits(pictures)
    expected = torch.softmax(torch.from_numpy(logits) / classifier.config["temperature"], dim=1).numpy()
    found = classifier.probabilities(pictures)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_calibrated_gives_the_probabilities_of_logits(classifier, pictures):
    found = classifier.calibrated(classifier.logits(pictures))
    assert np.array_equal(found, classifier.probabilities(pictures)) and classifier.config["temperature"] != 1
    assert classifier.calibrated(np.empty((0, 10), np.float32)).shape == (0, 10)


def test_a_picture_is_recognised_where_its_highest_logit_reaches_the_threshold(classifier, monkeypatch):
    monkeypatch.setitem(classifier.config, "threshold", 2.5)
    logits = np.full((4, 10), -1, np.float32)
    logits[[0, 1, 2], [9, 0, 4]] = 2.5, np.nextafter(np.float32(2.5), np.float32(0)), 70
    found = classifier.recognises(logits)
    assert found.dtype == bool and found.tolist() == [True, False, True, False]
    assert classifier.recognises(logits[:0]).shape == (0,)


def test_an_older_artifact_without_a_threshold_recognises_everything(tiny_artifact, tmp_path):
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    config = json.loads((folder / artifact.CONFIG).read_text())
    del config["threshold"]
    artifact.write_json(folder / artifact.CONFIG, config)
    found = Classifier.load(folder).recognises(np.array([[-1e9] * 10, [3.0] * 10], np.float32))
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
    with pytest.raises(ValueError, match="give Pillow pictures"):
        classifier.logits(wrong)


def test_source_metrics_and_folder_say_what_was_loaded(tiny_artifact, classifier):
    assert classifier.source == f"folder:{tiny_artifact}"
    assert classifier.folder == tiny_artifact
    assert classifier.metrics == json.loads((tiny_artifact / artifact.METRICS).read_text())


def test_without_a_source_the_bundled_model_is_loaded():
    bundled = Classifier.load()
    assert bundled.source == "bundled" and bundled.folder == BUNDLED


def reseal(folder, **changes):
    artifact.seal(folder, json.loads((folder / artifact.CONFIG).read_text()) | changes)


def test_a_network_that_does_not_answer_as_expected_is_refused(tiny_artifact, tmp_path):
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    model = onnx.load(folder / artifact.GRAPH)
    bias = next(t for t in model.graph.initializer if t.name.endswith("fc.bias"))
    bias.raw_data = (np.frombuffer(bias.raw_data, np.float32) + 0.01).tobytes()
    onnx.save(model, folder / artifact.GRAPH)
    reseal(folder)
    with pytest.raises(ArtifactError, match="does not answer as config.json expects"):
        Classifier.load(folder)


def test_a_graph_is_checked_before_onnx_runtime_sees_it(tiny_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *args, **kwargs: pytest.fail("was loaded"))
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    model = onnx.load(folder / artifact.GRAPH)
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["images"], ["as_float"], to=onnx.TensorProto.FLOAT))
    onnx.save(model, folder / artifact.GRAPH)
    reseal(folder)
    with pytest.raises(ArtifactError, match="model.onnx has a node 'Cast'"):
        Classifier.load(folder)
    (folder / artifact.GRAPH).write_bytes(b"not a graph")
    reseal(folder)
    with pytest.raises(ArtifactError, match="model.onnx has 11 bytes where config.json's network takes"):
        Classifier.load(folder)


def test_a_network_that_mixes_the_pictures_of_a_batch_is_refused(tiny_artifact, monkeypatch):
    run = Classifier._run
    monkeypatch.setattr(Classifier, "_run", lambda self, images: run(self, images)[[0] * len(images)])
    with pytest.raises(ArtifactError, match="does not answer as config.json expects"):
        Classifier.load(tiny_artifact)
    monkeypatch.setattr(Classifier, "_run", lambda self, images: run(self, images)[:1])
    with pytest.raises(ArtifactError, match="does not answer as config.json expects"):
        Classifier.load(tiny_artifact)
