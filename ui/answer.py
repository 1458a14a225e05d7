"""An answer as HTML: the bars, the 32x32 picture that the network was given, and what spoke for each class.

Pictures are put into the HTML itself (data URLs): nothing of a visitor's picture is written to the server's disk, and
no request is made for it.
"""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from model import Classifier
from model.cifar10 import IMAGE_SIZE
from model.classifier import Prediction
from model.preprocess import to_square_rgb

VIEW_SIDE = 224
"""Pixels of the photo below the heat map: enough to recognise it, and small to send back."""

HEAT = np.array([(255, 214, 10), (255, 122, 0), (214, 0, 28)], np.float64)
"""RGB of little, more and most evidence. The opacity grows with it too, so it is not told by colour alone."""
HEAT_OPACITY = 0.78


def view_of(picture: Image.Image, fit: str) -> Image.Image:
    """What the network is shown of the picture, in as much detail as there is, VIEW_SIDE pixels at most."""
    return to_square_rgb(picture, fit, side=max(IMAGE_SIZE, min(VIEW_SIDE, *picture.size)))


def inline_png(image: Image.Image) -> str:
    return "data:image/png;base64," + _encoded(image, "PNG")


def inline_jpeg(image: Image.Image) -> str:
    return "data:image/jpeg;base64," + _encoded(image, "JPEG", quality=82)


def _encoded(image: Image.Image, form: str, **settings) -> str:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return base64.b64encode(buffer.getvalue()).decode()


def percent(probability: float) -> str:
    """Whole percent; never 0% or 100%, which no network can promise."""
    whole = f"{probability * 100:.0f}%"
    return {"0%": "<1%", "100%": ">99%"}.get(whole, whole)


def heat(activation: np.ndarray) -> Image.Image:
    """An activation map (8, 8) in [0, 1] as a translucent picture to lay over the photo; the browser smooths it."""
    position = np.clip(activation, 0, 1) * (len(HEAT) - 1)
    low = np.minimum(position.astype(int), len(HEAT) - 2)
    share = (position - low)[..., None]
    colour = HEAT[low] * (1 - share) + HEAT[low + 1] * share
    opacity = np.clip(activation, 0, 1)[..., None] * HEAT_OPACITY * 255
    return Image.fromarray(np.concatenate([colour, opacity], -1).round().astype(np.uint8), "RGBA")


def answer_html(
    classifier: Classifier,
    answer: Prediction,
    square: Image.Image,
    view: Image.Image,
    count: int,
    whose: str = "Your picture",
) -> str:
    """The answer for the eye. `square` is the 32x32 picture, `view` the same part of the photo in more detail.

    The bars are buttons that choose whose heat map is shown; ANSWER_JS answers them.
    """
    names = classifier.class_names
    shown = answer.best(count)
    maps = dict(zip(shown, classifier.activation_maps(square, [names[k] for k in shown]), strict=True))
    bars = "".join(_bar(names[k], k, float(answer.probabilities[k]), k == shown[0]) for k in shown)
    layers = "".join(
        f'<img class="map" data-class="{k}" src="{inline_png(heat(own))}" alt=""{"" if k == shown[0] else " hidden"}>'
        for k, own in maps.items()
    )
    top = escape(names[shown[0]])
    return (
        f'<section class="answer" aria-label="Answer">{_headline(answer, names)}'
        f'<ol class="bars" aria-label="Most probable classes">{bars}</ol>'
        f'<div class="views"><figure><img class="pixels" src="{inline_png(square)}" width="{IMAGE_SIZE}" '
        f'height="{IMAGE_SIZE}" alt="{escape(whose)}, reduced to 32 by 32 pixels">'
        f"<figcaption>All that the network sees: 32 × 32 pixels</figcaption></figure>"
        f'<figure class="heat"><div class="stack"><img src="{inline_jpeg(view)}" '
        f'alt="{escape(whose)} below a heat map">{layers}</div>'
        f'<figcaption>What spoke for <b class="of">{top}</b> <span class="more">(choose a bar for another class)</span>'
        f'</figcaption></figure></div><p class="small">{answer.milliseconds:.1f} ms in the network, '
        "on one CPU core.</p></section>"
    )


def _headline(answer: Prediction, names: Sequence[str]) -> str:
    best = answer.best(1)[0]
    said = f"<h2>{escape(names[best])}</h2><p>{percent(answer.probabilities[best])} sure</p>"
    if answer.in_distribution:
        return f'<div class="headline">{said}</div>'
    return (
        f'<div class="headline unsure">{said}</div>'
        f'<p class="none"><strong>This is probably none of the {len(names)} classes.</strong> 95 of 100 validation '
        "images speak more clearly for some class than this picture does. The network must name a class, whatever it "
        "is shown.</p>"
    )


def _bar(name: str, label: int, probability: float, chosen: bool) -> str:
    name = escape(name)
    return (
        f'<li><button type="button" class="bar" data-class="{label}" data-name="{name}" aria-pressed="'
        f'{"true" if chosen else "false"}"><span class="name">{name}</span>'
        f'<span class="track"><span style="--share: {probability:.4f}"></span></span>'
        f'<span class="percent">{escape(percent(probability))}</span></button></li>'
    )


def in_words(answer: Prediction, names: Sequence[str]) -> str:
    """The headline, for `spoken_html`."""
    best = answer.best(1)[0]
    none = "" if answer.in_distribution else f" This is probably none of the {len(names)} classes."
    return f"{names[best]}, {percent(answer.probabilities[best])} sure.{none}"


def spoken_html(sentence: str = "") -> str:
    """What a screen reader says when an area changes; nobody sees it. It must come first in all that the area shows:
    gradio then keeps the element and changes its text, and a new element is not said by all of them."""
    return f'<p class="sr-only" role="status">{escape(sentence)}</p>'


def problem_html(sentence: str) -> str:
    """In place of an answer: what is wrong with the picture, and what to do."""
    shown = f'<div class="problem"><strong>No answer</strong><p>{escape(sentence)}</p></div>'
    return spoken_html(f"No answer. {sentence}") + shown


def hint_html(sentence: str) -> str:
    """In place of an answer, as long as there is nothing to answer."""
    return f'{spoken_html()}<div class="hint"><p>{escape(sentence)}</p></div>'


ANSWER_JS = """
element.addEventListener('click', (event) => {
  const bar = event.target.closest('.bar');
  if (!bar) return;
  const answer = bar.closest('.answer');
  for (const one of answer.querySelectorAll('.bar')) one.setAttribute('aria-pressed', one === bar);
  for (const map of answer.querySelectorAll('.map')) map.hidden = map.dataset.class !== bar.dataset.class;
  answer.querySelector('.of').textContent = bar.dataset.name;
});
"""
"""`js_on_load` of the gr.HTML that shows an answer: a bar was chosen."""
