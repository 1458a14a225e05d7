"""Networks that were trained before and take part in a training: the one it begins with, the one that teaches.

Both have seen images. Of networks that were trained on the same dataset only one with the same validation images held
out may take part: another one has learned some of them, and the accuracy on them would no longer tell how good the new
network is.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from model import artifact, hub
from model.artifact import PretrainedNetwork, Training
from model.resnet import ResNet, network_of
from model.schema import to_json
from trainer.config import PRETRAINED, RECIPES, ConfigError, TrainConfig, flag
from trainer.data import TrainingData
from trainer.run import log_and_print


@dataclass(frozen=True)
class Pretrained:
    """A network in eval mode, on the CPU, and what a run tells about it: `facts`, JSON values."""

    network: ResNet
    class_names: tuple[str, ...]
    facts: dict[str, Any]


def load_pretrained(config: TrainConfig, data: TrainingData) -> dict[str, Pretrained]:
    """Setting -> network, for those of `initial_weights` and `teacher` that are given.

    Raises ConfigError for a network that does not fit or has seen other images, ArtifactError for a damaged artifact,
    HubError where a repository cannot be had.
    """
    given = {name: getattr(config, name) for name in PRETRAINED if getattr(config, name) is not None}
    found = {name: _load(name, source, data) for name, source in given.items()}
    for name in ("depth", "stem_kernel", "shortcut") if "initial_weights" in found else ():
        is_there = getattr(found["initial_weights"].network.architecture, name)
        if getattr(config, name) != is_there:
            raise ConfigError(
                f"--initial-weights {config.initial_weights} has {flag(name)} {is_there}, not {getattr(config, name)}"
            )
    return found


def _load(name: str, source: str, data: TrainingData) -> Pretrained:
    trained, found = hub.find(source, files=(artifact.WEIGHTS, artifact.METRICS))
    training = trained.metrics.training
    if training.split.val_sha256 != data.split.val_sha256():
        check_other_images(f"{flag(name)} {source}", training, data)
    if name == "teacher" and trained.config.class_names != data.class_names:
        raise ConfigError(f"--teacher {source} has other classes than {data.dataset}")
    facts = PretrainedNetwork(
        recipe=training.recipe if training.recipe in RECIPES else "unknown",
        seed=training.seed,
        epochs=training.epochs,
        parameters=training.parameters,
        depth=trained.config.depth,
        val_accuracy=trained.metrics.val.accuracy,
        sha256=trained.config.sha256[artifact.WEIGHTS],
        source=str(found) if found.kind == "hub" else None,  # at its commit
    )
    return Pretrained(network_of(trained).requires_grad_(False), trained.config.class_names, to_json(facts))


def check_other_images(what: str, training: Training, data: TrainingData) -> None:
    """Raises ConfigError where a network that held out other validation images was trained on the dataset at hand. A
    folder is the same where all its images are, whatever it is called; where only its name is, a line says so. Of
    CIFAR-10 and in older artifacts there is the name alone."""
    before, now = training.split.images_sha256, images_sha256(data).get("images_sha256")
    if training.dataset == data.dataset if None in (before, now) else before == now:
        raise ConfigError(
            f"{what} was trained with other validation images than this run holds out: it may have learned some of "
            "them. Take a network that this program trained on the same data"
        )
    if training.dataset == data.dataset:
        log_and_print(
            f"{what} was trained on other images that are called {data.dataset}, too: if it has learned some of those "
            "that are held out now, the accuracy comes out too high"
        )


def images_sha256(data: TrainingData) -> dict[str, str]:
    """Of all images of a folder, whatever their parts and classes, for metrics.json; nothing of CIFAR-10."""
    content = sorted(each.partition(":")[2] for each in data.split.content)
    return {"images_sha256": hashlib.sha256(" ".join(content).encode()).hexdigest()} if content else {}


def start_from(network: ResNet, pretrained: Pretrained, class_names: tuple[str, ...]) -> None:
    """Gives `network` the weights of a trained one; where that has other classes, all but the last layer's. Mean and
    std stay those of the images at hand."""
    kept = ["mean", "std"]
    if pretrained.class_names != class_names:
        kept += [name for name in network.state_dict() if name.startswith("fc.")]
    own = {name: network.state_dict()[name] for name in kept}
    network.load_state_dict(pretrained.network.state_dict() | own)
