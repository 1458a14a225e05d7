"""The Predict tab: a picture in; the most probable classes, what the network saw and what spoke for each class out.
Below it, several pictures at once (ui/batch.py)."""

from html import escape
from pathlib import Path

import gradio as gr
from PIL import Image

from model import Classifier
from model.preprocess import FITS, PictureError, to_square_rgb
from ui import batch
from ui.answer import ANSWER_JS, answer_html, hint_html, in_words, inline_jpeg, problem_html, spoken_html, view_of
from ui.api import BAD_FIT, TOP_K, whole_number
from ui.upload_field import UPLOAD_FIELD_JS
from ui.uploads import open_upload

EXAMPLES = Path(__file__).resolve().parent.parent / "assets" / "examples"
"""Pictures drawn for this project, one file per class, named after it."""

THUMBNAIL = 96

FIT_LABELS = {"crop": "Crop to the centre", "pad": "Keep all, add white bars", "stretch": "Squash"}
"""What becomes of a picture that is not square, in the words of a visitor."""

NOTHING_YET = "The answer appears here: drop a picture on the left, paste one, take one, or choose a drawing below."


def build_tab(classifier: Classifier, most: int) -> dict[str, gr.components.Component]:
    """Puts the tab's components and events into the Blocks that is being built; `most` files may be sent at once.
    Returns what the address of the page may set: parameter -> component."""
    classes = len(classifier.class_names)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_id="ask"):
            image = gr.Image(
                label="Your picture",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=280,
                buttons=["fullscreen"],
                placeholder="Drop a picture here\nor click to choose one",
                elem_id="picture",
            )
            fit = gr.Radio(
                [(FIT_LABELS[fit], fit) for fit in FITS],
                value=classifier.config.fit,
                label="If it is not square",
                elem_id="fit",
            )
            top_k = gr.Slider(
                1, classes, value=min(TOP_K, classes), step=1, label="Classes to show", buttons=[], elem_id="top-k"
            )
            build_examples(image)
        with gr.Column(scale=6, min_width=320, elem_id="said"):
            shown = gr.HTML(
                hint_html(NOTHING_YET),
                elem_id="answer",
                apply_default_css=False,
                js_on_load=ANSWER_JS + UPLOAD_FIELD_JS,
            )
    with gr.Accordion("Several pictures at once", open=False, elem_id="batch-accordion"):
        batch.build(classifier, fit, most)

    def answer(image, top_k, fit):
        return answer_of(classifier, image, top_k, fit)

    gr.on(
        [image.change, top_k.change, fit.change],
        answer,
        [image, top_k, fit],
        shown,
        preprocess=False,
        show_progress="minimal",
        trigger_mode="always_last",
        api_visibility="private",
        concurrency_limit=2,
    )
    return {"fit": fit, "top": top_k}


def answer_of(classifier: Classifier, image: object, top_k: object, fit: object) -> str:
    """What the page shows for an upload: the answer, a hint where there is no picture, or why there is no answer."""
    if not image:
        return hint_html(NOTHING_YET)
    try:
        count = whole_number(top_k, len(classifier.class_names))
        if fit not in FITS:
            raise PictureError(BAD_FIT)
        with open_upload(image) as picture:
            square, view = to_square_rgb(picture, fit), view_of(picture, fit)
    except PictureError as error:
        return problem_html(str(error))
    (answer,) = classifier.classify([square])
    said = spoken_html(in_words(answer, classifier.class_names))
    return said + answer_html(classifier, answer, square, view, count)


def build_examples(image: gr.Image) -> None:
    """Pictures to click, for a visitor without one at hand; nothing where the folder is absent."""
    examples = {path.stem: path for path in sorted(EXAMPLES.glob("*.png"))}
    if not examples:
        return
    shown = gr.HTML(examples_html(examples), elem_id="examples", apply_default_css=False, js_on_load=EXAMPLES_JS)

    def pick(event: gr.EventData):
        name = getattr(event, "name", None)
        return str(examples[name]) if isinstance(name, str) and name in examples else gr.skip()

    shown.pick(pick, None, image, show_progress="hidden", api_visibility="private")


def examples_html(examples: dict[str, Path]) -> str:
    """A button per drawing: its name, and its file as a thumbnail."""
    tiles = []
    for name, path in examples.items():
        with Image.open(path) as drawing:
            thumbnail = drawing.convert("RGB").resize((THUMBNAIL, THUMBNAIL))
        tiles.append(
            f'<li><button type="button" data-name="{escape(name)}"><img src="{inline_jpeg(thumbnail)}" '
            f'width="{THUMBNAIL}" height="{THUMBNAIL}" alt="">{escape(name)}</button></li>'
        )
    return (
        f'<h2 id="drawings">Or try a drawing</h2><ul class="examples" aria-labelledby="drawings">{"".join(tiles)}</ul>'
    )


EXAMPLES_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) trigger('pick', {name: button.dataset.name});
});
"""
