"""Where the test images come from: a CIFAR-10 folder, or the samples/ of the artifact."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model import Classifier
from model.artifact import SAMPLES, is_cifar10
from model.cifar10 import DatasetError, missing_files, read_test

LOG = logging.getLogger(__name__)

MAX_SAMPLES = 1000
"""Images of a sheet, and columns: a bound on what an artifact from the Hub can make this page decode, 3 MB."""


@dataclass(frozen=True)
class DatasetImages:
    """Images of the test set: uint8 (N, S, S, 3), their labels (N,) and their index in that set (N,)."""

    images: np.ndarray
    labels: Sequence[int]
    indices: Sequence[int]
    drawn: Sequence[int]
    """Positions of those that are here whatever the network said of them: not only because it was wrong."""


class NoDataset(DatasetError):
    """A download of CIFAR-10 helps."""


def find_images(classifier: Classifier, data_dir: Path) -> DatasetImages:
    """All of the CIFAR-10 folder if there is an intact one and the model's classes are CIFAR-10's, else those of the
    artifact's `samples/`. Raises DatasetError, which says what is wrong and what to do."""
    samples = classifier.folder / SAMPLES
    own = not is_cifar10(classifier.class_names, classifier.metrics)
    if not own and not missing_files(data_dir):
        try:
            images, labels = read_test(data_dir)
        except DatasetError as error:  # it names a path of the server
            LOG.warning("%s", error)
            if not samples.is_dir():
                raise NoDataset("The CIFAR-10 files on this server are damaged or altered.") from None
        else:
            return DatasetImages(images, labels.tolist(), list(range(len(labels))), range(len(labels)))
    if samples.is_dir():
        return read_samples(samples, len(classifier.class_names), classifier.config.image_size)
    if own:
        raise DatasetError(
            "The model on this page brings no sample images. Who trained it can add some: `python -m trainer export "
            "RUN_DIR --samples`."
        )
    raise NoDataset("The model on this page has no sample images.")


def read_samples(folder: Path, classes: int, side: int) -> DatasetImages:
    """The images of both sheets (`docs/architecture.md`, samples/samples.json), each once; labels below `classes`,
    `side` pixels along each side. Raises DatasetError."""
    try:
        about = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        sheets = [_read_sheet(folder, about, name, classes, side) for name in ("test", "mistakes")]
    except Exception as error:  # readers of JSON and PNG, and what computes with their numbers, raise a dozen kinds
        LOG.warning("%s: %s", folder, error)  # it may name a path of the server
        raise DatasetError(
            f"The sample images of this model are damaged ({folder.name}/). Export the artifact again, or delete that "
            "folder: the app then takes the images from a CIFAR-10 folder."
        ) from None
    once = {index: (tile, label) for sheet in sheets for tile, label, index in zip(*sheet, strict=True)}
    indices, drawn = sorted(once), set(sheets[0][2])
    return DatasetImages(
        images=np.stack([once[index][0] for index in indices]),
        labels=[once[index][1] for index in indices],
        indices=indices,
        drawn=[position for position, index in enumerate(indices) if index in drawn],
    )


def _read_sheet(
    folder: Path, about: dict, name: str, classes: int, side: int
) -> tuple[np.ndarray, list[int], list[int]]:
    """Tiles uint8 (N, S, S, 3), labels and indices of one sheet; "mistakes" may be empty."""
    tile, columns, entries = about["tile"], about["columns"], about[name]["images"]
    if name == "mistakes" and len(entries) == 0:
        return np.empty((0, side, side, 3), np.uint8), [], []
    if not (1 <= columns <= MAX_SAMPLES and 1 <= len(entries) <= MAX_SAMPLES):
        raise ValueError(f"{len(entries)} images in {columns} columns; each may be 1 to {MAX_SAMPLES}")
    rows = -(-len(entries) // columns)
    file = Path(about[name]["sheet"]).name  # never a file of another folder
    with Image.open(folder / file, formats=["PNG"]) as sheet:
        if tile != side or sheet.size != (columns * tile, rows * tile):
            raise ValueError(f"the sheet has {sheet.size} pixels")
        pixels = np.asarray(sheet.convert("RGB"))
    labels, indices = [entry["label"] for entry in entries], [int(entry["index"]) for entry in entries]
    if not all(label in range(classes) for label in labels):
        raise ValueError(f"a label is not one of the {classes} classes")
    tiles = pixels.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)  # (rows, columns, S, S, 3)
    return tiles.reshape(-1, tile, tile, 3)[: len(entries)], labels, indices
