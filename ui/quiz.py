"""The quiz: a visitor against the network on ten test images. Played in the browser; the server draws the images."""

from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from ui.answer import inline, percent
from ui.render import render, script

if TYPE_CHECKING:
    from ui.dataset_browser import DatasetBrowser

ROUNDS = 10


def build(browser: "DatasetBrowser") -> None:
    """Puts the quiz into the Blocks that is being built."""
    shown = gr.HTML(quiz_html(browser, []), elem_id="quiz", apply_default_css=False, js_on_load=script("quiz.js"))

    def draw():
        return quiz_html(browser, rounds_of(browser, np.random.default_rng()))

    shown.start(draw, None, shown, show_progress="minimal", api_visibility="private")


def rounds_of(browser: "DatasetBrowser", random: np.random.Generator) -> list[dict]:
    """Ten test images, none twice and none preferred: those that are on the page because they are misclassified take no
    part."""
    if browser.read() is None:
        return []
    return [
        {
            "image": inline(Image.fromarray(browser.tests.images[position])),
            "index": browser.tests.indices[position],
            "label": int(browser.label[position]),
            "predicted": int(browser.predicted[position]),
            "confidence": percent(browser.confidence[position]),
        }
        for position in random.permutation(browser.tests.drawn)[:ROUNDS]
    ]


def quiz_html(browser: "DatasetBrowser", rounds: list[dict]) -> str:
    """What static/quiz.js plays; without rounds, the way to begin."""
    size = browser.classifier.config.image_size
    return render("quiz.html", names=list(browser.classifier.class_names), rounds=rounds, count=ROUNDS, size=size)
