"""A prediction as HTML: the bars, the image that the network was given, and a class activation map for each class.

Images are put into the HTML itself (data URLs): nothing of a visitor's image is written to the server's disk, and no
request is made for it.
"""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from model import Classifier
from model.classifier import Prediction
from model.preprocess import to_square_rgb
from ui.render import render

VIEW_SIDE, MIN_SIDE = 224, 32
"""Pixels of the photo below the heat map: enough to recognize it, and small to send back."""

HEAT = np.array([(255, 214, 10), (255, 122, 0), (214, 0, 28)], np.float64)
"""RGB of little, more and most evidence. The opacity grows with it too, so it is not conveyed by color alone."""
HEAT_OPACITY = 0.78


class Bar(NamedTuple):
    """A class among the most probable: position in the class names, name, probability, and heat map as a data URL."""

    label: int
    name: str
    probability: float
    map: str

    @property
    def percent(self) -> str:
        return percent(self.probability)


class Verdict(NamedTuple):
    """A test image: its index in the test set, its class, and "Correct" or "Incorrect"."""

    index: int
    true: str
    outcome: str


def view_of(image: Image.Image, fit: str) -> Image.Image:
    """What the network is shown of the image, in as much detail as there is, VIEW_SIDE pixels at most."""
    return to_square_rgb(image, fit, side=max(MIN_SIDE, min(VIEW_SIDE, *image.size)))


def inline(image: Image.Image, form: str = "PNG") -> str:
    """As a data URL; `form` may be JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, form, quality=82)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def percent(probability: float) -> str:
    """Whole percent; never 0% or 100%, which no network can promise."""
    whole = f"{probability * 100:.0f}%"
    return {"0%": "<1%", "100%": ">99%"}.get(whole, whole)


def heat(activation: np.ndarray) -> Image.Image:
    """An activation map (8, 8) in [0, 1] as a translucent image to lay over the photo; the browser smooths it."""
    position = activation * (len(HEAT) - 1)
    low = np.minimum(position.astype(int), len(HEAT) - 2)
    share = (position - low)[..., None]
    color = HEAT[low] * (1 - share) + HEAT[low + 1] * share
    opacity = activation[..., None] * HEAT_OPACITY * 255
    return Image.fromarray(np.concatenate([color, opacity], -1).round().astype(np.uint8), "RGBA")


def bars_of(classifier: Classifier, found: Prediction, square: Image.Image, count: int) -> list[Bar]:
    """The `count` most probable classes of the network's input `square`."""
    names, best = classifier.class_names, found.best(count)
    maps = classifier.activation_maps(square, [names[label] for label in best])
    return [
        Bar(label, names[label], float(found.probabilities[label]), inline(heat(own)))
        for label, own in zip(best, maps, strict=True)
    ]


def answer_html(
    classifier: Classifier,
    found: Prediction,
    square: Image.Image,
    view: Image.Image,
    count: int,
    verdict: Verdict | None = None,
    asked: str | None = None,
) -> str:
    """The prediction for the eye and for screen readers. `square` is the network's input, `view` the same part of the
    photo in more detail. A click on one of the `count` bars shows its heat map (static/answer.js)."""
    bars = bars_of(classifier, found, square, count)
    words = f"{bars[0].name}, confidence {bars[0].percent}."
    if not found.in_distribution:
        words += " Possibly out of distribution."
    if verdict:
        words = f"{verdict.outcome}. Test image {verdict.index:,}: true class {verdict.true}, predicted {words}"
    return render(
        "answer.html",
        bars=bars,
        words=words,
        whose=f"Test image {verdict.index}" if verdict else "Your image",
        input=inline(square),
        view=inline(view, "JPEG"),
        size=square.width,
        in_distribution=found.in_distribution,
        classes=len(classifier.class_names),
        milliseconds=found.milliseconds,
        verdict=verdict,
        asked=asked,
    )


def problem_html(sentence: str, title: str = "Could not classify this image", asked: str | None = None) -> str:
    """In place of an answer: what is wrong, and what to do."""
    return render("problem.html", title=title, sentence=sentence, asked=asked)


def hint_html(sentence: str) -> str:
    """In place of an answer, as long as there is nothing to answer."""
    return render("hint.html", sentence=sentence)
