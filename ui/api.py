"""The two calls of `gradio_client`, /predict and /model_info. Programs without it use the REST routes (server/api.py).

Their components are never shown: each is here for its place in the API. What the page itself calls is private.
"""

from collections.abc import Callable, Sequence

import gradio as gr
from pydantic import BaseModel, Field

from model import Classifier
from model.classifier import Prediction
from model.preprocess import FITS, ImageError, to_square_rgb
from ui.uploads import open_upload

TOP_K = 5
BAD_FIT = f"fit must be one of {', '.join(FITS)}."


def build_api(classifier: Classifier) -> None:
    """Puts the calls, and the unseen components that they need, into the Blocks that is being built."""
    classes = len(classifier.class_names)
    with gr.Row(visible=False):
        image = gr.Image(label="image", type="filepath")
        top_k = gr.Slider(1, classes, value=min(TOP_K, classes), step=1, label="top_k")
        fit = gr.Radio(list(FITS), value=classifier.config.fit, label="fit")
        best, result = gr.Label(label="prediction"), gr.JSON(label="details")
    # preprocess=False: gradio would open the file itself and show its own message, temporary path included.
    raw = {"preprocess": False, "postprocess": False}
    gr.on([], predict(classifier), [image, top_k, fit], [best, result], api_name="predict", **raw)
    gr.on([], lambda: model_info(classifier), None, [result], api_name="model_info", **raw)


def predict(classifier: Classifier) -> Callable:
    """The function behind /predict."""

    def predict(image, top_k, fit):
        """Classify an image. Returns the top_k most probable classes, and whether it is probably none of them."""
        try:
            count = checked(top_k, fit, len(classifier.class_names))
            with open_upload(image) as opened:
                square = to_square_rgb(opened, fit, classifier.config.image_size)
        except ImageError as error:
            # The sentence holds nothing of what the caller sent (the page renders it as HTML) and no path.
            raise gr.Error(str(error), print_exception=False) from None
        (found,) = classifier.classify([square])
        return label_dict(classifier.class_names, found, count), details(found)

    return predict


def checked(top_k: object, fit: object, classes: int) -> int:
    """`top_k` as an int from 1 to `classes`; 5.0 is 5, while true, 2.5 and "5" are refused, like an unknown `fit`, with
    ImageError."""
    if fit not in FITS:
        raise ImageError(BAD_FIT)
    if isinstance(top_k, bool) or not isinstance(top_k, int | float) or not 1 <= top_k <= classes or top_k % 1:
        raise ImageError(bad_top_k(classes))
    return int(top_k)


def bad_top_k(classes: int) -> str:
    return f"top_k must be a whole number from 1 to {classes}."


def label_dict(names: Sequence[str], found: Prediction, count: int) -> dict:
    """As gr.Label gives it: the best label, and the `count` best with their calibrated probabilities."""
    confidences = [{"label": names[k], "confidence": float(found.probabilities[k])} for k in found.best(count)]
    return {"label": confidences[0]["label"], "confidences": confidences}


def details(found: Prediction) -> dict:
    """`milliseconds` is the time of the network's run."""
    return {"probably_none_of_these": not found.in_distribution, "milliseconds": round(found.milliseconds, 3)}


class Architecture(BaseModel):
    depth: int
    stem_kernel: int
    shortcut: str
    temperature: float = Field(description="probabilities are softmax(logits / temperature)")
    threshold: float | None = Field(description="an image whose highest logit is below is probably none")


class Score(BaseModel):
    n: int = Field(description="images")
    accuracy: float
    accuracy_interval: tuple[float, float] = Field(description="95%, Wilson")


class Training(BaseModel):
    recipe: str
    seed: int
    epochs: int
    best_epoch: int
    changes: list[str] = Field(description="flags that differ from the recipe")


class ModelInfo(BaseModel):
    source: str = Field(examples=["bundled"])
    class_names: list[str]
    image_size: int = Field(description="pixels along each side of the network's input")
    config: Architecture
    parameters: int
    val: Score
    test: Score
    training: Training


def model_info(classifier: Classifier) -> dict:
    """Which model this is, and how good: a `ModelInfo`."""
    metrics = classifier.metrics
    found = {
        "source": classifier.source.public,
        "class_names": classifier.class_names,
        "image_size": classifier.image_size,
        "config": classifier.config,
        "parameters": metrics.training.parameters,
        "val": metrics.val,
        "test": metrics.test,
        "training": metrics.training,
    }
    return ModelInfo.model_validate(found, from_attributes=True).model_dump()
