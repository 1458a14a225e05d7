"""The Predict tab: what the page shows for an upload, and its examples."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.cifar10 import CLASS_NAMES
from model.preprocess import to_square_rgb
from tests.image_files import noise_png
from tests.markup import EVIL, elements, find, image_in, pixels, text
from ui import predict
from ui.render import render


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


def stored(folder: Path, content: bytes) -> dict:
    """What gradio hands to a function with preprocess=False after an upload."""
    (folder / "note.png").write_bytes(content)
    return {"path": str(folder / "note.png"), "url": None, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_page_shows_the_classifiers_answer_and_the_models_input(classifier, uploads, fit):
    photo = Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 60, 3), np.uint8))
    photo.save(uploads / "photo.png")
    html = predict.answer_of(classifier, {"path": str(uploads / "photo.png")}, 4, fit)
    expected = classifier.predict(photo, top_k=4, fit=fit)
    assert [bar["data-name"] for bar in find(html, "button", "bar")] == [name for name, _ in expected]
    assert np.array_equal(pixels(find(html, "img", "pixels")[0]["src"]), np.asarray(to_square_rgb(photo, fit)))
    (view,) = [image for image in find(html, "img") if not image.classes]
    assert image_in(view["src"]).size == (40, 40)


@pytest.mark.parametrize("nothing", [None, {}, ""])
def test_without_an_image_there_is_a_hint_and_no_alarm(classifier, nothing):
    html = predict.answer_of(classifier, nothing, 5, "crop")
    assert text(html) == predict.NOTHING_YET and find(html, "div", "hint") and not find(html, "div", "problem")


BAD = {
    "no image": (lambda folder: stored(folder, b"no image"), "please save the image as"),
    "gone": (lambda folder: {"path": str(folder / "note.png")}, "The uploaded image is gone"),
    "a file of the server": (lambda folder: {"path": __file__}, "Upload the image itself"),
}


@pytest.mark.parametrize(("make", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_upload_gets_one_sentence_without_its_path(classifier, uploads, make, sentence):
    html = predict.answer_of(classifier, make(uploads), 5, "crop")
    (problem,) = find(html, "div", "problem")
    assert sentence in problem.text and sentence in elements(html)[0].text
    assert not any(part in html for part in (str(uploads), "note.png", "test_ui_predict", "Traceback"))


@pytest.mark.parametrize(
    ("top_k", "fit", "sentence"),
    [
        *((top_k, "crop", "top_k must be a whole number from 1 to 10.") for top_k in (11, None, EVIL)),
        *((5, fit, "fit must be one of crop, pad, stretch.") for fit in ("Crop", ["crop"], EVIL)),
    ],
)
def test_a_setting_that_is_none_is_refused(classifier, uploads, top_k, fit, sentence):
    html = predict.answer_of(classifier, stored(uploads, noise_png(1)), top_k, fit)
    assert sentence in text(html) and not find(html, "i")


def test_there_is_a_small_example_of_each_class():
    for name in CLASS_NAMES:
        image = predict.thumbnail(str(predict.EXAMPLES / f"{name}.png"))
        drawn = Image.open(predict.EXAMPLES / f"{name}.png").convert("RGB").resize((96, 96))
        assert np.abs(pixels(image).astype(int) - np.asarray(drawn)).mean() < 5
    (button,) = find(render("examples.html", examples={EVIL: "data:,"}, side=96), "button")
    assert button["data-name"] == button.text == EVIL
