"""The model card: what the Hub shows of an artifact. Its text is card.md.j2. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from model.artifact import Config, Metrics, Pretrained, PretrainedNetwork, Training, is_cifar10

REPO = "USER/REPO"
"""Stands in the card for the repository, whose name is not known before `publish` puts it there."""


def write_card(metrics: Metrics, config: Config, path: Path) -> None:
    """The model card: front matter that the Hub reads, then prose. Every number comes from `metrics`."""
    test = metrics.test
    card = ModelCard.from_template(
        card_data(metrics, config),
        template_path=str(Path(__file__).with_name("card.md.j2")),
        repo=REPO,
        cifar10=is_cifar10(config.class_names, metrics),
        per_class=list(zip(config.class_names, map(sum, test.confusion_matrix), test.per_class_accuracy, strict=True)),
        config=config,
        training=metrics.training,
        test=test,
        splits={"val": metrics.val, "test": metrics.test},
        networks=networks(metrics.training),
        confused=confused_text(test.confusion_matrix, config.class_names),
    )
    path.write_text(f"{card}\n", "utf-8")


def card_data(metrics: Metrics, config: Config) -> ModelCardData:
    dataset, cifar10 = metrics.training.dataset, is_cifar10(config.class_names, metrics)
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="cifar10" if cifar10 else "imagefolder",
            dataset_name=f"{dataset} {split} (n = {scores.n})",
            dataset_split={"val": "train" if cifar10 else "validation", "test": "test"}[split],
            metric_type="accuracy",
            metric_name=f"{split} accuracy",
            metric_value=round(scores.accuracy, 4),
        )
        for split, scores in (("val", metrics.val), ("test", metrics.test))
    ]
    return ModelCardData(
        language=None,
        license="mit" if cifar10 else None,  # of other images, their owner decides
        library_name="onnx",
        pipeline_tag="image-classification",
        datasets=["cifar10"] if cifar10 else None,
        metrics=["accuracy"],
        tags=["resnet", *["cifar10"] * cifar10, "pytorch", "onnx"],
        model_name=f"ResNet-{config.depth}",
        eval_results=results,
    )


def networks(training: Training) -> list[tuple[PretrainedNetwork | None, str]]:
    """Those that took part in the training, and in what way."""
    found = training.pretrained or Pretrained()
    return [(found.initial_weights, "Fine-tuned from"), (found.teacher, "Distilled from the teacher")]


def confused_text(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> str:
    """The three most frequent errors on the test images, in a sentence."""
    size = range(len(matrix))
    errors = [(matrix[i][j], i, j) for i in size for j in size if i != j and matrix[i][j]]
    errors.sort(key=lambda error: (-error[0], error[1:]))
    pairs = ", ".join(
        f"{class_names[i]} predicted as {class_names[j]} ({count} of {sum(matrix[i])})" for count, i, j in errors[:3]
    )
    return f"Most frequent errors on the test images: {pairs}." if errors else "There is no error on the test images."
