"""The model card: what the Hub shows of an artifact. Every number comes from its metrics.json. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from model.artifact import Config, Metrics, Training

REPO = "USER/REPO"
"""Stands in the card for the repository, whose name is not known before `publish` puts it there."""


def write_card(metrics: Metrics, config: Config, path: Path) -> None:
    """The model card: front matter that the Hub reads, then prose. Every number comes from `metrics`."""
    path.write_text(f"---\n{card_data(metrics, config).to_yaml()}\n---\n\n{card_text(metrics, config)}", "utf-8")


def card_data(metrics: Metrics, config: Config) -> ModelCardData:
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="cifar10",
            dataset_name=f"CIFAR-10 {split} (n = {scores.n})",
            dataset_split={"val": "train", "test": "test"}[split],
            metric_type="accuracy",
            metric_name=f"{split} accuracy",
            metric_value=round(scores.accuracy, 4),
        )
        for split, scores in (("val", metrics.val), ("test", metrics.test))
    ]
    return ModelCardData(
        language=None,
        license="mit",
        library_name="onnx",
        pipeline_tag="image-classification",
        datasets=["cifar10"],
        metrics=["accuracy"],
        tags=["resnet", "cifar10", "pytorch", "onnx"],
        model_name=f"ResNet-{config.depth}",
        eval_results=results,
    )


def flip_text(metrics: Metrics) -> str:
    """A paragraph on `flip_tta`; nothing where an older artifact lacks it."""
    told = [
        f"{split} {flip.accuracy:.2%} ({flip.accuracy_interval[0]:.2%} to {flip.accuracy_interval[1]:.2%}), "
        f"loss {flip.loss:.4f}"
        for split, flip in (("val", metrics.val.flip_tta), ("test", metrics.test.flip_tta))
        if flip
    ]
    if not told:
        return ""
    return (
        f"\nMean of the image and its mirror image (logits averaged), apart from the table: {'; '.join(told)}. "
        "All other numbers here are of the single view, which is what `Classifier` answers.\n"
    )


def pretrained_text(training: Training) -> str:
    """Which networks took part in the training; nothing for a run from random weights without a teacher."""
    if training.pretrained is None:
        return ""
    parts = (
        ("The training began with the weights of", training.pretrained.initial_weights),
        ("Part of the loss was the divergence from the probabilities of", training.pretrained.teacher),
    )
    told = [
        f"{words} a ResNet-{network.depth} trained before (recipe `{network.recipe}`, {network.epochs} epochs, val "
        f"accuracy {network.val_accuracy:.2%}, the same validation images held out)."
        for words, network in parts
        if network
    ]
    return f"\n{' '.join(told)}\n" if told else ""


def changes_text(training: Training) -> str:
    """What the run has otherwise than its recipe, as flags."""
    flags = " ".join(f"`{change}`" for change in training.changes)
    return f" with {flags}" if flags else ""


def card_text(metrics: Metrics, config: Config) -> str:
    training = metrics.training
    split = training.split
    rows = "\n".join(
        f"| {name} | {s.n:,} | {s.accuracy:.2%} | {s.accuracy_interval[0]:.2%} to {s.accuracy_interval[1]:.2%} "
        f"| {s.loss:.4f} |"
        for name, s in (("val", metrics.val), ("test", metrics.test))
    )
    settings = "\n".join(f"| `{name}` | {value} |" for name, value in training.hyperparameters.items())
    return f"""# ResNet-{config.depth} on CIFAR-10

{training.parameters:,} parameters, shortcut option {config.shortcut}, {config.stem_kernel}x\
{config.stem_kernel} stem; He et al. 2015 ([arXiv 1512.03385](https://arxiv.org/abs/1512.03385)), section 4.2.

| split | images | accuracy | 95% interval | loss |
|---|---|---|---|---|
{rows}
{flip_text(metrics)}
Classes, in label order: {", ".join(config.class_names)}.

## How it was trained and selected

Recipe `{training.recipe}`{changes_text(training)}, \
{training.epochs} epochs on {split.train:,} images, seed {training.seed}, on \
{training.device} in {training.wall_seconds / 60:.0f} minutes. The weights are those of epoch \
{training.best_epoch}, the one with the highest accuracy on {split.val:,} validation images held out of the \
official training set. The test set was read once, after that choice. Temperature {config.temperature:.3f} was \
fitted on the validation images.
{pretrained_text(training)}
| setting | value |
|---|---|
{settings}

{confused_text(metrics.test.confusion_matrix, config.class_names)}

![Accuracy, loss and learning rate by epoch](figures/curves.png)
![Confusion matrix on the test images](figures/confusion_matrix.png)
![Accuracy of each class on the test images](figures/per_class.png)
![Confidence against accuracy, before and after temperature scaling](figures/reliability.png)

## Use

The input is RGB float32 in [0, 1], shape (N, 3, 32, 32); normalisation is inside the network. With
`pip install huggingface_hub numpy onnxruntime pillow` and nothing else:

```python
import json

import numpy as np
import onnxruntime
from huggingface_hub import hf_hub_download
from PIL import Image

with open(hf_hub_download("{REPO}", "config.json")) as file:
    config = json.load(file)
network = onnxruntime.InferenceSession(hf_hub_download("{REPO}", "model.onnx"))

picture = Image.open("picture.png").convert("RGB").resize((32, 32))
images = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255  # (32, 32, 3) -> (1, 3, 32, 32)
logits = network.run(["logits"], {{"images": images}})[0][0] / config["temperature"]
probabilities = np.exp(logits - logits.max())
probabilities /= probabilities.sum()
for k in probabilities.argsort()[::-1][:3]:
    print(f"{{config['class_names'][k]:12}}{{probabilities[k]:.1%}}")
```

With the project's source on the path, photos are also turned upright, cropped and shrunk with care, the files are
checked against each other, and nothing is downloaded twice:

```python
from PIL import Image

from model import Classifier

classifier = Classifier.load("{REPO}")  # or the folder that holds this file
for label, probability in classifier.predict(Image.open("picture.png"), top_k=3):
    print(f"{{label:12}}{{probability:.1%}}")
```

In PyTorch, to train it further (strict: every tensor must fit):

```python
from model.resnet import ResNet

network = ResNet.from_pretrained("{REPO}").train()
```

## Limits

- It knows {len(config.class_names)} classes. A picture of anything else still gets one of these names, often with \
a high probability: what a probability means holds for pictures like CIFAR-10's alone.{threshold_text(config)}
- It sees 32x32 pixels. What a person tells apart by detail is lost before the network looks.
- CIFAR-10's objects are large and in the middle. Photographs that are framed otherwise, drawings, and views that the \
training images lack are classified less well than the test accuracy suggests; how much less was not measured.
- The intervals above cover the choice of test images. Another seed gives another network.
"""


def threshold_text(config: Config) -> str:
    """A sentence on what `Classifier.is_in_distribution` tells; nothing where an older artifact lacks the threshold."""
    if config.threshold is None:
        return ""
    return (
        " `Classifier.is_in_distribution` says that a picture is probably none of them where its highest logit is "
        f"below {config.threshold:.3f}, which 95% of the validation images reach, but so do many pictures of other "
        "things."
    )


def confused_text(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> str:
    """The three mistakes that are made most often on the test images, in a sentence."""
    size = range(len(matrix))
    mistakes = sorted(((matrix[i][j], i, j) for i in size for j in size if i != j), key=lambda m: (-m[0], m[1:]))
    told = ", ".join(
        f"{class_names[i]} called {class_names[j]} ({count} of {sum(matrix[i])})" for count, i, j in mistakes[:3]
    )
    return f"Most frequent mistakes on the test images: {told}."
