"""The Test images tab: official CIFAR-10 test images with their true label; a click asks the network."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from model import Classifier
from model.artifact import SAMPLES
from model.cifar10 import ARCHIVE, CLASS_NAMES, IMAGE_SIZE, DatasetError, missing_files, read_test

PER_CLASS = 20
PER_CLASS_TOGETHER = 5
"""Shown of each class while all classes are shown: 50 small files instead of 200."""

SEED = 0
ALL = "All classes"

MAX_SAMPLES = 1000
"""Images of a sheet, and columns: a bound on what an artifact from the Hub can make this page decode, 3 MB."""


@dataclass(frozen=True)
class TestImages:
    """Images of the official test set: uint8 (N, 32, 32, 3), their labels (N,) and their index in that set (N,)."""

    __test__ = False  # not a test, whatever pytest makes of the name

    images: np.ndarray
    labels: Sequence[int]
    indices: Sequence[int]

    def positions(self, label: int | None = None) -> list[int]:
        """Positions of one class, or (None) of the first few of each class, the classes taking turns."""
        by_class = [[k for k, own in enumerate(self.labels) if own == one] for one in sorted(set(self.labels))]
        if label is not None:
            return [k for k, own in enumerate(self.labels) if own == label]
        return [members[turn] for turn in range(PER_CLASS_TOGETHER) for members in by_class if turn < len(members)]


def find_test_images(classifier: Classifier, data_dir: Path) -> TestImages:
    """From the artifact's `samples/`, else from the CIFAR-10 folder; DatasetError says what is wrong and what to do."""
    samples = classifier.folder / SAMPLES
    if samples.is_dir():
        return read_samples(samples, len(classifier.class_names))
    if tuple(classifier.class_names) != CLASS_NAMES:
        raise DatasetError("This model comes without sample images, and its classes are not those of CIFAR-10.")
    if missing := missing_files(data_dir):
        raise DatasetError(
            f"This model comes without sample images, and {data_dir}/ holds no complete CIFAR-10 ({missing[0]} is "
            f"missing). Download {ARCHIVE}, unpack it into {data_dir}/ and start the app again, or start it with "
            "--data-dir and the folder that holds cifar-10-batches-py/."
        )
    images, labels = read_test(data_dir)
    draw = np.random.default_rng(SEED)
    chosen = [draw.permutation(np.flatnonzero(labels == label))[:PER_CLASS] for label in np.unique(labels)]
    indices = np.concatenate(chosen)
    return TestImages(images[indices], labels[indices].tolist(), indices.tolist())


DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    RecursionError,
    Image.DecompressionBombError,
)
"""What readers of JSON and PNG, and the arithmetic on what they found, raise for a file that is no such thing."""


def read_samples(folder: Path, classes: int) -> TestImages:
    """The test sheet of an artifact (`docs/architecture.md`, samples/samples.json); labels below `classes`."""
    try:
        about = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        tile, columns, entries = about["tile"], about["columns"], about["test"]["images"]
        if not (1 <= columns <= MAX_SAMPLES and 1 <= len(entries) <= MAX_SAMPLES):
            raise ValueError(f"{len(entries)} images in {columns} columns; each may be 1 to {MAX_SAMPLES}")
        rows = -(-len(entries) // columns)
        name = Path(about["test"]["sheet"]).name  # never a file of another folder
        with Image.open(folder / name, formats=["PNG"]) as sheet:
            if tile != IMAGE_SIZE or sheet.size != (columns * tile, rows * tile):
                raise ValueError(f"the sheet has {sheet.size} pixels")
            pixels = np.asarray(sheet.convert("RGB"))
        labels, indices = [entry["label"] for entry in entries], [entry["index"] for entry in entries]
        if not all(label in range(classes) for label in labels):
            raise ValueError(f"a label is not one of the {classes} classes")
        tiles = pixels.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)  # (rows, columns, 32, 32, 3)
        return TestImages(tiles.reshape(-1, tile, tile, 3)[: len(entries)], labels, [int(index) for index in indices])
    except DAMAGE as error:
        raise DatasetError(
            f"The sample images of this model are damaged ({folder.name}/: {error}). Export the artifact again, or "
            "delete that folder: the app then takes the images from a CIFAR-10 folder."
        ) from None


def build_tab(classifier: Classifier, data_dir: Path) -> None:
    """Puts the tab's components and events into the Blocks that is being built."""
    try:
        tests = find_test_images(classifier, data_dir)
    except DatasetError as error:
        gr.HTML(
            f'<div class="notice"><h2>No test images to show</h2><p>{escape(str(error))}</p></div>',
            apply_default_css=False,
        )
        return
    names = classifier.class_names

    def tiles(label: int | None) -> list[tuple[Image.Image, str]]:
        return [(Image.fromarray(tests.images[k]), names[tests.labels[k]]) for k in tests.positions(label)]

    with gr.Row():
        with gr.Column(scale=7, min_width=300):
            shown = gr.Dropdown(
                [(ALL, -1), *((name, label) for label, name in enumerate(names))],
                value=-1,
                label="Show",
                filterable=False,
            )
            gallery = gr.Gallery(
                tiles(None),
                label="Test images with their true class: the network was never trained on them",
                height="auto",
                format="png",
                allow_preview=False,
                object_fit="cover",
                interactive=False,
                buttons=[],
                elem_id="test-images",
                elem_classes=["tiles", "pixelated"],
            )
        with gr.Column(scale=4, min_width=300):
            verdict = gr.HTML(HINT, elem_id="verdict", apply_default_css=False)
            bars = gr.Label(label="Prediction", elem_id="test-prediction")
            large = gr.Image(
                label="The image, enlarged",
                type="pil",
                format="png",
                interactive=False,
                height=232,
                buttons=[],
                elem_id="test-image",
                elem_classes="pixelated",
                alt_text="The chosen test image, enlarged",
            )

    def show(label: int):
        return gr.Gallery(tiles(None if label < 0 else label), selected_index=None), HINT, None, None

    def ask(label: int, event: gr.SelectData):
        k = tests.positions(None if label < 0 else label)[event.index]
        picture = Image.fromarray(tests.images[k])
        predictions = classifier.predict(picture)
        return verdict_html(predictions[0], names[tests.labels[k]], tests.indices[k]), dict(predictions), picture

    outputs = [verdict, bars, large]
    shown.change(show, shown, [gallery, *outputs], show_progress="hidden", api_visibility="private")
    gallery.select(ask, shown, outputs, show_progress="minimal", api_visibility="private")


HINT = (
    '<div class="verdict"><strong>Choose an image</strong>'
    "<span>The prediction appears here, beside the truth.</span></div>"
)


def verdict_html(top: tuple[str, float], truth: str, index: int) -> str:
    """Right or wrong in words: never by colour alone."""
    label, probability = top
    outcome = "right" if label == truth else "wrong"
    said = f"The network says <b>{escape(label)}</b> ({probability:.0%}). It is <b>{escape(truth)}</b>."
    return (
        f'<div class="verdict {outcome}" role="status"><strong>{outcome.capitalize()}</strong>'
        f"<span>{said}</span><small>Test image {index:,}</small></div>"
    )
