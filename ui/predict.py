"""The Predict tab: a picture in, the most probable classes out, and the picture as the network gets it.

`/predict` is the only call that others may make (see `docs/architecture.md`); what the page itself calls is private.
"""

from collections.abc import Callable
from pathlib import Path

import gradio as gr
from PIL import Image

from model import Classifier
from model.preprocess import FITS, PictureError, open_picture, to_square_rgb

EXAMPLES = Path(__file__).resolve().parent.parent / "assets" / "examples"
"""Pictures drawn for this project, one file per class, named after it."""

TOP_K = 5

NO_PICTURE = "No picture was given: upload one as the first input."
NOT_UPLOADED = "Upload the picture itself: web addresses, data URLs and paths on the server are not read."
BAD_FIT = f"fit must be one of {', '.join(FITS)}."

FIT_LABELS = {"crop": "Cropping", "pad": "Padding", "stretch": "Stretching"}


def build_tab(classifier: Classifier) -> None:
    """Puts the tab's components and events into the Blocks that is being built."""
    classes = len(classifier.class_names)
    predict = prediction(classifier)
    with gr.Row():
        with gr.Column(scale=6, min_width=320):
            image = gr.Image(
                label="Your picture",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=300,
                buttons=["fullscreen"],
                placeholder="Drop a picture here\nor click to choose one",
                elem_id="picture",
            )
            refuse_web_addresses(image)
            build_examples(image)
        with gr.Column(scale=5, min_width=320):
            bars = gr.Label(label="Prediction", elem_id="prediction")
            with gr.Row():
                seen = gr.Image(
                    label="What the network sees",
                    type="pil",
                    format="png",
                    interactive=False,
                    height=300,
                    min_width=220,
                    buttons=[],
                    elem_id="seen",
                    elem_classes="pixelated",
                    alt_text="Your picture, reduced to 32 by 32 pixels",
                )
                with gr.Column(min_width=200):
                    fit = gr.Radio([(FIT_LABELS[fit], fit) for fit in FITS], value="crop", label="Make it square by")
                    top_k = gr.Slider(
                        1, classes, value=min(TOP_K, classes), step=1, label="Classes to show", buttons=[]
                    )
    inputs, outputs = [image, top_k, fit], [bars, seen]

    # preprocess=False: gradio would open the file itself and show its own message, temporary path included.
    gr.on([], predict, inputs, outputs, preprocess=False, api_name="predict", concurrency_id="predict")
    gr.on(
        [image.change, top_k.change, fit.change],
        lambda image, top_k, fit: predict(image, top_k, fit) if image else (None, None),
        inputs,
        outputs,
        preprocess=False,
        show_progress="minimal",
        trigger_mode="always_last",
        api_visibility="private",
        concurrency_id="predict",
    )


def build_examples(image: gr.Image) -> None:
    """Pictures to click, for a visitor without one at hand; nothing where the folder is absent."""
    examples = sorted(EXAMPLES.glob("*.png"))
    if not examples:
        return
    gallery = gr.Gallery(
        [(str(path), path.stem) for path in examples],
        label="Or try a drawing",
        height="auto",
        allow_preview=False,
        object_fit="cover",
        interactive=False,
        buttons=[],
        elem_id="examples",
        elem_classes="tiles",
    )

    def chosen(event: gr.SelectData) -> str:
        return str(examples[event.index])

    gallery.select(chosen, None, image, show_progress="hidden", api_visibility="private")


def prediction(classifier: Classifier) -> Callable:
    """The function behind `/predict`. Every error that a visitor can cause is a `gr.Error` of one sentence, which holds
    nothing of what they sent (the page renders it as HTML) and no path."""
    classes = len(classifier.class_names)

    def predict(image, top_k=TOP_K, fit="crop"):
        """Classify a picture: the top_k most probable classes, and the 32x32 picture that the network was given."""
        count = whole_number(top_k, classes)
        if fit not in FITS:
            raise gr.Error(BAD_FIT, print_exception=False)
        try:
            square = to_square_rgb(read_upload(image), fit)
        except PictureError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return dict(classifier.predict(square, top_k=count)), square

    return predict


def whole_number(top_k: object, classes: int) -> int:
    """`top_k` as an int from 1 to `classes`; 5.0 is 5, while true, 2.5 and "5" are refused."""
    if isinstance(top_k, bool) or not isinstance(top_k, int | float) or not 1 <= top_k <= classes or top_k % 1:
        raise gr.Error(f"top_k must be a whole number from 1 to {classes}.", print_exception=False)
    return int(top_k)


def read_upload(upload: object) -> Image.Image:
    """The picture in the file that gradio stored for this visitor.

    `upload` is the raw {"path": ..., "url": ...} of the request. Gradio checks the path only where the request says
    that it is a file ("meta"), so it is checked here too: else a caller could read any picture on the server.
    Raises PictureError for a file that is no picture of use.
    """
    if not upload:
        raise gr.Error(NO_PICTURE, print_exception=False)
    path = upload.get("path") if isinstance(upload, dict) else None
    if not isinstance(path, str) or not _is_upload(path):
        raise gr.Error(NOT_UPLOADED, print_exception=False)
    return open_picture(path)


def _is_upload(path: str) -> bool:
    try:
        file = Path(path).resolve()
        return file.is_file() and file.is_relative_to(Path(gr.utils.get_upload_folder()).resolve())
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def refuse_web_addresses(image: gr.Image) -> None:
    """Keep gradio from downloading what a request names by its address: no limit on the size holds there.

    A method of this one component is replaced because a subclass would make gradio write a `.pyi` beside this file.
    """
    move_to_cache = image.async_move_resource_to_block_cache

    async def move_uploads_only(path):
        if path is not None and "://" in str(path):
            raise gr.Error(NOT_UPLOADED, print_exception=False)
        return await move_to_cache(path)

    image.async_move_resource_to_block_cache = move_uploads_only
