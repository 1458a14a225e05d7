"""The artifact folder: the one thing that the trainer hands to the app, as types. docs/architecture.md lists its files.

Reading is strict: a folder that is not exactly what its config.json says is refused with one sentence. Fields that the
types lack are ignored, so that an older page reads what a newer trainer wrote. Needs numpy only.
"""

import csv
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from model import cifar10, schema
from model.architecture import Architecture
from model.schema import Check, Plain, between, length

FORMAT_VERSION = 1

WEIGHTS = "model.safetensors"
GRAPH = "model.onnx"
CONFIG = "config.json"
METRICS = "metrics.json"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
CARD = "README.md"
FIGURES = "figures"
SAMPLES = "samples"
TENSORBOARD = "tensorboard"

HISTORY_COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "seconds",
    "images_per_second",
)

IMAGE_SIZES = range(32, 129, 16)
"""Sides in pixels of the images that a network may take."""

CHECKSUMMED = (WEIGHTS, GRAPH, METRICS, HISTORY, PREDICTIONS)
"""Files whose sha256 the writer puts into config.json. GRAPH is for other people's tools, and never read here."""

SERVING = (WEIGHTS, METRICS, HISTORY, PREDICTIONS)
"""The files that the page and `Classifier` need: present and unaltered, or the folder is refused."""

SAMPLE_FILES = ("samples/samples.json", "samples/test.png", "samples/mistakes.png")
"""What the page shows of the test set where an artifact has it; without checksums."""

MAX_PARAMETERS = 20_000_000
"""Of a network that is loaded: the paper's deepest has 19.4 million."""

MAX_CONFIG_BYTES = 65_536
MAX_METRICS_BYTES = 1_000_000
"""The bundled model's has 18 kB, one of 100 classes some 300 kB."""
MAX_TABLE_BYTES = 8_000_000
"""Of history.csv and predictions.csv each; the bundled model's larger one has 0.3 MB."""

LOGITS_TOLERANCE = 1e-3
"""Largest difference between `expected_logits` and what a machine's ONNX Runtime answers. Measured: below 1e-5."""

LARGE_LOGIT = 30.0
"""Networks that learned something stay below; from here on tolerances grow with the logits, because float32 has seven
digits. After a few steps at too high a learning rate a network had logits up to 1,800; two engines differed by 5e-4."""


class ArtifactError(ValueError):
    """A folder is not a complete, unaltered artifact; the message names the file and says what to do."""


Text = Annotated[str, length(0, 200)]
Count = Annotated[int, between(0, 1e12)]
Positive = Annotated[int, between(1, 1e12)]
NonNegative = Annotated[float, between(0, 1e9)]
Fraction = Annotated[float, between(0, 1)]
Open = Annotated[
    dict[str, Plain],
    Check(lambda values: len(values) <= 200 and all(len(name) <= 200 for name in values), "up to 200 short names"),
]
Triple = tuple[float, float, float]
"""A number per channel: R, G, B."""

JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Persian, Hindi and joined emoji need them."""

ClassName = Annotated[
    str,
    # Plain text: also what draws it without escaping it shows no markup.
    Check(
        lambda name: 0 < len(name) <= 64 and name.translate(JOINERS).isprintable() and not set('<>&"`') & set(name),
        "a short name",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Versioned:
    """The first field that is looked at: a file of another format is refused for that, not for what it lacks."""

    format_version: Literal[1]


@dataclass(frozen=True, kw_only=True)
class Config(Architecture, Versioned):
    """config.json: what determines the network beside its weights, and how its answers are read.

    temperature       probabilities are softmax(logits / temperature)
    threshold         the highest logit that 95% of the val images reach: an image below it is probably none of the
                      classes. Older artifacts lack it.
    expected_logits   the network's answer to `probe_image`
    image_size        pixels along each side of its input
    fit               how an image that is not square becomes one; see `model.preprocess`
    sha256            name -> digest of the files in CHECKSUMMED
    """

    num_classes: Annotated[int, between(2, 100)]
    class_names: tuple[ClassName, ...]
    image_size: Annotated[int, Check(lambda size: size in IMAGE_SIZES, "32 to 128 in steps of 16")]
    temperature: Annotated[float, between(0.01, 100)]
    expected_logits: tuple[float, ...]
    threshold: float | None = None
    fit: Literal["crop", "pad", "stretch"] = "crop"
    sha256: dict[str, Text]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("class_names", "expected_logits"):
            if len(getattr(self, name)) != self.num_classes:
                raise ValueError(f"it has {len(getattr(self, name))} {name} for num_classes {self.num_classes}")
        if len(set(self.class_names)) != self.num_classes:
            raise ValueError("it has a class name twice")
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(f"a network of {self.parameters:,} parameters; {MAX_PARAMETERS:,} are allowed")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracy and loss on `n` images.

    accuracy_interval   95%, Wilson 1927
    loss                mean cross-entropy of the uncalibrated logits, in nats
    """

    n: Positive
    correct: Count
    accuracy: Fraction
    accuracy_interval: tuple[Fraction, Fraction]
    loss: NonNegative

    def __post_init__(self) -> None:
        if abs(self.correct / self.n - self.accuracy) > 1e-9:
            raise ValueError("its accuracy is not correct / n")
        low, high = self.accuracy_interval
        if not low - 1e-9 <= self.accuracy <= high + 1e-9:
            raise ValueError("its accuracy is not within its accuracy_interval")


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The images whose confidence lies in (lower, upper]: how many, their mean confidence and their accuracy, both None
    where there is no image."""

    lower: Fraction
    upper: Fraction
    n: Count
    confidence: Fraction | None
    accuracy: Fraction | None

    def __post_init__(self) -> None:
        if self.lower >= self.upper:
            raise ValueError("its lower is not below its upper")
        if self.n and None in (self.confidence, self.accuracy):
            raise ValueError("it has images, but no confidence or accuracy")


Bins = Annotated[tuple[Bin, ...], length(1, 100)]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Confidence against accuracy, before and after the logits are divided by the temperature.

    ece_before, ece_after   expected calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599)
    loss_after              as `Scores.loss`, of the calibrated logits
    """

    ece_before: Fraction
    ece_after: Fraction
    loss_after: NonNegative
    bins_before: Bins
    bins_after: Bins


@dataclass(frozen=True, kw_only=True)
class SplitScores(Scores):
    """All scores on val or test.

    per_class_accuracy   in label order; 0 where a class has no image
    confusion_matrix     counts, row: true label, column: predicted
    flip_tta             the same for the mean of the logits of the image and of its mirror image. All other numbers are
                         of the single view. Older artifacts lack it.
    """

    per_class_accuracy: tuple[Fraction, ...]
    confusion_matrix: tuple[tuple[Count, ...], ...]
    calibration: Calibration
    flip_tta: Scores | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        matrix, classes = self.confusion_matrix, len(self.per_class_accuracy)
        if len(matrix) != classes or any(len(row) != classes for row in matrix):
            raise ValueError(f"its confusion_matrix is not {classes} by {classes}, as per_class_accuracy is long")
        if sum(map(sum, matrix)) != self.n or sum(matrix[i][i] for i in range(classes)) != self.correct:
            raise ValueError("its confusion_matrix does not add up to n and correct")
        shares = (row[i] / max(1, sum(row)) for i, row in enumerate(matrix))
        if any(abs(a - b) > 1e-9 for a, b in zip(self.per_class_accuracy, shares, strict=True)):
            raise ValueError("its per_class_accuracy is not that of its confusion_matrix")
        for name in ("bins_before", "bins_after"):
            if sum(part.n for part in getattr(self.calibration, name)) != self.n:
                raise ValueError(f"its calibration.{name} do not add up to n")
        if self.flip_tta is not None and self.flip_tta.n != self.n:
            raise ValueError("its flip_tta.n is not n")

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the accuracies of those classes that have images: it weighs a rare class as a frequent one."""
        found = [a for a, row in zip(self.per_class_accuracy, self.confusion_matrix, strict=True) if sum(row)]
        return sum(found) / len(found)


@dataclass(frozen=True, kw_only=True)
class Split:
    """How many images each part had, and which: `sha256` is of the train/val split, `val_sha256` of its val part,
    `images_sha256` of all images of a folder, whatever their part; older artifacts lack the latter two."""

    train: Count
    val: Count
    test: Count
    seed: Count
    sha256: Text | None = None
    val_sha256: Text | None = None
    images_sha256: Text | None = None


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A later part of an interrupted run."""

    started: Text
    device: Text
    precision: Text
    versions: Open
    git_commit: Text | None


@dataclass(frozen=True, kw_only=True)
class PretrainedNetwork:
    """A network that was trained before and took part in a run. `source`: repository and commit, of the Hub alone."""

    recipe: Text
    seed: Count
    epochs: Count
    parameters: Count
    depth: Count
    val_accuracy: Fraction
    sha256: Text
    source: Text | None = None


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The networks that a run began with and learned from."""

    initial_weights: PretrainedNetwork | None = None
    teacher: PretrainedNetwork | None = None


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """In bytes; None: not known, or no device beside the host."""

    host: Count | None
    device: Count | None


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the network was trained.

    changes             flags for what differs from the recipe, seed and machine aside
    dataset             its name; older artifacts, which lack it, are all of CIFAR-10
    hyperparameters     every setting of the trainer that has a meaning in this run
    wall_seconds        of the training with everything around it
    images_per_second   of its steps alone, without the first epoch, which may compile
    mean, std           of the train images, per channel, of pixels in [0, 1]
    """

    recipe: Text
    changes: tuple[Annotated[str, length(0, 1000)], ...] = ()
    hyperparameters: Open
    seed: Count
    epochs: Count
    best_epoch: Count
    selected_by: Text
    wall_seconds: NonNegative
    images_per_second: NonNegative
    peak_memory_bytes: PeakMemory | None = None
    pretrained: Pretrained | None = None
    device: Text
    precision: Text
    versions: Open
    git_commit: Text | None
    started: Text
    resumed: tuple[Resumed, ...] = ()
    dataset: Text = cifar10.NAME
    split: Split
    parameters: Count
    mean: Triple | None = None
    std: Triple | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.best_epoch <= self.epochs:
            raise ValueError("its best_epoch is none of its epochs")


@dataclass(frozen=True, kw_only=True)
class Metrics(Versioned):
    """metrics.json."""

    val: SplitScores
    test: SplitScores
    training: Training


@dataclass(frozen=True)
class Artifact:
    """A validated artifact folder; `metrics` is None where it was not asked for."""

    folder: Path
    config: Config
    metrics: Metrics | None


def is_cifar10(class_names: Sequence[str], metrics: Metrics) -> bool:
    """Whether the network was trained on CIFAR-10: only then are its test images and published results of interest."""
    return metrics.training.dataset == cifar10.NAME and tuple(class_names) == cifar10.CLASS_NAMES


CIFAR10_TITLE = "CIFAR-10 image classifier"


def title(config: Config, metrics: Metrics) -> str:
    """What a page that serves the network is called."""
    if is_cifar10(config.class_names, metrics):
        return CIFAR10_TITLE
    dataset = metrics.training.dataset
    return "Image classifier" if dataset == cifar10.NAME else f"Image classifier: {dataset}"  # else: not known


def probe_image(size: int = 32) -> np.ndarray:
    """The computed image for `expected_logits`: float32 (1, 3, size, size) in [0, 1], multiples of 1/255."""
    position = np.arange(3 * size * size)
    return ((position * 7 + position // size * 13) % 256 / 255).astype(np.float32).reshape(1, 3, size, size)


def read(folder: str | Path, files: Sequence[str] = SERVING) -> Artifact:
    """Reads config.json, checks it and `files` against it.

    Nothing is read before its size was found to be within `max_bytes`. Raises ArtifactError, also for what cannot be
    read.
    """
    folder = Path(folder)
    try:
        return _read(folder, files)
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be read ({error.strerror or type(error).__name__})") from None


def _read(folder: Path, files: Sequence[str]) -> Artifact:
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder: name an artifact folder, as `python -m trainer` writes it")
    missing = [name for name in (CONFIG, *files) if not (folder / name).is_file()]
    if missing:
        raise ArtifactError(
            f"{folder} lacks {', '.join(missing)}: an artifact is complete or not used; export it again"
        )
    config = read_config(folder / CONFIG)
    for name in files:
        if name not in config.sha256:
            raise ArtifactError(f"{folder / CONFIG} has no sha256 of {name}; export the artifact again")
        check_size(folder / name, (folder / name).stat().st_size, max_bytes(config, name))
        if sha256(folder / name) != config.sha256[name]:
            raise ArtifactError(f"{folder / name} is damaged or altered (its sha256 differs from config.json's)")
    metrics = read_metrics(folder / METRICS, config) if METRICS in files else None
    history = read_history(folder) if HISTORY in files else None
    if metrics and history and len(history) != metrics.training.epochs:
        raise ArtifactError(f"{folder / HISTORY} has {len(history)} epochs, metrics.json {metrics.training.epochs}")
    return Artifact(folder, config, metrics)


def read_config(path: Path) -> Config:
    """A checked config.json. Raises ArtifactError."""
    check_size(path, path.stat().st_size, MAX_CONFIG_BYTES)
    return _parse(Config, path)


def read_metrics(path: Path, config: Config) -> Metrics:
    """A checked metrics.json of the network of `config`. Raises ArtifactError."""
    metrics = _parse(Metrics, path)
    classes, training = config.num_classes, metrics.training
    for name, scores in (("val", metrics.val), ("test", metrics.test)):
        if len(scores.confusion_matrix) != classes:
            raise ArtifactError(f"{path} has a {name}.confusion_matrix that is not {classes} by {classes}")
        if scores.n != getattr(training.split, name):
            raise ArtifactError(f"{path} has a {name}.n that is not training.split.{name}")
    if training.parameters != config.parameters:
        raise ArtifactError(f"{path} has training.parameters {training.parameters:,}; there are {config.parameters:,}")
    return metrics


def max_bytes(config: Config, name: str) -> int:
    """How large a file may be for a checked config.json. The weights have their numbers, a header of 110 to 150 bytes
    per tensor, and perhaps a note; the graph has fewer tensors."""
    if name not in (WEIGHTS, GRAPH):
        return MAX_METRICS_BYTES if name == METRICS else MAX_TABLE_BYTES
    return sum(math.prod(shape) * np.dtype(dtype).itemsize + 256 for shape, dtype in config.tensors().values()) + 65_536


def check_size(path: Path | str, found: int, limit: int) -> None:
    """Raises ArtifactError where a file has more bytes than it may."""
    if found > limit:
        raise ArtifactError(f"{path} has {found:,} bytes; for what config.json describes, {limit:,} are allowed")


def read_history(folder: Path) -> list[dict[str, float]]:
    """The rows of history.csv, one per epoch, as numbers. Raises ArtifactError."""
    path = folder / HISTORY
    try:
        table = read_table(path, HISTORY_COLUMNS)
        intact = table[:, 0].tolist() == list(range(1, len(table) + 1))
    except (OSError, ValueError):
        intact = False
    if not intact:
        raise ArtifactError(f"{path} is not one row of finite numbers per epoch, with the columns {HISTORY_COLUMNS}")
    return [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in table.tolist()]


def read_table(path: Path, columns: Sequence[str]) -> np.ndarray:
    """float64 (rows, columns), at least one row. Raises OSError, or ValueError unless it is a CSV file of these columns
    and of numbers between -1e9 and 1e9."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
    except csv.Error as error:
        raise ValueError(str(error)) from None
    table = np.array(rows, np.float64)  # raises ValueError where rows differ in length, or a cell is no number
    if tuple(head) != tuple(columns) or table.shape[1:] != (len(columns),) or not (np.abs(table) <= 1e9).all():
        raise ValueError("other columns or numbers")  # NaN is never <=
    return table


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Writes metrics.json. Raises ArtifactError for a value that its type does not allow."""
    _write(folder / METRICS, metrics)


def write_checksums(folder: Path, config: Config) -> None:
    """Writes config.json with the digests of the files in `folder`: the last step of an export. Raises ArtifactError
    for a value that its type does not allow."""
    digests = {name: sha256(folder / name) for name in CHECKSUMMED if (folder / name).is_file()}
    _write(folder / CONFIG, replace(config, sha256=digests))


def _write(path: Path, value: Config | Metrics) -> None:
    written = schema.to_json(value)
    try:
        schema.parse(type(value), written)
    except schema.Invalid as error:
        raise ArtifactError(f"{path} is not written: it {error}") from None
    write_json(path, written)


def write_json(path: Path, value: Any) -> None:
    """Strict JSON: NaN and infinity are refused, because no reader but Python's takes them."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_answer(path: Path, config: Config, logits: np.ndarray) -> None:
    """Raises ArtifactError unless `logits` (1, classes) are the expected ones of `probe_image`: a wrong or damaged
    network is refused before it answers anybody. `path`: of its weights."""
    if not agrees(logits, np.asarray([config.expected_logits], np.float32)):
        raise ArtifactError(f"{path} does not answer as config.json expects: it is another network or damaged")


def agrees(logits: np.ndarray, expected: np.ndarray, tolerance: float = LOGITS_TOLERANCE) -> bool:
    """Whether both have the same shape and differ by `tolerance` at most, or in proportion where the largest expected
    logit is beyond LARGE_LOGIT; never where there is a NaN or an infinity."""
    if logits.shape != expected.shape or not np.isfinite(expected).all():
        return False
    allowed = tolerance * max(1.0, np.abs(expected).max(initial=0) / LARGE_LOGIT)
    return bool((np.abs(logits - expected) <= allowed).all())


def _parse(kind: type, path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair, which JSON can hold, is no text
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON ({error})") from None
    try:
        return schema.parse(kind, value)
    except schema.Invalid as error:
        raise ArtifactError(f"{path} {error}; export the artifact again with `python -m trainer export`") from None
    except RecursionError:
        raise ArtifactError(f"{path} is nested too deeply; export the artifact again") from None
