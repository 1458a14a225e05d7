"""The engine that serves: its answers against torch and by hand, and what it refuses."""

import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from model import ArtifactError, Classifier, artifact, preprocess
from model.classifier import softmax
from model.hub import BUNDLED
from tests.conftest import reseal


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture(scope="module")
def images():
    random = np.random.RandomState(3)
    return [Image.fromarray(random.randint(0, 256, (h, w, 3), np.uint8)) for h, w in ((32, 32), (50, 90), (7, 5))]


@pytest.fixture
def sealed(tiny_artifact, tmp_path):
    """A copy of the artifact with other fields in its config.json."""

    def copy(**config):
        folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
        reseal(folder, **config)
        return folder

    return copy


def test_images_bytes_and_floats_of_the_same_image_give_the_same_logits(classifier, images):
    expected = classifier.logits(images[:1])
    assert np.array_equal(expected, classifier.logits(np.asarray(images[0])[None]))
    assert np.array_equal(expected, classifier.logits(preprocess(images[0])[None]))
    assert classifier.logits([]).shape == (0, 10)


def test_probabilities_are_the_softmax_of_logits_over_the_temperature(classifier, images):
    logits, found = classifier.logits(images), classifier.probabilities(images)
    expected = torch.softmax(torch.from_numpy(logits) / classifier.config.temperature, dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32 and classifier.config.temperature != 1
    assert np.array_equal(found, classifier.calibrated(logits))
    assert softmax(np.array([[1e4, 0.0]], np.float32)).tolist() == [[1.0, 0.0]]


def test_an_image_is_in_distribution_where_its_highest_logit_reaches_the_threshold(sealed):
    classifier = Classifier.load(sealed(threshold=2.5))
    logits = np.full((4, 10), -1, np.float32)
    logits[[0, 1, 2], [9, 0, 4]] = 2.5, np.nextafter(np.float32(2.5), np.float32(0)), 70
    found = classifier.is_in_distribution(logits)
    assert found.dtype == bool and found.tolist() == [True, False, True, False]


def test_predict_gives_the_k_most_probable_first(classifier, images):
    probabilities = classifier.probabilities(images[1:2])[0]
    found = classifier.predict(images[1], top_k=3)
    assert [label for label, _ in found] == [classifier.class_names[i] for i in np.argsort(-probabilities)[:3]]
    assert [p for _, p in found] == pytest.approx(sorted(probabilities.tolist(), reverse=True)[:3])
    assert len(classifier.predict(images[1])) == 5 and len(classifier.predict(images[1], top_k=10)) == 10


@pytest.mark.parametrize("top_k", [0, 11, 2.5, True])
def test_top_k_out_of_range_is_refused_with_the_range(classifier, images, top_k):
    with pytest.raises(ValueError, match="must be a whole number from 1 to 10"):
        classifier.predict(images[0], top_k=top_k)


def test_classify_gives_each_image_what_it_gets_alone_from_one_run(sealed, classifier, images):
    fit = "pad"
    heights = np.sort(classifier.logits(images, fit).max(1))
    classifier = Classifier.load(sealed(threshold=float(heights[1])))
    found, expected = classifier.classify(images, fit), classifier.probabilities(images, fit)
    assert len({one.milliseconds for one in found}) == 1 and found[0].milliseconds > 0  # the time of the one run
    for one, image, row in zip(found, images, expected, strict=True):
        (alone,) = classifier.classify([image], fit)
        np.testing.assert_allclose(one.probabilities, alone.probabilities, atol=1e-6)
        assert one.probabilities.dtype == np.float32 and np.array_equal(one.probabilities, row)
    known = classifier.is_in_distribution(classifier.logits(images, fit)).tolist()
    assert [one.in_distribution for one in found] == known and sum(known) == 2


def test_neither_batches_nor_threads_change_the_answer(tiny_artifact, classifier, monkeypatch):
    images = np.random.RandomState(1).randint(0, 256, (23, 32, 32, 3)).astype(np.uint8)
    whole = classifier.logits(images)
    np.testing.assert_allclose(Classifier.load(tiny_artifact, threads=2).logits(images), whole, atol=1e-5)
    monkeypatch.setattr("model.classifier.BATCH", 5)
    np.testing.assert_allclose(classifier.logits(images), whole, atol=1e-5)


def test_an_array_of_another_kind_is_refused(classifier):
    for shape, kind in (((1, 3, 32, 32), np.float64), ((1, 28, 28, 3), np.uint8)):
        with pytest.raises(ValueError, match="give Pillow images"):
            classifier.logits(np.zeros(shape, kind))


def test_source_metrics_and_folder_say_what_was_loaded(tiny_artifact, classifier):
    assert str(classifier.source) == f"folder:{tiny_artifact}" and classifier.folder == tiny_artifact
    assert classifier.metrics == artifact.read(tiny_artifact).metrics
    bundled = Classifier.load()
    assert str(bundled.source) == "bundled" and bundled.folder == BUNDLED


@pytest.mark.parametrize(
    ("name", "change"), [("fc.bias", lambda bias: bias + 0.01), ("bn.running_var", np.negative), ("std", np.zeros_like)]
)
def test_a_network_that_does_not_answer_as_expected_is_refused(sealed, name, change):
    folder = sealed()
    weights = load_file(folder / artifact.WEIGHTS)
    save_file(weights | {name: change(weights[name])}, folder / artifact.WEIGHTS)
    reseal(folder)
    with (
        warnings.catch_warnings(),
        pytest.raises(ArtifactError, match="safetensors does not answer as config.json exp"),
    ):
        warnings.simplefilter("error")
        Classifier.load(folder)


def test_the_artifacts_own_graph_is_never_read(tiny_artifact, tmp_path, classifier, images):
    folder = shutil.copytree(tiny_artifact, tmp_path / "artifact")
    (folder / artifact.GRAPH).write_bytes(b"a virus")
    assert np.array_equal(Classifier.load(folder).logits(images), classifier.logits(images))


def test_the_artifact_says_how_an_image_becomes_square(sealed, classifier, images):
    padding = Classifier.load(sealed(fit="pad"))
    assert np.array_equal(padding.logits(images), classifier.logits(images, "pad"))
    assert np.array_equal(padding.logits(images, "crop"), classifier.logits(images))
    assert not np.array_equal(padding.logits(images), classifier.logits(images))
