"""The Predict tab: an image in; the most probable classes, the network's input and class activation maps out.
Below it, batch prediction (ui/batch.py)."""

from pathlib import Path

import gradio as gr
from PIL import Image

from model import Classifier
from model.artifact import SAMPLES
from model.preprocess import FITS, ImageError, to_square_rgb
from ui import batch
from ui.answer import answer_html, hint_html, inline, problem_html, view_of
from ui.api import TOP_K, checked
from ui.dataset_browser import DatasetBrowser
from ui.render import render, script
from ui.uploads import open_upload

EXAMPLES = Path(__file__).resolve().parent.parent / "assets" / "examples"
"""Images drawn for this project, one file per class, named after it."""

THUMBNAIL = 96
MAX_EXAMPLES = 10

FIT_LABELS = {"crop": "Center crop", "pad": "Pad", "stretch": "Stretch"}

NOTHING_YET = "Upload or pick an image to see a prediction."


def build_tab(classifier: Classifier, most: int, browser: DatasetBrowser) -> dict[str, gr.components.Component]:
    """Puts the tab's components and events into the Blocks that is being built; `most` files may be sent at once.
    Returns what the address of the page may set: parameter -> component."""
    classes = len(classifier.class_names)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_id="ask"):
            image = gr.Image(
                label="Image",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=280,
                buttons=["fullscreen"],
                format="png",  # of an example, without loss
                placeholder="Drop an image here\nor click to upload",
                elem_id="upload",
            )
            fit = gr.Radio(
                [(FIT_LABELS[fit], fit) for fit in FITS],
                value=classifier.config.fit,
                label="Resize mode",
                info="How a non-square image becomes square.",
                elem_id="fit",
            )
            top_k = gr.Slider(
                1, classes, value=min(TOP_K, classes), step=1, label="Top-k classes", buttons=[], elem_id="top-k"
            )
            build_examples(image, examples_of(classifier, browser))
        with gr.Column(scale=6, min_width=320, elem_id="result"):
            shown = gr.HTML(
                hint_html(NOTHING_YET),
                elem_id="answer",
                apply_default_css=False,
                js_on_load=script("answer.js", "upload_field.js"),
            )
    with gr.Accordion("Batch prediction", open=False, elem_id="batch-accordion"):
        batch.build(classifier, most)

    gr.on(
        [image.change, top_k.change, fit.change],
        lambda image, top_k, fit: answer_of(classifier, image, top_k, fit),
        [image, top_k, fit],
        shown,
        preprocess=False,
        show_progress="minimal",
        trigger_mode="always_last",
        api_visibility="private",
        concurrency_limit=2,
    )
    return {"fit": fit, "top": top_k}


def answer_of(classifier: Classifier, upload: object, top_k: object, fit: object) -> str:
    """What the page shows for an upload: the prediction, a hint where there is no image, or why there is no answer."""
    if not upload:
        return hint_html(NOTHING_YET)
    try:
        count = checked(top_k, fit, len(classifier.class_names))
        with open_upload(upload) as image:
            square, view = to_square_rgb(image, fit, classifier.config.image_size), view_of(image, fit)
    except ImageError as error:
        return problem_html(str(error))
    (found,) = classifier.classify([square])
    return answer_html(classifier, found, square, view, count)


def examples_of(classifier: Classifier, browser: DatasetBrowser) -> dict[str, str | Image.Image]:
    """Class -> an image: our drawings where they show the model's classes, else its first samples."""
    drawings = {path.stem: path for path in EXAMPLES.glob("*.png")}
    if drawings.keys() >= set(classifier.class_names):
        return {name: str(drawings[name]) for name in sorted(classifier.class_names)}
    if not (classifier.folder / SAMPLES).is_dir() or (tests := browser.read()) is None:
        return {}
    found: dict[str, str | Image.Image] = {}
    for position in tests.drawn:
        found.setdefault(classifier.class_names[tests.labels[position]], Image.fromarray(tests.images[position]))
    return dict(sorted(found.items())[:MAX_EXAMPLES])


def build_examples(image: gr.Image, examples: dict[str, str | Image.Image]) -> None:
    """Images to click, for a visitor without one at hand; nothing where there are none."""
    if not examples:
        return
    html = render("examples.html", examples={name: thumbnail(one) for name, one in examples.items()}, side=THUMBNAIL)
    shown = gr.HTML(html, elem_id="examples", apply_default_css=False, js_on_load=script("examples.js"))

    def pick(event: gr.EventData):
        name = getattr(event, "name", None)
        return examples[name] if isinstance(name, str) and name in examples else gr.skip()

    shown.pick(pick, None, image, show_progress="hidden", api_visibility="private")


def thumbnail(image: str | Image.Image) -> str:
    """A data URL of an image or of a file, THUMBNAIL pixels a side."""
    if isinstance(image, str):
        with Image.open(image) as opened:
            return thumbnail(opened.convert("RGB"))
    return inline(image.resize((THUMBNAIL, THUMBNAIL)), "JPEG")
