import json
import os
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.hub import Source
from tests.markup import EVIL
from ui import api
from ui.answer import Answer
from ui.calls import ERROR

WHOLE_NUMBER = "top_k must be a whole number from 1 to 10."
KNOWN_FITS = "fit must be one of crop, pad, stretch."
FITS = ("crop", "pad", "stretch")


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture
def pictures() -> list[Image.Image]:
    """Different ones, and not square, so that the fits differ."""
    random = np.random.RandomState(1)
    return [Image.fromarray(random.randint(0, 256, (40 + 9 * k, 60, 3), np.uint8)) for k in range(4)]


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


def confidences(found: dict) -> list[tuple[str, float]]:
    return [(entry["label"], entry["confidence"]) for entry in found["confidences"]]


def expected_of(classifier, picture, **settings) -> list:
    return [(name, pytest.approx(p, abs=1e-6)) for name, p in classifier.predict(picture, **settings)]


BAD = {
    "no picture in it": (lambda folder: stored(folder, b"GIF89a but no picture", EVIL.replace("/", "") + ".png"), None),
    "half a picture": (
        lambda folder: stored(folder, half(stored(folder, Image.effect_noise((90, 90), 50)))),
        "damaged or incomplete",
    ),
    "an empty file": (lambda folder: stored(folder, b"", "empty.png"), "This file is empty"),
    "nothing": (lambda folder: None, "No picture was given"),
    "a file of the server": (lambda folder: {"path": __file__}, "Upload the picture itself"),
    "an address": (lambda folder: {"path": "http://127.0.0.1:9/a.png"}, "Upload the picture itself"),
    "a word": (lambda folder: "picture.png", "Upload the picture itself"),
    "a number": (lambda folder: 7, "Upload the picture itself"),
    "one that is gone": (lambda folder: {"path": str(folder / "gone.png")}, "The uploaded picture is gone"),
}


def one_sentence(message: str, folder: Path) -> bool:
    """Of ours: with nothing in it that the caller sent or that tells about the server."""
    foreign = (str(folder), ".png", "<", "Traceback", "Error", os.sep)
    return message[0].isupper() and message.endswith(".") and not any(part in message for part in foreign)


# /predict


def test_calls_of_one_batch_each_get_the_answer_for_their_picture_their_top_k_and_their_fit(
    classifier, uploads, pictures
):
    files = [stored(uploads, picture, f"{k}.png") for k, picture in enumerate(pictures)]
    asked = [(10, "crop"), (1, "pad"), (4, "stretch"), (5.0, "pad")]
    labels, about = api.predict(classifier)(files, [k for k, _ in asked], [fit for _, fit in asked])
    assert len(labels) == len(about) == 4
    for picture, label, (top_k, fit) in zip(pictures, labels, asked, strict=True):
        assert confidences(label) == expected_of(classifier, picture, top_k=int(top_k), fit=fit)
        assert label["label"] == label["confidences"][0]["label"]
    assert all(set(one) == {"probably_none_of_these", "milliseconds"} for one in about)
    json.dumps([labels, about], allow_nan=False)


@pytest.mark.parametrize(("make", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_picture_among_good_ones_fails_alone_in_one_sentence(classifier, uploads, pictures, make, sentence):
    files = [stored(uploads, pictures[0], "a.png"), make(uploads), stored(uploads, pictures[1], "b.png")]
    labels, about = api.predict(classifier)(files, [3] * 3, ["crop"] * 3)
    assert confidences(labels[0]) == expected_of(classifier, pictures[0], top_k=3)
    assert confidences(labels[2]) == expected_of(classifier, pictures[1], top_k=3)
    assert labels[1] is None and list(about[1]) == [ERROR]
    assert one_sentence(about[1][ERROR], uploads) and (sentence or "picture") in about[1][ERROR]


@pytest.mark.parametrize("fit", ["Crop", "", None, ["crop"], {"a": 1}, EVIL])
def test_an_unknown_fit_is_refused_by_the_names_of_the_known_ones(classifier, uploads, pictures, fit):
    file = stored(uploads, pictures[0])
    labels, about = api.predict(classifier)([file, file], [5, 5], [fit, "pad"])
    assert (labels[0], about[0]) == (None, {"error": KNOWN_FITS})
    assert confidences(labels[1]) == expected_of(classifier, pictures[0], top_k=5, fit="pad")
    for refused in (
        lambda: api.activation_map(classifier)(file, classifier.class_names[0], fit),
        lambda: api.square(file, fit),
    ):
        with pytest.raises(gr.Error) as caught:
            refused()
        assert caught.value.message == KNOWN_FITS


@pytest.mark.parametrize("given", [0, 11, -3, 2.5, True, False, "5", "abc", None, [5], float("nan"), float("inf")])
def test_top_k_must_be_a_whole_number_of_classes(classifier, uploads, pictures, given):
    with pytest.raises(gr.Error) as caught:
        api.whole_number(given, 10)
    assert caught.value.message == WHOLE_NUMBER
    file = stored(uploads, pictures[0])
    labels, about = api.predict(classifier)([file, file], [given, 2], ["crop", "crop"])
    assert (labels[0], about[0]) == (None, {"error": WHOLE_NUMBER}) and len(labels[1]["confidences"]) == 2


@pytest.mark.parametrize(("given", "expected"), [(1, 1), (10, 10), (5.0, 5)])
def test_a_whole_number_that_came_as_a_float_is_taken(given, expected):
    number = api.whole_number(given, 10)
    assert number == expected and type(number) is int


def test_the_network_is_asked_once_for_a_batch_and_never_for_one_without_a_picture(
    classifier, uploads, pictures, monkeypatch
):
    asked = []
    logits = classifier.logits
    monkeypatch.setattr(classifier, "logits", lambda images: asked.append(len(images)) or logits(images))
    files = [stored(uploads, picture, f"{k}.png") for k, picture in enumerate(pictures)]
    api.predict(classifier)([*files, None], [5] * 5, ["crop"] * 5)
    assert asked == [4]
    assert api.predict(classifier)([None, None], [5] * 2, ["crop"] * 2)[0] == [None, None]
    api.predict_batch(classifier)([None, None])
    assert asked == [4]


def test_whether_it_is_none_of_the_classes_is_told_with_the_milliseconds_of_the_network(
    classifier, uploads, pictures, monkeypatch
):
    files = [stored(uploads, picture, f"{k}.png") for k, picture in enumerate(pictures)]
    heights = classifier.logits(pictures).max(1)
    monkeypatch.setattr(classifier, "config", replace(classifier.config, threshold=float(np.sort(heights)[2])))
    _, about = api.predict(classifier)(files, [1] * 4, ["crop"] * 4)
    expected = [bool(height < np.sort(heights)[2]) for height in heights]
    assert [one["probably_none_of_these"] for one in about] == expected and sum(expected) == 2
    assert [one["probably_none_of_these"] for one in api.predict_batch(classifier)(files)] == expected
    assert all(isinstance(one["milliseconds"], float) and 0 < one["milliseconds"] < 10_000 for one in about)


def test_an_answer_as_a_label_has_the_best_first_and_no_more_than_asked_for():
    found = Answer(np.array([0.2, 0.5, 0.3], np.float32), True, 1.23456)
    assert api.label_dict(("a", "b", "c"), found, 2) == {
        "label": "b",
        "confidences": [{"label": "b", "confidence": 0.5}, {"label": "c", "confidence": pytest.approx(0.3)}],
    }
    assert api.details(found) == {"probably_none_of_these": False, "milliseconds": 1.235}


# /activation_map


@pytest.mark.parametrize("fit", FITS)
def test_the_activation_map_is_the_classifiers_top_row_first(classifier, uploads, pictures, fit):
    for name in classifier.class_names:
        found = api.activation_map(classifier)(stored(uploads, pictures[1]), name, fit)
        expected = classifier.activation_map(pictures[1], name, fit)
        assert len(found) == 8 and all(len(row) == 8 for row in found)
        assert np.abs(np.array(found) - expected).max() < 1e-6


def test_what_names_no_fit_gets_that_of_the_model(classifier, uploads, pictures, monkeypatch):
    monkeypatch.setattr(classifier, "config", replace(classifier.config, fit="pad"))
    file, name = stored(uploads, pictures[0]), classifier.class_names[0]
    found, expected = api.activation_map(classifier)(file, name), classifier.activation_map(pictures[0], name, "pad")
    assert np.abs(np.array(found) - expected).max() < 1e-6
    (answer,) = api.predict_batch(classifier)([file])
    assert confidences(answer) == expected_of(classifier, pictures[0], fit="pad")


@pytest.mark.parametrize("label", ["lion", "", None, 0, ["cat"], EVIL])
def test_an_unknown_class_is_refused_by_the_names_of_the_known_ones(classifier, uploads, pictures, label):
    with pytest.raises(gr.Error) as caught:
        api.activation_map(classifier)(stored(uploads, pictures[0]), label)
    assert caught.value.message == f"label must be one of {', '.join(classifier.class_names)}."


@pytest.mark.parametrize(("make", "sentence"), BAD.values(), ids=BAD)
def test_the_activation_map_of_a_bad_picture_is_refused_in_one_sentence(classifier, uploads, make, sentence):
    with pytest.raises(gr.Error) as caught:
        api.activation_map(classifier)(make(uploads), "cat")
    assert one_sentence(caught.value.message, uploads) and (sentence or "picture") in caught.value.message


# /predict_batch


@pytest.mark.parametrize("fit", FITS)
def test_several_pictures_get_their_answers_in_their_order_and_a_bad_one_its_sentence(
    classifier, uploads, pictures, fit
):
    files = [stored(uploads, picture, f"{k}.png") for k, picture in enumerate(pictures)]
    found = api.predict_batch(classifier)([*files[:2], stored(uploads, b"no", "no.png"), None, *files[2:]], 3, fit)
    assert [list(one) for one in found[2:4]] == [["error"], ["error"]]
    assert all(one_sentence(one["error"], uploads) for one in found[2:4])
    for picture, one in zip(pictures, found[:2] + found[4:], strict=True):
        assert confidences(one) == expected_of(classifier, picture, top_k=3, fit=fit)
        assert set(one) == {"label", "confidences", "probably_none_of_these", "milliseconds"}
    json.dumps(found, allow_nan=False)


def test_16_pictures_are_answered_and_17_are_not(classifier, uploads, pictures):
    file = stored(uploads, pictures[0])
    assert len(api.predict_batch(classifier)([file] * 16)) == 16
    with pytest.raises(gr.Error) as caught:
        api.predict_batch(classifier)([file] * 17)
    assert caught.value.message == "Too many pictures: give 16 at once, or fewer."


@pytest.mark.parametrize("files", [None, [], "", "picture.png", {"path": "a"}, 7, 0, True])
def test_what_is_no_list_of_files_is_refused(classifier, files):
    with pytest.raises(gr.Error) as caught:
        api.predict_batch(classifier)(files)
    assert caught.value.message == "No pictures were given: upload some as the first input."


def test_a_top_k_out_of_range_refuses_all_of_them_at_once(classifier, uploads, pictures):
    with pytest.raises(gr.Error) as caught:
        api.predict_batch(classifier)([stored(uploads, pictures[0])], 11)
    assert caught.value.message == WHOLE_NUMBER


def test_an_unknown_fit_is_told_for_each_of_them(classifier, uploads, pictures):
    file = stored(uploads, pictures[0])
    assert api.predict_batch(classifier)([file, file], 5, "Crop") == [{"error": KNOWN_FITS}] * 2


# /model_info


def test_the_model_is_told_with_its_numbers_and_without_its_folder(classifier, tiny_artifact):
    found = json.loads(json.dumps(api.model_info(classifier)(), allow_nan=False))
    metrics = json.loads((tiny_artifact / "metrics.json").read_text())
    config = json.loads((tiny_artifact / "config.json").read_text())
    assert found == {
        "source": f"folder:{tiny_artifact.name}",
        "class_names": config["class_names"],
        "config": {key: config[key] for key in ("depth", "stem_kernel", "shortcut", "temperature", "threshold")},
        "parameters": metrics["training"]["parameters"],
        "val": {key: metrics["val"][key] for key in ("n", "accuracy", "accuracy_interval")},
        "test": {key: metrics["test"][key] for key in ("n", "accuracy", "accuracy_interval")},
        "training": {key: metrics["training"][key] for key in ("recipe", "seed", "epochs", "best_epoch", "changes")},
    }
    assert os.sep not in json.dumps(found)


def test_an_older_model_has_no_threshold_to_tell(classifier, monkeypatch):
    monkeypatch.setattr(classifier, "config", replace(classifier.config, threshold=None))
    assert api.model_info(classifier)()["config"]["threshold"] is None


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
    assert api.model_info(classifier)()["source"] == told
