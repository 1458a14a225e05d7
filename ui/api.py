"""The calls that other programs may make. docs/deploy.md lists them, the About tab shows how they are made.

Their components are never shown: each is here for its place in the API. What the page itself calls is private.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
from PIL import Image

from model import Classifier
from model.preprocess import FITS, PictureError, to_square_rgb
from ui.answer import Answer, ask
from ui.calls import ERROR, TOO_MANY_FILES
from ui.guard import Limits
from ui.uploads import open_upload

TOP_K = 5

LOG = logging.getLogger(__name__)

MAX_BATCH = 16
"""Predictions that the queue hands over at once: what its bookkeeping costs is shared by them."""

MAX_FILES = Limits.files
"""Of /predict_batch: as many as one upload may bring."""

DECODERS = 4
"""Threads that decode the pictures of a batch; Pillow lets go of the lock meanwhile. On two cores, four answered 13%
more calls than two. `ui.uploads` bounds how many pixels are open at once."""

BAD_FIT = f"fit must be one of {', '.join(FITS)}."
FAILED = "This picture could not be answered: something is wrong on the server."
NO_FILES = "No pictures were given: upload some as the first input."

INFO = ("depth", "stem_kernel", "shortcut", "temperature", "threshold")
"""Fields of config.json that /model_info tells; the last one may be null."""


def build_api(classifier: Classifier) -> None:
    """Puts the calls, and the unseen components that they need, into the Blocks that is being built."""
    names = classifier.class_names
    with gr.Row(visible=False):
        image = gr.Image(label="image", type="filepath")
        files = gr.File(label="files", file_count="multiple", type="filepath")
        top_k = gr.Slider(1, len(names), value=min(TOP_K, len(names)), step=1, label="top_k")
        label = gr.Dropdown(list(names), value=names[0], label="label")
        fit = gr.Radio(list(FITS), value=classifier.config.fit, label="fit")
        best, result = gr.Label(label="prediction"), gr.JSON(label="details")

    def call(function: Callable, inputs: list, outputs: list, **settings) -> None:
        # preprocess=False: gradio would open the files itself and show its own message, temporary path included.
        settings = {"preprocess": False, "postprocess": False, "concurrency_limit": 1} | settings
        gr.on([], function, inputs, outputs, api_name=function.__name__, **settings)

    call(predict(classifier), [image, top_k, fit], [best, result], batch=True, max_batch_size=MAX_BATCH)
    call(activation_map(classifier), [image, label, fit], [result])
    call(predict_batch(classifier), [files, top_k, fit], [result])
    call(model_info(classifier), [], [result])


def predict(classifier: Classifier) -> Callable:
    """The function behind /predict: lists in, lists out, one place per call. A call without an answer does not cost the
    others theirs: its second output is {"error": sentence}, of which `ui.calls` makes an error."""
    pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")

    def predict(image, top_k, fit):
        """Classify a picture. Returns the top_k most probable classes, and whether it is probably none of them."""
        prepared = list(pool.map(_prepared, image, top_k, fit, [len(classifier.class_names)] * len(image)))
        good = [value for value in prepared if not isinstance(value, str)]
        answers = iter(ask(classifier, [square for square, _ in good]) if good else ())
        done = []
        for value in prepared:
            if isinstance(value, str):
                done.append((None, {ERROR: value}))
            else:
                answer = next(answers)
                done.append((label_dict(classifier.class_names, answer, value[1]), details(answer)))
        return [label for label, _ in done], [about for _, about in done]

    return predict


def _prepared(image: object, top_k: object, fit: object, classes: int) -> tuple[Image.Image, int] | str:
    """The 32x32 picture and how many classes were asked for; a sentence where one of the three is of no use."""
    try:
        count = whole_number(top_k, classes)
        return square(image, fit), count
    except gr.Error as error:
        return str(error.message)
    except Exception:  # not foreseen: still no reason to fail the calls beside it
        LOG.exception("A call of /predict failed")
        return FAILED


def square(upload: object, fit: object) -> Image.Image:
    """The 32x32 picture of an upload. Raises gr.Error of one sentence, which holds nothing of what the caller sent (the
    page renders it as HTML) and no path."""
    if fit not in FITS:
        raise gr.Error(BAD_FIT, print_exception=False)
    try:
        with open_upload(upload) as picture:
            return to_square_rgb(picture, fit)
    except PictureError as error:
        raise gr.Error(str(error), print_exception=False) from None


def whole_number(top_k: object, classes: int) -> int:
    """`top_k` as an int from 1 to `classes`; 5.0 is 5, while true, 2.5 and "5" are refused."""
    if isinstance(top_k, bool) or not isinstance(top_k, int | float) or not 1 <= top_k <= classes or top_k % 1:
        raise gr.Error(f"top_k must be a whole number from 1 to {classes}.", print_exception=False)
    return int(top_k)


def label_dict(names: Sequence[str], answer: Answer, count: int) -> dict:
    """As gr.Label gives it: the best label, and the `count` best with their calibrated probabilities."""
    confidences = [{"label": names[k], "confidence": float(answer.probabilities[k])} for k in answer.best(count)]
    return {"label": confidences[0]["label"], "confidences": confidences}


def details(answer: Answer) -> dict:
    """`milliseconds` is the time of the network's run, which other calls may have shared."""
    return {"probably_none_of_these": not answer.recognised, "milliseconds": round(answer.milliseconds, 3)}


def activation_map(classifier: Classifier) -> Callable:
    """The function behind /activation_map."""

    def activation_map(image, label, fit=classifier.config.fit):
        """What in the picture speaks for a class: 8 rows of 8 numbers in [0, 1], the top row first."""
        if label not in classifier.class_names:
            raise gr.Error(f"label must be one of {', '.join(classifier.class_names)}.", print_exception=False)
        return classifier.activation_map(square(image, fit), label).round(6).tolist()

    return activation_map


def predict_batch(classifier: Classifier) -> Callable:
    """The function behind /predict_batch."""

    def predict_batch(files, top_k=TOP_K, fit=classifier.config.fit):
        """Classify up to 16 pictures. Returns a list with an answer or {"error": sentence} for each, in their order."""
        count = whole_number(top_k, len(classifier.class_names))
        return [
            {ERROR: found}
            if isinstance(found, str)
            else label_dict(classifier.class_names, found, count) | details(found)
            for found, _ in answer_files(classifier, files, fit)
        ]

    return predict_batch


def answer_files(classifier: Classifier, files: object, fit: object) -> list[tuple[Answer | str, Image.Image | None]]:
    """An answer and the 32x32 picture for each of a request's files; for one that is no picture of use, a sentence and
    None. Raises gr.Error where the request as a whole is none."""
    if not files:
        raise gr.Error(NO_FILES, print_exception=False)
    if not isinstance(files, list) or len(files) > MAX_FILES:
        raise gr.Error(TOO_MANY_FILES if isinstance(files, list) else NO_FILES, print_exception=False)
    squares: list[Image.Image | str] = []
    for file in files:
        try:
            squares.append(square(file, fit))
        except gr.Error as error:
            squares.append(str(error.message))
    good = [one for one in squares if not isinstance(one, str)]
    answers = iter(ask(classifier, good) if good else ())
    return [(one, None) if isinstance(one, str) else (next(answers), one) for one in squares]


def model_info(classifier: Classifier) -> Callable:
    """The function behind /model_info."""

    def model_info():
        """Which model this is: its source, classes, architecture, accuracy on val and test, and how it was trained."""
        config, metrics = classifier.config, classifier.metrics
        val, test, training = metrics.val, metrics.test, metrics.training
        scores = ("n", "accuracy", "accuracy_interval")
        return {
            "source": classifier.source.public,
            "class_names": list(classifier.class_names),
            "config": {key: getattr(config, key) for key in INFO},
            "parameters": training.parameters,
            **{split: {key: getattr(of, key) for key in scores} for split, of in (("val", val), ("test", test))},
            "training": {key: getattr(training, key) for key in ("recipe", "seed", "epochs", "best_epoch", "changes")},
        }

    return model_info
