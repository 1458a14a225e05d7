"""The two calls of gradio_client, as functions; tests/test_app.py and tests/test_server_api.py make them over HTTP."""

import json
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from model import Classifier
from model.hub import Source
from model.preprocess import open_image
from tests.image_files import noise_png
from tests.markup import EVIL
from ui import api

WHOLE_NUMBER = "top_k must be a whole number from 1 to 10."
KNOWN_FITS = "fit must be one of crop, pad, stretch."


@pytest.fixture
def classifier():
    return Classifier.load()


def stored(folder: Path, content: bytes, name: str = "picture.png") -> dict:
    """What gradio hands to a function with preprocess=False after an upload."""
    (folder / name).write_bytes(content)
    return {"path": str(folder / name), "url": None, "meta": {"_type": "gradio.FileData"}}


def told(classifier, *inputs) -> str:
    """Why /predict has no answer."""
    with pytest.raises(gr.Error) as caught:
        api.predict(classifier)(*inputs)
    assert caught.value.print_exception is False  # nothing in the log that a caller can fill
    return caught.value.message


def test_a_bad_picture_is_refused_in_one_sentence_that_repeats_nothing_of_it(classifier, uploads):
    message = told(classifier, stored(uploads, b"no picture", EVIL.replace("/", "") + ".png"), 3, "crop")
    assert message.startswith("This file is not an image") and "<" not in message and str(uploads) not in message


@pytest.mark.parametrize("fit", ["Crop", None, ["crop"], EVIL])
def test_an_unknown_fit_is_refused_by_the_names_of_the_known_ones(classifier, uploads, fit):
    assert told(classifier, stored(uploads, noise_png(1)), 5, fit) == KNOWN_FITS


@pytest.mark.parametrize("given", [0, 11, 2.5, True, "5", None, [5], float("nan"), float("inf")])
def test_top_k_must_be_a_whole_number_of_classes(classifier, uploads, given):
    assert told(classifier, stored(uploads, noise_png(1)), given, "crop") == WHOLE_NUMBER


@pytest.mark.parametrize("above", [True, False])
def test_a_whole_number_may_be_a_float_and_none_of_the_classes_is_told(classifier, uploads, above):
    image = open_image(noise_png(1))
    limit = float(classifier.logits([image], "pad").max()) + (-0.1 if above else 0.1)
    classifier.config = replace(classifier.config, threshold=limit)
    label, details = api.predict(classifier)(stored(uploads, noise_png(1)), 5.0, "pad")
    expected = classifier.predict(image, 5, "pad")
    assert [(one["label"], one["confidence"]) for one in label["confidences"]] == [
        (name, pytest.approx(p, abs=1e-6)) for name, p in expected
    ]
    assert details["probably_none_of_these"] is not above and 0 < details["milliseconds"] < 10_000
    json.dumps([label, details], allow_nan=False)


def test_an_older_model_has_no_threshold_to_tell(classifier):
    classifier.config = replace(classifier.config, threshold=None)
    assert api.model_info(classifier)["config"]["threshold"] is None


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (Source("bundled", Path("/home/ann/assets/a")), "bundled"),
        (Source("folder", Path("/home/ann/runs/a/artifact")), "folder:artifact"),
        (Source("folder", Path("runs/a/..")), "folder:runs"),
        (Source("hub", Path("/home/ann/cache"), "ann/resnet", "0" * 40), "hub:ann/resnet@" + "0" * 40),
    ],
)
def test_where_a_folder_lies_on_the_server_is_not_told(classifier, source, told):
    classifier.source = source
    assert api.model_info(classifier)["source"] == told
