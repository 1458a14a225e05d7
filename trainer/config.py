"""One typed, frozen config for a training run, and the named recipes, which are values of it.

Imports neither torch nor Lightning, so that `python -m trainer --help` answers at once.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import PurePath
from typing import Any, Literal

from model.architecture import DEPTHS, is_depth


class ConfigError(ValueError):
    """A setting that does not exist or contradicts another; the message names the flag."""


PRETRAINED = ("initial_weights", "teacher")
"""Settings that name the artifact of an earlier run."""

GIVEN = "given"
"""In `only_with`: whatever the value, but not None."""


def setting(help: str, default: Any, only_with: tuple[str, str | bool] | None = None) -> Any:
    """A config field. `help` becomes the flag's help text.

    `only_with` = (field, value): the setting has a meaning only where that field has that value.
    """
    return field(default=default, metadata={"help": help, "only_with": only_with})


def flag(name: str) -> str:
    """The command-line flag of a config field: max_epochs -> --max-epochs."""
    return "--" + name.replace("_", "-")


def _is_range(pair: tuple[float, float]) -> bool:
    return 0 < pair[0] <= pair[1]


def _choices(annotation: Any) -> tuple[Any, ...]:
    return annotation.__args__ if getattr(annotation, "__origin__", None) is Literal else ()


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run computes. The defaults are the `default` recipe."""

    recipe: str = "default"

    depth: int = setting("Network depth: weighted layers, 6n+2.", 32)
    stem_kernel: Literal[1, 3] = setting(
        "Kernel size of the stem (first convolution): 3 in the paper, 1 in the report.", 3
    )
    shortcut: Literal["A", "B"] = setting(
        "Residual connection where the width doubles: A pads with zeros, B is a 1x1 convolution.", "A"
    )

    crop: Literal["pad", "resized"] = setting(
        "Random crop: 'pad' zero-pads and crops back to the image size, 'resized' is RandomResizedCrop.",
        "pad",
    )
    crop_padding: int = setting("Zero padding in pixels.", 4, only_with=("crop", "pad"))
    crop_scale: tuple[float, float] = setting(
        "Smallest and largest area of the crop, as a fraction of the image.", (0.8, 1.0), only_with=("crop", "resized")
    )
    crop_ratio: tuple[float, float] = setting(
        "Smallest and largest aspect ratio (width / height) of the crop.", (0.9, 1.1), only_with=("crop", "resized")
    )

    flip: Literal["random", "alternating"] = setting(
        "Horizontal flip: 'random' with probability 0.5, 'alternating' every other epoch of each image.",
        "random",
    )
    trivial_augment: bool = setting(
        "TrivialAugmentWide after the crop: one of 14 operations of a random strength.", False
    )
    cutout: int = setting("Side in pixels of the Cutout square that is blanked in every image; 0: off.", 0)
    erasing: float = setting("Probability of random erasing: a random rectangle of the image is blanked.", 0.0)
    mixup: float = setting(
        "Alpha of mixup: each image is blended with its neighbour in the batch, one lambda per batch; 0: off. With "
        "--cutmix, each batch uses one of the two at random.",
        0.0,
    )
    cutmix: float = setting("Alpha of CutMix; 0: off.", 0.0)

    max_epochs: int = setting("Passes over the training images. Schedules but plateau stretch to fit.", 50)
    max_steps: int | None = setting("Upper limit of optimizer steps, if it is below that of the epochs.", None)
    batch_size: int = setting(
        "Global batch size: all devices together, an equal shard each. So the learning rate does not depend on their "
        "number.",
        128,
    )
    learning_rate: float = setting("Peak learning rate of SGD, for the global batch.", 0.2)
    momentum: float = setting("Momentum of SGD.", 0.9)
    nesterov: bool = setting("Nesterov momentum.", True)
    label_smoothing: float = setting(
        "Fraction of each label that is spread over all classes in the training loss.", 0.0
    )
    weight_decay: float = setting("L2 penalty.", 5e-4)
    weight_decay_on: Literal["all", "weights"] = setting(
        "Parameters with weight decay: all, or only the weights of convolutions and the linear layer, without biases "
        "and batch normalisation.",
        "all",
    )
    ema_decay: float = setting(
        "Decay per step of the exponential moving average (EMA) of the weights that is validated and exported; 0: off.",
        0.0,
    )
    initial_weights: str | None = setting(
        "Artifact folder, or USER/REPO of the Hub, whose weights are fine-tuned instead of random ones.", None
    )
    teacher: str | None = setting(
        "Artifact folder, or USER/REPO of the Hub, whose network is the teacher of a distillation: part of the loss is "
        "the KL divergence to its softened probabilities.",
        None,
    )
    teacher_weight: float = setting(
        "Weight of the distillation loss; the rest is the loss from the labels.",
        0.9,
        only_with=("teacher", GIVEN),
    )
    teacher_temperature: float = setting(
        "Distillation temperature: divides the logits of both networks in the KL divergence.",
        4.0,
        only_with=("teacher", GIVEN),
    )
    schedule: Literal["cosine", "plateau", "steps"] = setting(
        "Learning rate: 'cosine' warms up linearly, then decays to 0 along a cosine, per step; "
        "'plateau' is ReduceLROnPlateau on the val loss; 'steps' decays at two milestones.",
        "cosine",
    )
    warmup_fraction: float = setting(
        "Fraction of all steps for the linear warm-up.", 0.1, only_with=("schedule", "cosine")
    )
    plateau_factor: float = setting(
        "Factor by which ReduceLROnPlateau multiplies the learning rate.", 0.1, only_with=("schedule", "plateau")
    )
    plateau_patience: int = setting(
        "Patience of ReduceLROnPlateau: epochs without a lower val loss that it tolerates.",
        5,
        only_with=("schedule", "plateau"),
    )

    milestones: tuple[float, float] = setting(
        "When the learning rate decays, as fractions of all steps.", (0.5, 0.75), only_with=("schedule", "steps")
    )
    milestone_factor: float = setting("Factor of each decay.", 0.1, only_with=("schedule", "steps"))

    seed: int = setting(
        "Random seed of weights, data order and augmentation. The train/val split never depends on it.", 0
    )
    train_images: int | None = setting(
        "Train on a stratified subset of this many of the 45,000 images, for trials.", None
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto: CUDA, else MPS, else the CPU.", "auto")
    devices: int = setting(
        "GPUs (or CPU processes) per machine, distributed data parallel: each processes a shard of every batch. Batch "
        "normalisation is per device. Leave it out under torchrun.",
        1,
    )
    num_nodes: int = setting("Number of machines (nodes).", 1)
    precision: Literal["auto", "32-true", "bf16-mixed"] = setting(
        "auto: bf16-mixed on GPUs from 2020 on and on CPUs with AMX, else 32-true (bf16 is far slower on others). "
        "32-true has TF32 convolutions on CUDA, as is PyTorch's default.",
        "auto",
    )
    compile: bool = setting("torch.compile the network: faster steps after a minute of compiling.", False)
    cuda_graphs: bool = setting(
        "Replay the compiled network as CUDA graphs: helps if steps are short.", False, only_with=("compile", True)
    )
    deterministic: bool = setting(
        "Deterministic algorithms only. Slower on CUDA; the CPU is deterministic without it.", False
    )

    def __post_init__(self):
        for name, ok, allowed in (
            ("depth", is_depth(self.depth), DEPTHS),
            ("crop_padding", 0 <= self.crop_padding <= 16, "from 0 to 16 pixels"),
            (
                "crop_scale",
                _is_range(self.crop_scale) and self.crop_scale[1] <= 1,
                "two parts in (0, 1], smaller first",
            ),
            ("crop_ratio", _is_range(self.crop_ratio), "two positive numbers, smaller first"),
            ("cutout", 0 <= self.cutout <= 32, "from 0 to 32 pixels"),
            ("erasing", 0 <= self.erasing <= 1, "in [0, 1]"),
            ("mixup", self.mixup >= 0, "0 or more"),
            ("cutmix", self.cutmix >= 0, "0 or more"),
            ("max_epochs", self.max_epochs >= 1, "1 or more"),
            ("max_steps", self.max_steps is None or self.max_steps >= 1, "1 or more"),
            ("devices", self.devices >= 1, "1 or more"),
            ("num_nodes", self.num_nodes >= 1, "1 or more"),
            (
                "batch_size",
                self.batch_size >= 2 * self.world_size and self.batch_size % self.world_size == 0,
                "2 or more (batch normalisation needs two images)"
                if self.world_size == 1
                else f"a multiple of the {self.world_size} devices, with 2 images or more for each",
            ),
            ("learning_rate", self.learning_rate > 0, "a positive number"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("nesterov", self.momentum > 0 or not self.nesterov, "off where --momentum is 0"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)"),
            ("teacher_weight", 0 < self.teacher_weight <= 1, "in (0, 1]"),
            ("teacher_temperature", self.teacher_temperature > 0, "a positive number"),
            ("warmup_fraction", 0 <= self.warmup_fraction < 1, "in [0, 1)"),
            ("plateau_factor", 0 < self.plateau_factor < 1, "in (0, 1)"),
            ("plateau_patience", self.plateau_patience >= 0, "0 or more epochs"),
            (
                "milestones",
                0 < self.milestones[0] <= self.milestones[1] <= 1,
                "two parts in (0, 1], smaller first",
            ),
            ("milestone_factor", 0 < self.milestone_factor < 1, "in (0, 1)"),
            ("seed", 0 <= self.seed < 2**32, "from 0 to 4294967295"),
            ("train_images", self.train_images is None or self.train_images >= 2, "2 or more"),
        ):
            if not ok:
                raise ConfigError(f"{flag(name)} is {getattr(self, name)}; it must be {allowed}")
        for f in fields(self):
            if choices := _choices(f.type):
                if getattr(self, f.name) not in choices:
                    raise ConfigError(
                        f"{flag(f.name)} is {getattr(self, f.name)!r}; it must be one of {', '.join(map(str, choices))}"
                    )

    @property
    def world_size(self) -> int:
        """Processes that train together, one per device."""
        return max(1, self.devices) * max(1, self.num_nodes)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Steps of the whole run; the last epoch is cut short where `max_steps` ends in it."""
        steps = steps_per_epoch * self.max_epochs
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def total_epochs(self, steps_per_epoch: int) -> int:
        """Epochs of the whole run; the last may be cut short."""
        return math.ceil(self.total_steps(steps_per_epoch) / steps_per_epoch)

    def applies(self, name: str) -> bool:
        """Whether the setting has a meaning in this config (see `setting`)."""
        other, needed = self.__dataclass_fields__[name].metadata.get("only_with") or (None, None)
        if other is None:
            return True
        value = getattr(self, other)
        return value is not None if needed == GIVEN else value == needed

    def hyperparameters(self) -> dict[str, Any]:
        """The settings that have a meaning in this config, as plain JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if self.applies(name)
        }

    @classmethod
    def from_hyperparameters(cls, values: dict[str, Any]) -> "TrainConfig":
        """The inverse of `hyperparameters`. Raises ConfigError for an unknown name."""
        unknown = sorted(values.keys() - {f.name for f in fields(cls)})
        if unknown:
            raise ConfigError(f"the stored config holds unknown settings: {', '.join(unknown)}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


RECIPES = {
    "default": TrainConfig(),
    # The course report this project began with: val 87.16%, test 86.77%. It leaves open the shortcut and what the
    # plateau watches; shortcut B, val loss, factor 0.1 and patience 5 are our choice.
    "report": TrainConfig(
        recipe="report",
        stem_kernel=1,
        shortcut="B",
        crop="resized",
        max_epochs=50,
        batch_size=128,
        learning_rate=0.1,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        schedule="plateau",
    ),
    # He et al. 2015, section 4.2: 64,000 steps, a tenth of the rate at 32,000 and at 48,000. 183 epochs of 351 steps
    # are a little more; --max-epochs N with a smaller N moves both milestones in proportion.
    "paper": TrainConfig(
        recipe="paper",
        max_epochs=183,
        max_steps=64_000,
        batch_size=128,
        learning_rate=0.1,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        schedule="steps",
        milestones=(0.5, 0.75),
        milestone_factor=0.1,
    ),
    # For the highest accuracy whatever the epochs: after vgripon/SOTA-routine on GitHub, which names 94.65% for
    # ResNet-20 with batch 128 and 750,000 steps, which are 1,920 epochs of 50,000 images. Its average moves every 32
    # steps, ours at each.
    "record": TrainConfig(
        recipe="record",
        trivial_augment=True,
        erasing=0.1,
        mixup=0.2,
        cutmix=1.0,
        max_epochs=1920,
        batch_size=128,
        learning_rate=0.5,
        nesterov=False,
        label_smoothing=0.1,
        weight_decay=2e-5,
        weight_decay_on="weights",
        ema_decay=0.999,
        warmup_fraction=5 / 1920,
    ),
}


def configure(recipe: str, overrides: dict[str, Any]) -> TrainConfig:
    """The recipe with some settings replaced. Raises ConfigError for one that is unknown or would have no effect."""
    if recipe not in RECIPES:
        raise ConfigError(f"--recipe is {recipe!r}; it must be one of {', '.join(RECIPES)}")
    config = replace(RECIPES[recipe], **overrides)
    for name in overrides:
        if not config.applies(name):
            other, needed = config.__dataclass_fields__[name].metadata["only_with"]
            if needed == GIVEN:
                raise ConfigError(
                    f"{flag(name)} has no effect without {flag(other)}: leave it out or add {flag(other)}"
                )
            raise ConfigError(
                f"{flag(name)} has no effect with {as_flag(other, getattr(config, other))}: "
                f"leave it out or add {as_flag(other, needed)}"
            )
    return config


def as_flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return flag(name if value else f"no_{name}")
    return f"{flag(name)} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"


MACHINE = {"device", "devices", "num_nodes", "precision", "compile", "cuda_graphs", "deterministic"}
"""Settings that change where and how fast a run computes, not what."""


def changed(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """The stored settings that differ from their recipe as it is today, but for MACHINE."""
    config = TrainConfig.from_hyperparameters(hyperparameters)
    recipe = RECIPES[config.recipe]
    return {
        name: getattr(config, name)
        for name in config.hyperparameters()
        if name not in MACHINE and getattr(config, name) != getattr(recipe, name)
    }


def published(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """The stored settings as they may leave this machine: of a path that leads through its folders, the name alone."""
    shown = dict(hyperparameters)
    for name in PRETRAINED:
        if (value := shown.get(name)) is not None:
            path = PurePath(value)
            shown[name] = path.name if path.is_absolute() or ".." in path.parts else value
    return shown


def torchrun_devices(environment: Mapping[str, str], given: dict[str, Any]) -> dict[str, int]:
    """The settings `devices` and `num_nodes` of a process that torchrun started; none for any other.

    Raises ConfigError where `given`, the settings from flags, say otherwise.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        return {}
    devices = int(environment["LOCAL_WORLD_SIZE"])
    launched = {"devices": devices, "num_nodes": int(environment["WORLD_SIZE"]) // devices}
    for name, value in launched.items():
        if given.get(name, value) != value:
            raise ConfigError(f"{flag(name)} is {given[name]}, but torchrun started {value}: leave the flag out")
    return launched
