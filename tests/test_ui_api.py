"""The two calls of gradio_client, as functions; tests/test_app.py and tests/test_server_api.py make them over HTTP."""

import json
import os
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


@pytest.fixture
def upload(uploads) -> dict:
    """What gradio hands to a function with preprocess=False after an upload."""
    (uploads / "image.png").write_bytes(noise_png(1))
    return {"path": str(uploads / "image.png"), "url": None, "meta": {"_type": "gradio.FileData"}}


def refusal(classifier, *inputs) -> str:
    """Why /predict has no answer: one sentence, with nothing in it that the caller sent or that tells of the server."""
    with pytest.raises(gr.Error) as caught:
        api.predict(classifier)(*inputs)
    assert caught.value.print_exception is False  # nothing in the log that a caller can fill
    message = caught.value.message
    assert message.endswith(".") and not any(part in message for part in (".png", "<", "Traceback", "Error", os.sep))
    return message


def test_a_bad_image_is_refused_in_one_sentence(classifier, uploads, upload):
    bad = uploads / (EVIL.replace("/", "") + ".png")
    bad.write_bytes(b"GIF89a but no image")
    for given, sentence in (
        ({"path": str(bad)}, "image"),
        ({"path": __file__}, "Upload the image itself"),
    ):
        assert sentence in refusal(classifier, given, 3, "crop")


@pytest.mark.parametrize("fit", ["Crop", None, ["crop"], EVIL])
def test_an_unknown_fit_is_refused_by_the_names_of_the_known_ones(classifier, upload, fit):
    assert refusal(classifier, upload, 5, fit) == KNOWN_FITS


@pytest.mark.parametrize("given", [0, 11, 2.5, True, "5", None, [5], float("nan"), float("inf")])
def test_top_k_must_be_a_whole_number_of_classes(classifier, upload, given):
    assert refusal(classifier, upload, given, "crop") == WHOLE_NUMBER


@pytest.mark.parametrize("above", [True, False])
def test_a_whole_number_may_be_a_float_and_none_of_the_classes_is_reported(classifier, upload, above):
    image = open_image(noise_png(1))
    limit = float(classifier.logits([image], "pad").max()) + (-0.1 if above else 0.1)
    classifier.config = replace(classifier.config, threshold=limit)
    label, details = api.predict(classifier)(upload, 5.0, "pad")
    assert [(one["label"], one["confidence"]) for one in label["confidences"]] == [
        (name, pytest.approx(p, abs=1e-6)) for name, p in classifier.predict(image, 5, "pad")
    ]
    assert details["probably_none_of_these"] is not above and 0 < details["milliseconds"] < 10_000
    json.dumps([label, details], allow_nan=False)


@pytest.mark.parametrize(
    ("source", "public"),
    [
        (Source("bundled", Path("/home/ann/assets/a")), "bundled"),
        (Source("folder", Path("/home/ann/runs/a/artifact")), "folder:artifact"),
        (Source("hub", Path("/home/ann/cache"), "ann/resnet", "0" * 40), "hub:ann/resnet@" + "0" * 40),
    ],
)
def test_where_a_folder_lies_on_the_server_stays_private(classifier, source, public):
    classifier.source, classifier.config = source, replace(classifier.config, threshold=None)
    found = api.model_info(classifier)
    assert found["source"] == public and found["config"]["threshold"] is None
