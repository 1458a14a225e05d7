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
    scores = [
        f"{split} {flip.accuracy:.2%} ({flip.accuracy_interval[0]:.2%} to {flip.accuracy_interval[1]:.2%}), "
        f"loss {flip.loss:.4f}"
        for split, flip in (("val", metrics.val.flip_tta), ("test", metrics.test.flip_tta))
        if flip
    ]
    if not scores:
        return ""
    return (
        f"\nTest-time augmentation (horizontal flip, logits averaged): {'; '.join(scores)}. "
        "All other numbers are of the single view, which is what `Classifier` predicts.\n"
    )


def pretrained_text(training: Training) -> str:
    """Which networks took part in the training; nothing for a run from random weights without a teacher."""
    if training.pretrained is None:
        return ""
    parts = (
        ("Fine-tuned from", training.pretrained.initial_weights),
        ("Distilled from the teacher", training.pretrained.teacher),
    )
    sentences = [
        f"{words} ResNet-{network.depth} (recipe `{network.recipe}`, {network.epochs} epochs, val accuracy "
        f"{network.val_accuracy:.2%}, trained with the same validation images held out)."
        for words, network in parts
        if network
    ]
    return f"\n{' '.join(sentences)}\n" if sentences else ""


def changes_text(training: Training) -> str:
    """The overrides of the recipe, as flags."""
    flags = " ".join(f"`{change}`" for change in training.changes)
    return f" with the overrides {flags}" if flags else ""


def card_text(metrics: Metrics, config: Config) -> str:
    training, test = metrics.training, metrics.test
    split, (low, high) = training.split, test.accuracy_interval
    rows = "\n".join(
        f"| {name} | {s.n:,} | {s.accuracy:.2%} | {s.accuracy_interval[0]:.2%} to {s.accuracy_interval[1]:.2%} "
        f"| {s.loss:.4f} |"
        for name, s in (("val", metrics.val), ("test", test))
    )
    settings = "\n".join(f"| `{name}` | {value} |" for name, value in training.hyperparameters.items())
    return f"""# ResNet-{config.depth} on CIFAR-10

Classifies images into {len(config.class_names)} classes with {test.accuracy:.2%} test accuracy (95% CI {low:.2%} to \
{high:.2%}): {", ".join(config.class_names)}. {training.parameters:,} parameters, {config.stem_kernel}x\
{config.stem_kernel} stem, shortcut option {config.shortcut}, after He et al. 2015 \
([arXiv 1512.03385](https://arxiv.org/abs/1512.03385)), section 4.2.

## Use

The input is RGB float32 in [0, 1], shape (N, 3, 32, 32); normalisation is inside the network. With only
`pip install huggingface_hub numpy onnxruntime pillow`:

```python
import json

import numpy as np
import onnxruntime
from huggingface_hub import hf_hub_download
from PIL import Image

with open(hf_hub_download("{REPO}", "config.json")) as file:
    config = json.load(file)
network = onnxruntime.InferenceSession(hf_hub_download("{REPO}", "model.onnx"))

image = Image.open("image.png").convert("RGB").resize((32, 32))
images = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255  # (32, 32, 3) -> (1, 3, 32, 32)
logits = network.run(["logits"], {{"images": images}})[0][0] / config["temperature"]
probabilities = np.exp(logits - logits.max())
probabilities /= probabilities.sum()
for k in probabilities.argsort()[::-1][:3]:
    print(f"{{config['class_names'][k]:12}}{{probabilities[k]:.1%}}")
```

With the project's source, which also handles orientation, crop and antialiasing, verifies checksums and caches files:

```python
from PIL import Image

from model import Classifier

classifier = Classifier.load("{REPO}")  # or the folder that holds this file
for label, probability in classifier.predict(Image.open("image.png"), top_k=3):
    print(f"{{label:12}}{{probability:.1%}}")
```

In PyTorch, for fine-tuning (strict: every tensor must fit):

```python
from model.resnet import ResNet

network = ResNet.from_pretrained("{REPO}").train()
```

## Evaluation

| split | images | accuracy | 95% interval | loss |
|---|---|---|---|---|
{rows}
{flip_text(metrics)}
{confused_text(test.confusion_matrix, config.class_names)}

![Training curves: accuracy, loss and learning rate by epoch](figures/curves.png)
![Confusion matrix on the test images](figures/confusion_matrix.png)
![Per-class accuracy on the test images](figures/per_class.png)
![Reliability diagram, before and after temperature scaling](figures/reliability.png)

## Training

Recipe `{training.recipe}`{changes_text(training)}, \
{training.epochs} epochs on {split.train:,} images, seed {training.seed}, on \
{training.device} in {training.wall_seconds / 60:.0f} minutes. Model selection: epoch {training.best_epoch}, the \
highest accuracy on {split.val:,} validation images held out of the official training set. The test set was read once, \
after that. The temperature, {config.temperature:.3f}, was fitted on the validation images.
{pretrained_text(training)}
<details><summary>Hyperparameters</summary>

| setting | value |
|---|---|
{settings}

</details>

## Limitations

- Anything else is still assigned to one of the {len(config.class_names)} classes, often with high confidence: \
confidence is calibrated for images like CIFAR-10's only.{threshold_text(config)}
- Images are reduced to 32x32 pixels; details are lost before the network sees them.
- CIFAR-10's objects are large and centred. Expect lower accuracy on other photographs and on drawings; how much lower \
was not measured.
- The intervals cover the choice of test images. Another seed gives another network.
"""


def threshold_text(config: Config) -> str:
    """A sentence on `Classifier.is_in_distribution`; nothing where an older artifact lacks the threshold."""
    if config.threshold is None:
        return ""
    return (
        " `Classifier.is_in_distribution` reports an image whose highest logit is below the OOD threshold, "
        f"{config.threshold:.3f}. 95% of validation images reach it, but so do many out-of-distribution images."
    )


def confused_text(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> str:
    """The three most frequent errors on the test images, in a sentence."""
    size = range(len(matrix))
    errors = sorted(((matrix[i][j], i, j) for i in size for j in size if i != j), key=lambda m: (-m[0], m[1:]))
    pairs = ", ".join(
        f"{class_names[i]} predicted as {class_names[j]} ({count} of {sum(matrix[i])})" for count, i, j in errors[:3]
    )
    return f"Most frequent errors on the test images: {pairs}."
