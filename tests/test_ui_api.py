"""The two calls of gradio_client, as functions; tests/test_app.py makes them over HTTP."""

import json
import os
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.classifier import Prediction
from model.hub import Source
from tests.markup import EVIL
from ui import api

WHOLE_NUMBER = "top_k must be a whole number from 1 to 10."
KNOWN_FITS = "fit must be one of crop, pad, stretch."


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture
def photo() -> Image.Image:
    """Not square, so that the fits differ."""
    return Image.fromarray(np.random.RandomState(1).randint(0, 256, (40, 60, 3), np.uint8))


def stored(folder: Path, content: Image.Image | bytes, name: str = "picture.png") -> dict:
    """What gradio hands to a function with preprocess=False after an upload."""
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        content.save(folder / name)
    return {"path": str(folder / name), "url": None, "meta": {"_type": "gradio.FileData"}}


def half(upload: dict) -> bytes:
    content = Path(upload["path"]).read_bytes()
    return content[: len(content) // 2]


BAD = {
    "no picture in it": (lambda folder: stored(folder, b"GIF89a but no picture", EVIL.replace("/", "") + ".png"), None),
    "half a picture": (
        lambda folder: stored(folder, half(stored(folder, Image.effect_noise((90, 90), 50)))),
        "damaged or incomplete",
    ),
    "an empty file": (lambda folder: stored(folder, b"", "empty.png"), "This file is empty"),
    "nothing": (lambda folder: None, "No image was given"),
    "a file of the server": (lambda folder: {"path": __file__}, "Upload the image itself"),
    "an address": (lambda folder: {"path": "http://127.0.0.1:9/a.png"}, "Upload the image itself"),
    "a word": (lambda folder: "picture.png", "Upload the image itself"),
    "a number": (lambda folder: 7, "Upload the image itself"),
    "one that is gone": (lambda folder: {"path": str(folder / "gone.png")}, "The uploaded image is gone"),
}


def one_sentence(message: str, folder: Path) -> bool:
    """Of ours: with nothing in it that the caller sent or that tells about the server."""
    foreign = (str(folder), ".png", "<", "Traceback", "Error", os.sep)
    return message[0].isupper() and message.endswith(".") and not any(part in message for part in foreign)


def told(classifier, *inputs) -> str:
    """Why /predict has no answer."""
    with pytest.raises(gr.Error) as caught:
        api.predict(classifier)(*inputs)
    assert caught.value.print_exception is False  # nothing in the log that a caller can fill
    return caught.value.message


# /predict


@pytest.mark.parametrize(("top_k", "fit"), [(10, "crop"), (1, "pad"), (4, "stretch"), (5.0, "pad")])
def test_predict_gives_the_classifiers_answer_for_top_k_and_fit(classifier, uploads, photo, top_k, fit):
    label, details = api.predict(classifier)(stored(uploads, photo), top_k, fit)
    expected = classifier.predict(photo, int(top_k), fit)
    found = [(entry["label"], entry["confidence"]) for entry in label["confidences"]]
    assert found == [(name, pytest.approx(p, abs=1e-6)) for name, p in expected] and label["label"] == expected[0][0]
    assert list(details) == ["probably_none_of_these", "milliseconds"]
    json.dumps([label, details], allow_nan=False)


@pytest.mark.parametrize(("make", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_picture_is_refused_in_one_sentence(classifier, uploads, make, sentence):
    message = told(classifier, make(uploads), 3, "crop")
    assert one_sentence(message, uploads) and (sentence or "This image is damaged") in message


@pytest.mark.parametrize("fit", ["Crop", "", None, ["crop"], {"a": 1}, EVIL])
def test_an_unknown_fit_is_refused_by_the_names_of_the_known_ones(classifier, uploads, photo, fit):
    assert told(classifier, stored(uploads, photo), 5, fit) == KNOWN_FITS


@pytest.mark.parametrize("given", [0, 11, -3, 2.5, True, False, "5", "abc", None, [5], float("nan"), float("inf")])
def test_top_k_must_be_a_whole_number_of_classes(classifier, uploads, photo, given):
    assert told(classifier, stored(uploads, photo), given, "crop") == WHOLE_NUMBER


@pytest.mark.parametrize(("given", "expected"), [(1, 1), (10, 10), (5.0, 5)])
def test_a_whole_number_that_came_as_a_float_is_taken(given, expected):
    number = api.whole_number(given, 10)
    assert number == expected and type(number) is int


@pytest.mark.parametrize("above", [True, False])
def test_whether_it_is_none_of_the_classes_is_told(classifier, uploads, photo, monkeypatch, above):
    height = float(classifier.logits([photo]).max())
    monkeypatch.setattr(classifier, "config", replace(classifier.config, threshold=height + (-0.1 if above else 0.1)))
    _, details = api.predict(classifier)(stored(uploads, photo), 1, "crop")
    assert details["probably_none_of_these"] is not above
    assert isinstance(details["milliseconds"], float) and 0 < details["milliseconds"] < 10_000


def test_an_answer_as_a_label_has_the_best_first_and_no_more_than_asked_for():
    found = Prediction(np.array([0.2, 0.5, 0.3], np.float32), True, 1.23456)
    assert api.label_dict(("a", "b", "c"), found, 2) == {
        "label": "b",
        "confidences": [{"label": "b", "confidence": 0.5}, {"label": "c", "confidence": pytest.approx(0.3)}],
    }
    assert api.details(found) == {"probably_none_of_these": False, "milliseconds": 1.235}


# /model_info


def test_the_model_is_told_with_its_numbers_and_without_its_folder(classifier, tiny_artifact):
    found = json.loads(json.dumps(api.model_info(classifier), allow_nan=False))
    metrics = json.loads((tiny_artifact / "metrics.json").read_text())
    config = json.loads((tiny_artifact / "config.json").read_text())
    assert found == {
        "source": f"folder:{tiny_artifact.name}",
        "class_names": config["class_names"],
        "image_size": 32,
        "config": {key: config[key] for key in ("depth", "stem_kernel", "shortcut", "temperature", "threshold")},
        "parameters": metrics["training"]["parameters"],
        "val": {key: metrics["val"][key] for key in ("n", "accuracy", "accuracy_interval")},
        "test": {key: metrics["test"][key] for key in ("n", "accuracy", "accuracy_interval")},
        "training": {key: metrics["training"][key] for key in ("recipe", "seed", "epochs", "best_epoch", "changes")},
    }
    assert os.sep not in json.dumps(found)


def test_an_older_model_has_no_threshold_to_tell(classifier, monkeypatch):
    monkeypatch.setattr(classifier, "config", replace(classifier.config, threshold=None))
    assert api.model_info(classifier)["config"]["threshold"] is None


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (Source("bundled", Path("/home/ann/assets/a")), "bundled"),
        (Source("folder", Path("/home/ann/runs/a/artifact")), "folder:artifact"),
        (Source("folder", Path("artifact")), "folder:artifact"),
        (Source("folder", Path("runs/a/")), "folder:a"),
        (Source("folder", Path("runs/a/..")), "folder:runs"),
        (Source("hub", Path("/home/ann/cache"), "ann/resnet", "0" * 40), "hub:ann/resnet@" + "0" * 40),
    ],
)
def test_where_a_folder_lies_on_the_server_is_not_told(classifier, monkeypatch, source, told):
    monkeypatch.setattr(classifier, "source", source)
    assert api.model_info(classifier)["source"] == told
