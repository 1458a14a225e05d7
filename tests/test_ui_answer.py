from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from model import Classifier
from model.preprocess import to_square_rgb
from tests.markup import EVIL, elements, find, picture, pixels, text
from ui import answer as module
from ui.answer import (
    Prediction,
    answer_html,
    heat,
    hint_html,
    in_words,
    percent,
    problem_html,
    spoken_html,
    view_of,
)


@pytest.fixture(scope="module")
def classifier(tiny_artifact):
    return Classifier.load(tiny_artifact)


@pytest.fixture(scope="module")
def squares():
    random = np.random.RandomState(5)
    return [Image.fromarray(random.randint(0, 256, (32, 32, 3), np.uint8)) for _ in range(3)]


@pytest.mark.parametrize(
    ("probability", "told"),
    [
        (0.0, "<1%"),
        (0.004999, "<1%"),
        (0.005, "<1%"),  # Python rounds a half to the even 0
        (0.0051, "1%"),
        (0.0149, "1%"),
        (0.5, "50%"),
        (0.9949, "99%"),
        (0.995, ">99%"),  # and to the even 100
        (1.0, ">99%"),
        (np.float32(0.2), "20%"),
    ],
)
def test_a_probability_is_told_in_whole_percent(probability, told):
    assert percent(probability) == told


def test_nothing_is_ever_0_or_100_percent():
    told = {percent(k / 10_000) for k in range(10_001)}
    assert told == {"<1%", ">99%", *(f"{k}%" for k in range(1, 100))}


def test_asked_together_each_picture_gets_the_answer_that_it_gets_alone(classifier, squares):
    answers = classifier.classify(squares)
    logits = classifier.logits(squares)
    for k, found in enumerate(answers):
        np.testing.assert_allclose(found.probabilities, classifier.probabilities([squares[k]])[0], atol=1e-6)
        assert found.in_distribution is bool(classifier.is_in_distribution(logits[k : k + 1])[0])
        assert 0 < found.milliseconds == answers[0].milliseconds


def test_what_reaches_the_threshold_is_recognised_and_what_does_not_is_not(classifier, squares, monkeypatch):
    heights = classifier.logits(squares).max(1)
    monkeypatch.setattr(classifier, "config", replace(classifier.config, threshold=float(np.median(heights))))
    assert [found.in_distribution for found in classifier.classify(squares)] == (heights >= np.median(heights)).tolist()


# The views


def test_heat_is_opaque_where_the_evidence_is_and_its_colour_goes_from_yellow_to_red():
    values = np.zeros((8, 8), np.float32)
    values[0, 7], values[3, 0], values[7, 7] = 0.5, 1, 0.25
    drawn = heat(values)
    assert (drawn.mode, drawn.size) == ("RGBA", (8, 8))
    assert drawn.getpixel((0, 0)) == (255, 214, 10, 0)
    assert drawn.getpixel((7, 0)) == (255, 122, 0, 99)
    assert drawn.getpixel((0, 3)) == (214, 0, 28, 199)
    assert drawn.getpixel((7, 7)) == (255, 168, 5, 50)


def test_the_opacity_of_heat_grows_with_the_value_and_0_shows_nothing():
    alpha = np.asarray(heat(np.linspace(0, 1, 64).reshape(8, 8)))[..., 3].ravel().astype(int)
    assert alpha[0] == 0 and (np.diff(alpha) > 0).all()


def test_heat_of_values_outside_0_to_1_is_that_of_the_ends():
    outside, ends = np.full((8, 8), -3.0), np.zeros((8, 8))
    outside[4:], ends[4:] = 7, 1
    assert heat(outside) == heat(ends)


@pytest.mark.parametrize(
    ("size", "side"), [((300, 180), 180), ((1000, 800), 224), ((224, 500), 224), ((20, 10), 32), ((1, 4000), 32)]
)
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_photo_is_shown_in_its_own_detail_within_32_and_224_pixels(size, side, fit):
    view = view_of(Image.new("RGB", size, "teal"), fit)
    assert (view.mode, view.size) == ("RGB", (side, side))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_the_photo_shows_the_same_part_as_the_32x32_picture(fit, orientation):
    across, down = np.meshgrid(np.linspace(0, 255, 320), np.linspace(0, 255, 160))
    photo = Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8))
    photo.getexif()[274] = orientation
    view, square = view_of(photo, fit), to_square_rgb(photo, fit)
    shrunk = np.asarray(view.reduce(view.width // 32), int)
    assert np.abs(shrunk - np.asarray(square)).max() <= 6  # a smooth picture: only resampling may differ


def test_pictures_are_put_into_the_html_whole(squares):
    assert np.array_equal(pixels(module.inline_png(squares[0])), np.asarray(squares[0]))
    photo = picture(module.inline_jpeg(Image.new("RGB", (224, 224), "teal")))
    assert (photo.format, photo.size) == ("JPEG", (224, 224))
    assert np.abs(np.asarray(photo, int) - (0, 128, 128)).max() <= 3


# The answer


def answer_of(classifier, square, count=5, **changes) -> str:
    found = classifier.classify([square])[0]
    values = {"probabilities": found.probabilities, "in_distribution": True, "milliseconds": 1.26} | changes
    return answer_html(classifier, Prediction(**values), square, square.resize((96, 96)), count)


@pytest.mark.parametrize("count", [1, 5, 10])
def test_there_is_a_bar_per_class_in_the_classifiers_order_and_the_first_is_pressed(classifier, squares, count):
    html = answer_of(classifier, squares[0], count)
    expected = classifier.predict(squares[0], top_k=count)
    bars = find(html, "button", "bar")
    assert [bar["data-name"] for bar in bars] == [name for name, _ in expected]
    assert [bar["data-class"] for bar in bars] == [str(classifier.class_names.index(name)) for name, _ in expected]
    assert [bar["aria-pressed"] for bar in bars] == ["true"] + ["false"] * (count - 1)
    assert [name.text for name in find(html, "span", "name")] == [name for name, _ in expected]
    assert [part.text for part in find(html, "span", "percent")] == [percent(p) for _, p in expected]
    shares = [part["style"] for part in elements(html) if (part.attributes.get("style") or "").startswith("--share")]
    assert shares == [f"--share: {p:.4f}" for _, p in expected]


def test_every_bar_has_its_heat_map_and_only_that_of_the_first_shows(classifier, squares):
    html = answer_of(classifier, squares[0], 10)
    maps = find(html, "img", "map")
    assert [one["data-class"] for one in maps] == [bar["data-class"] for bar in find(html, "button", "bar")]
    assert ["hidden" in one for one in maps] == [False] + [True] * 9
    for one in maps:
        name = classifier.class_names[int(one["data-class"])]
        expected = heat(classifier.activation_map(squares[0], name))
        assert np.array_equal(pixels(one["src"]), np.asarray(expected))
    assert find(html, "b", "of")[0].text == find(html, "button", "bar")[0]["data-name"]


def test_the_headline_names_the_first_class_and_how_sure_the_network_is(classifier, squares):
    html = answer_of(classifier, squares[0])
    name, probability = classifier.predict(squares[0], top_k=1)[0]
    headline = find(html, "div", "headline")[0]
    assert headline.text == f"{name}{percent(probability)} sure"
    assert "1.3 ms in the network" in text(html)


def test_what_the_network_was_given_is_shown_pixel_by_pixel_above_no_other_copy_of_it(classifier, squares):
    html = answer_of(classifier, squares[0])
    (seen,) = find(html, "img", "pixels")
    assert np.array_equal(pixels(seen["src"]), np.asarray(squares[0]))
    assert seen["alt"] == "Your picture, reduced to 32 by 32 pixels"
    (view,) = [image for image in find(html, "img") if not image.classes]
    assert picture(view["src"]).format == "JPEG" and picture(view["src"]).size == (96, 96)
    assert all("alt" in image for image in find(html, "img"))


def test_a_picture_that_is_probably_none_of_the_classes_is_told_so_and_no_other(classifier, squares):
    sentence = "This is probably none of the 10 classes."
    assert sentence in text(answer_of(classifier, squares[0], in_distribution=False))
    assert find(answer_of(classifier, squares[0], in_distribution=False), "div", "unsure")
    known = answer_of(classifier, squares[0], in_distribution=True)
    assert sentence not in text(known) and not find(known, "div", "unsure") and not find(known, "p", "none")


def test_no_class_name_and_no_name_of_a_picture_brings_markup(classifier, squares, monkeypatch):
    names = tuple(f"{EVIL}{k}" for k in range(10))
    monkeypatch.setattr(classifier, "class_names", names)
    found = classifier.classify(squares[:1])[0]
    html = answer_html(classifier, found, squares[0], squares[0], 10, whose=EVIL)
    assert find(html, "i") == []
    expected = [names[k] for k in found.best(10)]
    assert [bar["data-name"] for bar in find(html, "button", "bar")] == expected
    assert [part.text for part in find(html, "span", "name")] == expected
    assert find(html, "h2")[0].text == expected[0] == find(html, "b", "of")[0].text
    assert find(html, "img", "pixels")[0]["alt"] == f"{EVIL}, reduced to 32 by 32 pixels"


def test_the_answer_in_words_is_the_headline_and_whether_it_is_none_of_the_classes():
    names, probabilities = ["cat", EVIL], np.array([0.2, 0.8])
    assert in_words(Prediction(probabilities, True, 1.0), names) == f"{EVIL}, 80% sure."
    told = in_words(Prediction(probabilities, False, 1.0), names)
    assert told == f"{EVIL}, 80% sure. This is probably none of the 2 classes."
    (region,) = elements(spoken_html(told))
    assert (region.tag, region["role"], region.text) == ("p", "status", told)


@pytest.mark.parametrize(("make", "kind"), [(problem_html, "problem"), (hint_html, "hint")])
def test_a_sentence_is_shown_as_it_is(make, kind):
    html = make(EVIL)
    assert find(html, "i") == []
    spoken, shown = find(html, "p")
    assert shown.text == EVIL and len(find(html, "div", kind)) == 1
    assert elements(html)[0] == spoken and spoken["role"] == "status"
    assert spoken.text == (f"No answer. {EVIL}" if kind == "problem" else "")
