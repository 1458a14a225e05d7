"""A prediction as HTML: bars, the model's input, heat maps, and what stands in its place."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.classifier import Prediction
from model.preprocess import to_square_rgb
from tests.markup import EVIL, elements, find, image_in, pixels, text
from ui.answer import Verdict, answer_html, bars_of, heat, hint_html, in_words, inline, percent, problem_html, view_of


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture(scope="module")
def square():
    return Image.fromarray(np.random.RandomState(5).randint(0, 256, (32, 32, 3), np.uint8))


def test_a_probability_is_shown_in_whole_percent_and_never_as_0_or_100():
    given = (0.0, 0.005, 0.0051, 0.0149, np.float32(0.2), 0.5, 0.9949, 0.995, 1.0)  # a half is rounded to the even
    assert [percent(p) for p in given] == ["<1%", "<1%", "1%", "1%", "20%", "50%", "99%", ">99%", ">99%"]


# The views


def test_heat_is_opaque_where_the_evidence_is_and_goes_from_yellow_to_red():
    values = np.zeros((8, 8), np.float32)
    values[0, 7], values[3, 0], values[7, 7] = 0.5, 1, 0.25
    drawn = heat(values)
    assert (drawn.mode, drawn.size) == ("RGBA", (8, 8))
    assert drawn.getpixel((0, 0)) == (255, 214, 10, 0)
    assert drawn.getpixel((7, 0)) == (255, 122, 0, 99)
    assert drawn.getpixel((0, 3)) == (214, 0, 28, 199)
    assert drawn.getpixel((7, 7)) == (255, 168, 5, 50)


@pytest.mark.parametrize(("size", "side"), [((300, 180), 180), ((1000, 800), 224), ((20, 10), 32), ((1, 4000), 32)])
def test_the_photo_is_shown_in_its_own_detail_within_32_and_224_pixels(size, side):
    for fit in ("crop", "pad", "stretch"):
        view = view_of(Image.new("RGB", size, "teal"), fit)
        assert (view.mode, view.size) == ("RGB", (side, side))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_photo_shows_the_same_part_as_the_models_input(fit):
    across, down = np.meshgrid(np.linspace(0, 255, 320), np.linspace(0, 255, 160))
    photo = Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8))
    photo.getexif()[274] = 6  # turned by the camera
    view, square = view_of(photo, fit), to_square_rgb(photo, fit)
    shrunk = np.asarray(view.reduce(view.width // 32), int)
    assert np.abs(shrunk - np.asarray(square)).max() <= 6  # a smooth image: only resampling may differ


def test_images_are_put_into_the_html_whole(square):
    assert np.array_equal(pixels(inline(square)), np.asarray(square))
    photo = image_in(inline(Image.new("RGB", (224, 224), "teal"), "JPEG"))
    assert (photo.format, photo.size) == ("JPEG", (224, 224))
    assert np.abs(np.asarray(photo, int) - (0, 128, 128)).max() <= 3


# The answer


def test_there_is_a_bar_with_its_heat_map_per_class_the_most_probable_first(classifier, square):
    (found,) = classifier.classify([square])
    bars = bars_of(classifier, found, square, 10)
    expected = classifier.predict(square, top_k=10)
    assert [(bar.name, bar.percent) for bar in bars] == [(name, percent(p)) for name, p in expected]
    assert [bar.probability for bar in bars] == pytest.approx([p for _, p in expected], abs=1e-6)
    for bar in bars:
        assert classifier.class_names[bar.label] == bar.name
        assert np.array_equal(pixels(bar.map), np.asarray(heat(classifier.activation_map(square, bar.name))))
    assert bars_of(classifier, found, square, 3) == bars[:3]


def answer_of(classifier, square, verdict=None, **changes) -> str:
    found = replace(classifier.classify([square])[0], milliseconds=1.26, **changes)
    return answer_html(classifier, found, square, square.resize((96, 96)), 10, verdict, "asked")


def test_the_answer_shows_the_first_class_the_models_input_and_one_heat_map(classifier, square):
    html = answer_of(classifier, square, in_distribution=True)
    name, probability = classifier.predict(square, top_k=1)[0]
    assert find(html, "div", "headline")[0].text == f"{name} confidence {percent(probability)}"
    assert "Inference time 1.3 ms (1 CPU core)" in text(html) and "out of distribution" not in text(html)
    (seen,) = find(html, "img", "pixels")
    assert np.array_equal(pixels(seen["src"]), np.asarray(square))
    assert seen["alt"] == "Your image, reduced to 32 by 32 pixels"
    (view,) = [image for image in find(html, "img") if not image.classes]
    assert (image_in(view["src"]).format, image_in(view["src"]).size) == ("JPEG", (96, 96))
    bars, maps = find(html, "button", "bar"), find(html, "img", "map")
    assert [bar["data-class"] for bar in bars] == [one["data-class"] for one in maps]
    assert [bar["aria-pressed"] for bar in bars] == ["true"] + ["false"] * 9
    assert ["hidden" in one for one in maps] == [False] + [True] * 9


def test_an_image_that_may_be_none_of_the_classes_gets_a_notice_that_is_spoken_too(classifier, square):
    html = answer_of(classifier, square, in_distribution=False)
    assert find(html, "div", "unsure") and "It may show none of the 10 classes" in find(html, "p", "none")[0].text
    region, (name, probability) = elements(html)[0], classifier.predict(square, top_k=1)[0]
    assert (region.tag, region["role"], region["data-asked"]) == ("p", "status", "asked")
    assert region.text == f"{name}, confidence {percent(probability)}. Possibly out of distribution."


def test_a_test_image_gets_its_verdict_in_words(classifier, square):
    html = answer_of(classifier, square, Verdict(1234, "cat", "Incorrect"), in_distribution=True)
    name, probability = classifier.predict(square, top_k=1)[0]
    (verdict,) = find(html, "div", "incorrect")
    assert verdict.text == f"Incorrect Predicted {name}, true class cat. Test image 1,234"
    words = f"Incorrect. Test image 1,234: true class cat, predicted {name}, confidence {percent(probability)}."
    assert elements(html)[0].text == words


def test_no_class_name_and_no_sentence_brings_markup(classifier, square, monkeypatch):
    monkeypatch.setattr(classifier, "class_names", tuple(f"{EVIL}{k}" for k in range(10)))
    html = answer_of(classifier, square, Verdict(3, EVIL, "Incorrect"))
    first = classifier.predict(square, top_k=1)[0][0]
    assert find(html, "i") == [] and find(html, "button", "bar")[0]["data-name"] == first == find(html, "h2")[0].text
    assert find(html, "div", "verdict")[0].text == f"Incorrect Predicted {first}, true class {EVIL}. Test image 3"
    assert in_words(Prediction(np.array([0.2, 0.8]), True, 1.0), ["cat", EVIL]) == f"{EVIL}, confidence 80%."
    for html, spoken in (
        (problem_html(EVIL, asked=EVIL), f"Could not classify this image. {EVIL}"),
        (problem_html(EVIL, EVIL), f"{EVIL}. {EVIL}"),
        (hint_html(EVIL), ""),
    ):
        region, shown = find(html, "p")
        assert find(html, "i") == [] and shown.text == EVIL and (region["role"], region.text) == ("status", spoken)
