from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.cifar10 import CLASS_NAMES
from model.preprocess import to_square_rgb
from tests.markup import EVIL, elements, find, picture, pixels, text
from ui import predict
from ui.answer import percent
from ui.render import render


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8))


def stored(folder: Path, content: Image.Image | bytes, name: str = "photo.png") -> dict:
    """What gradio hands to a function with preprocess=False after an upload."""
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        content.save(folder / name)
    return {"path": str(folder / name), "url": None, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_page_shows_the_classifiers_answer_and_the_models_input(classifier, uploads, photo, fit):
    html = predict.answer_of(classifier, stored(uploads, photo), 4, fit)
    expected = classifier.predict(photo, top_k=4, fit=fit)
    assert [bar["data-name"] for bar in find(html, "button", "bar")] == [name for name, _ in expected]
    assert [part.text for part in find(html, "span", "percent")] == [percent(p) for _, p in expected]
    assert np.array_equal(pixels(find(html, "img", "pixels")[0]["src"]), np.asarray(to_square_rgb(photo, fit)))
    (view,) = [image for image in find(html, "img") if not image.classes]
    assert picture(view["src"]).size == (40, 40)


def test_of_a_large_photo_no_more_than_224_pixels_are_sent_back(classifier, uploads):
    html = predict.answer_of(classifier, stored(uploads, Image.new("RGB", (1200, 900), "teal")), 5, "crop")
    (view,) = [image for image in find(html, "img") if not image.classes]
    assert picture(view["src"]).size == (224, 224) and len(html) < 60_000


@pytest.mark.parametrize("nothing", [None, {}, ""])
def test_without_an_image_there_is_a_hint_and_no_alarm(classifier, nothing):
    html = predict.answer_of(classifier, nothing, 5, "crop")
    assert text(html) == predict.NOTHING_YET and find(html, "div", "hint") and not find(html, "div", "problem")


BAD = [
    (lambda folder: stored(folder, b"no picture", "note.png"), "please save the image as"),
    (lambda folder: stored(folder, b"", "note.png"), "This file is empty"),
    (lambda folder: stored(folder, b"\x89PNG\r\n\x1a\n", "note.png"), "This image is damaged"),
    (lambda folder: stored(folder, Image.new("RGB", (1, 1)), "note.png") and half(folder), "damaged or incomplete"),
    (lambda folder: {"path": str(folder / "note.png")}, "The uploaded image is gone"),
    (lambda folder: {"path": __file__}, "Upload the image itself"),
    (lambda folder: {"path": str(folder)}, "Upload the image itself"),
    (lambda folder: {"path": None, "url": "http://127.0.0.1:9/a.png"}, "Upload the image itself"),
    (lambda folder: "note.png", "Upload the image itself"),
    (lambda folder: [{"path": "note.png"}], "Upload the image itself"),
]


def half(folder: Path) -> dict:
    path = Path(stored(folder, Image.effect_noise((90, 90), 50), "note.png")["path"])
    return stored(folder, path.read_bytes()[:900], "note.png")


@pytest.mark.parametrize(("make", "sentence"), BAD)
def test_a_bad_upload_gets_one_sentence_without_its_path(classifier, uploads, make, sentence):
    html = predict.answer_of(classifier, make(uploads), 5, "crop")
    (problem,) = find(html, "div", "problem")
    assert sentence in problem.text and sentence in elements(html)[0].text
    assert not any(part in html for part in (str(uploads), "note.png", "test_ui_predict", "Traceback"))
    assert not find(html, "section")


@pytest.mark.parametrize("top_k", [0, 11, 2.5, True, "5", None, EVIL])
def test_a_number_of_classes_that_is_none_is_refused(classifier, uploads, photo, top_k):
    html = predict.answer_of(classifier, stored(uploads, photo), top_k, "crop")
    assert "top_k must be a whole number from 1 to 10." in text(html) and not find(html, "i")


@pytest.mark.parametrize("fit", ["Crop", None, ["crop"], EVIL])
def test_an_unknown_fit_is_refused(classifier, uploads, photo, fit):
    html = predict.answer_of(classifier, stored(uploads, photo), 5, fit)
    assert "fit must be one of crop, pad, stretch." in text(html) and not find(html, "i")


def test_an_example_is_shown_small():
    for name in CLASS_NAMES:
        image = predict.thumbnail(predict.EXAMPLES / f"{name}.png")
        drawn = Image.open(predict.EXAMPLES / f"{name}.png").convert("RGB").resize((96, 96))
        assert picture(image).size == (96, 96)
        assert np.abs(pixels(image).astype(int) - np.asarray(drawn)).mean() < 5


def test_an_examples_name_brings_no_markup():
    html = render("examples.html", examples={EVIL: "data:,"}, side=96)
    (button,) = find(html, "button")
    assert button["data-name"] == button.text == EVIL and not find(html, "i")
