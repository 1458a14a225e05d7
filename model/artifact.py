"""The artifact folder: the one thing the trainer hands to the app. docs/architecture.md lists its files and schemas.

Reading is strict: a folder that is not exactly what its config.json says is refused with one sentence.
Needs numpy only.
"""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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

SEALED = (WEIGHTS, GRAPH, METRICS, HISTORY, PREDICTIONS)
"""Files whose sha256 stands in config.json: present and unaltered, or the folder is refused."""

SERVING = (GRAPH, METRICS, HISTORY, PREDICTIONS)
"""The sealed files that the page and `Classifier` need."""

SAMPLE_FILES = ("samples/samples.json", "samples/test.png", "samples/mistakes.png")
"""What the page shows of the test set where an artifact has it; not sealed."""

ARCHITECTURE = ("depth", "stem_kernel", "shortcut", "num_classes")
"""Keys of config.json that are arguments of `model.resnet.ResNet`. Its mean and std are among the weights."""

MAX_PARAMETERS = 20_000_000
"""Of a network that is loaded: the paper's deepest, 1,202 layers, has 19.4 million."""

MAX_CONFIG_BYTES = 65_536
MAX_TEXT_BYTES = 8_000_000
"""Of metrics.json, history.csv and predictions.csv each; the bundled model's largest has 0.3 MB."""

LOGITS_TOLERANCE = 1e-3
"""Largest difference between `expected_logits` and what a machine's ONNX Runtime answers. Measured: below 1e-5."""

LARGE_LOGIT = 30.0
"""Networks that learned something stay below; from here on tolerances grow with the logits, because float32 has seven
digits. After a few steps at too high a learning rate a network had logits up to 1,800; two engines differed by 5e-4."""


class ArtifactError(ValueError):
    """A folder is not a complete, unaltered artifact; the message names the file and says what to do."""


@dataclass(frozen=True)
class Artifact:
    """A validated artifact folder and its two JSON files."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]


def probe_image() -> np.ndarray:
    """The computed picture for `expected_logits`: float32 (1, 3, 32, 32) in [0, 1], multiples of 1/255."""
    position = np.arange(3 * 32 * 32)
    return ((position * 7 + position // 32 * 13) % 256 / 255).astype(np.float32).reshape(1, 3, 32, 32)


def read(folder: str | Path, files: Sequence[str] = SEALED) -> Artifact:
    """Reads config.json, checks it and `files` against it; the artifact's metrics are {} where `files` leaves them out.

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
        check_size(folder / name, (folder / name).stat().st_size, max_bytes(config, name))
        if sha256(folder / name) != config["sha256"][name]:
            raise ArtifactError(f"{folder / name} is damaged or altered (its sha256 differs from config.json's)")
    metrics = {}
    if METRICS in files:
        metrics = _read_json(folder / METRICS)
        check_metrics(metrics, config["num_classes"], folder / METRICS)
    if HISTORY in files:
        read_history(folder)
    return Artifact(folder, config, metrics)


def read_config(path: Path) -> dict[str, Any]:
    """A checked config.json. Raises ArtifactError."""
    check_size(path, path.stat().st_size, MAX_CONFIG_BYTES)
    config = _read_json(path)
    check_config(config, path)
    return config


def parameters(config: dict[str, Any]) -> int:
    """How many trained numbers the network of a checked config.json has; tests compare it with the network's own."""
    blocks = (config["depth"] - 2) // 6
    stem = 3 * 16 * config["stem_kernel"] ** 2 + 2 * 16  # a convolution and the weight and bias of its normalisation
    convolutions = [(16, 16)] * 2 * blocks
    for width in (32, 64):
        convolutions += [(width // 2, width)] + [(width, width)] * (2 * blocks - 1)
    body = sum(9 * before * after + 2 * after for before, after in convolutions)
    projections = sum(width // 2 * width + 2 * width for width in (32, 64)) if config["shortcut"] == "B" else 0
    return stem + body + projections + 65 * config["num_classes"]


def max_bytes(config: dict[str, Any], name: str) -> int:
    """How large a sealed file may be for a checked config.json. Both network files hold 4 bytes a parameter and, for
    names, shapes and statistics, some per layer: measured at depths 8, 32 and 110, up to 950 in the weights and 790 in
    the graph, whose own limit in `model.graph` is closer."""
    if name not in (WEIGHTS, GRAPH):
        return MAX_TEXT_BYTES
    return 4 * parameters(config) + 8_192 * config["depth"] + 65_536


def check_size(path: Path | str, found: int, limit: int) -> None:
    """Raises ArtifactError where a file has more bytes than it may."""
    if found > limit:
        raise ArtifactError(f"{path} has {found:,} bytes; for what config.json describes, {limit:,} are allowed")


def read_history(folder: Path) -> list[dict[str, float]]:
    """The rows of history.csv, one per epoch, as numbers. Raises ArtifactError."""
    path = folder / HISTORY
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows = [{name: float(cell) for name, cell in row.items()} for row in table]
        intact = tuple(table.fieldnames or ()) == HISTORY_COLUMNS and all(_number(v) for r in rows for v in r.values())
    except (OSError, ValueError, TypeError, csv.Error):
        intact = False
    if not intact or [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)) or not rows:
        raise ArtifactError(f"{path} is not one row of finite numbers per epoch, with the columns {HISTORY_COLUMNS}")
    return rows


def seal(folder: Path, config: dict[str, Any]) -> None:
    """Writes config.json with the digests of the files that lie in `folder`: the last step of an export."""
    config = config | {"format_version": FORMAT_VERSION, "sha256": {name: sha256(folder / name) for name in SEALED}}
    check_config(config, folder / CONFIG)
    write_json(folder / CONFIG, config)


def check_config(config: Any, path: Path) -> None:
    """Raises ArtifactError unless `config` has the fields, types and ranges of docs/architecture.md."""
    problem = _problem(config, CONFIG_FIELDS)
    if problem is None:
        problem = _problem(config, {name: rule for name, rule in LATER_CONFIG_FIELDS.items() if name in config})
    if problem is None and len(config["class_names"]) != config["num_classes"]:
        problem = f"has {len(config['class_names'])} class_names for num_classes {config['num_classes']}"
    if problem is None and len(config["expected_logits"]) != config["num_classes"]:
        problem = f"has {len(config['expected_logits'])} expected_logits for num_classes {config['num_classes']}"
    if problem is None and parameters(config) > MAX_PARAMETERS:
        problem = f"describes a network of {parameters(config):,} parameters; {MAX_PARAMETERS:,} are allowed"
    if problem is None and len(set(config["class_names"])) != len(config["class_names"]):
        problem = "has a class name twice"
    if problem is not None:
        raise ArtifactError(f"{path} {problem}; export the artifact again with `python -m trainer export`")


def check_metrics(metrics: Any, num_classes: int, path: Path) -> None:
    """Raises ArtifactError unless `metrics` has val, test and training, with counts that agree with each other."""
    problem = _problem(metrics, METRICS_FIELDS)
    for split in ("val", "test") if problem is None else ():
        section = metrics[split]
        problem = problem or _problem(section, SPLIT_FIELDS, f"{split}.") or _inconsistency(section, split, num_classes)
        problem = problem or _flip_problem(section, split)
    problem = problem or _problem(metrics["training"], TRAINING_FIELDS, "training.")
    problem = problem or _problem(metrics["training"]["split"], dict.fromkeys(SPLIT_SIZES, COUNT), "training.split.")
    if problem is not None:
        raise ArtifactError(f"{path} {problem}; export the artifact again with `python -m trainer export`")


def write_json(path: Path, value: Any) -> None:
    """Strict JSON: NaN and infinity are refused, because no reader but Python's takes them."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def agrees(logits: np.ndarray, expected: np.ndarray, tolerance: float = LOGITS_TOLERANCE) -> bool:
    """Whether both have the same shape and differ by `tolerance` at most, or in proportion where the largest expected
    logit is beyond LARGE_LOGIT; never where there is a NaN or an infinity."""
    if logits.shape != expected.shape or not np.isfinite(expected).all():
        return False
    allowed = tolerance * max(1.0, np.abs(expected).max(initial=0) / LARGE_LOGIT)
    return bool((np.abs(logits - expected) <= allowed).all())


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 <= value <= 1e9  # not NaN either


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**12


def _fraction(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _class_name(value: Any) -> bool:
    """Plain text: also what draws it without escaping it shows no markup."""
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable() and not set('<>&"`') & set(value)


CONFIG_FIELDS = {
    "format_version": (lambda v: v == FORMAT_VERSION, f"{FORMAT_VERSION}"),
    "depth": (lambda v: _whole(v) and 8 <= v <= 1202 and (v - 2) % 6 == 0, "6n+2, at most 1202"),
    "stem_kernel": (lambda v: _whole(v) and v in (1, 3), "1 or 3"),
    "shortcut": (lambda v: v in ("A", "B"), '"A" or "B"'),
    "num_classes": (lambda v: _whole(v) and 2 <= v <= 100, "a whole number from 2 to 100"),
    "class_names": (lambda v: isinstance(v, list) and all(map(_class_name, v)), "a list of short plain names"),
    "image_size": (lambda v: v == 32, "32"),
    "temperature": (lambda v: _number(v) and 0.01 <= v <= 100, "a number from 0.01 to 100"),
    "expected_logits": (lambda v: isinstance(v, list) and all(map(_number, v)), "a list of finite numbers"),
    "sha256": (lambda v: isinstance(v, dict) and all(isinstance(v.get(n), str) for n in SEALED), "a digest per file"),
}
LATER_CONFIG_FIELDS = {"threshold": (_number, "a finite number")}
"""Fields that older artifacts lack."""
COUNT = (_whole, "a whole number")
TEXT = (lambda v: isinstance(v, str) and len(v) <= 200, "a short text")
OBJECT = (lambda v: isinstance(v, dict), "an object")
METRICS_FIELDS = {
    "format_version": (lambda v: v == FORMAT_VERSION, f"{FORMAT_VERSION}"),
    **dict.fromkeys(("val", "test", "training"), OBJECT),
}
SPLIT_SIZES = ("train", "val", "test", "seed")
TRAINING_FIELDS = {
    **dict.fromkeys(("recipe", "selected_by", "device", "precision", "started"), TEXT),
    **dict.fromkeys(("seed", "epochs", "best_epoch", "parameters"), COUNT),
    **dict.fromkeys(("wall_seconds", "images_per_second"), (lambda v: _number(v) and v >= 0, "a number")),
    **dict.fromkeys(("hyperparameters", "versions", "split"), OBJECT),
    "git_commit": (lambda v: v is None or TEXT[0](v), "a short text or null"),
}
SCORE_FIELDS = {
    "n": (lambda v: _whole(v) and v > 0, "a positive whole number"),
    "correct": COUNT,
    "accuracy": (_fraction, "a fraction"),
    "accuracy_interval": (lambda v: isinstance(v, list) and len(v) == 2 and all(map(_fraction, v)), "two fractions"),
    "loss": (lambda v: _number(v) and v >= 0, "a number"),
}
SPLIT_FIELDS = SCORE_FIELDS | {
    "per_class_accuracy": (lambda v: isinstance(v, list) and all(map(_fraction, v)), "a list of fractions"),
    "confusion_matrix": (
        lambda v: isinstance(v, list) and all(isinstance(row, list) and all(map(_whole, row)) for row in v),
        "rows of counts",
    ),
    "calibration": OBJECT,
}


def _problem(value: Any, schema: dict[str, tuple[Any, str]], prefix: str = "") -> str | None:
    """The first field of `schema` that `value` lacks or that has a wrong value, in words."""
    if not isinstance(value, dict):
        return "is not a JSON object"
    for name, (allowed, words) in schema.items():
        if name not in value:
            return f"lacks {prefix}{name}"
        if not allowed(value[name]):
            return f"has {prefix}{name} {str(value[name])[:80]!r} where {words} is allowed"
    return None


def _inconsistency(section: dict[str, Any], split: str, num_classes: int) -> str | None:
    matrix = section["confusion_matrix"]
    if len(matrix) != num_classes or any(len(row) != num_classes for row in matrix):
        return f"has a {split}.confusion_matrix that is not {num_classes} by {num_classes}"
    if len(section["per_class_accuracy"]) != num_classes:
        return f"has a {split}.per_class_accuracy that is not one number per class"
    if sum(map(sum, matrix)) != section["n"] or sum(matrix[i][i] for i in range(num_classes)) != section["correct"]:
        return f"has a {split}.confusion_matrix that does not add up to its n and correct"
    shares = (row[i] / max(1, sum(row)) for i, row in enumerate(matrix))
    if any(abs(a - b) > 1e-9 for a, b in zip(section["per_class_accuracy"], shares, strict=True)):
        return f"has a {split}.per_class_accuracy that is not that of its confusion_matrix"
    return _wrong_accuracy(section, split)


def _flip_problem(section: dict[str, Any], split: str) -> str | None:
    """What is wrong with `flip_tta`, which older artifacts lack."""
    if "flip_tta" not in section:
        return None
    flip, where = section["flip_tta"], f"{split}.flip_tta"
    problem = _problem(section, {"flip_tta": OBJECT}, f"{split}.") or _problem(flip, SCORE_FIELDS, f"{where}.")
    if problem is None and flip["n"] != section["n"]:
        problem = f"has a {where}.n that is not {split}.n"
    return problem or _wrong_accuracy(flip, where)


def _wrong_accuracy(score: dict[str, Any], where: str) -> str | None:
    if abs(score["correct"] / score["n"] - score["accuracy"]) > 1e-9:
        return f"has a {where}.accuracy that is not correct / n"
    low, high = score["accuracy_interval"]
    if not low - 1e-9 <= score["accuracy"] <= high + 1e-9:
        return f"has a {where}.accuracy that is not within its accuracy_interval"
    return None


def _read_json(path: Path) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON ({error})") from None
