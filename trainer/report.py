"""Metrics to images: TensorBoard panels, figures and sample sheets."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch.utils.tensorboard import SummaryWriter

from model import artifact
from model.artifact import Calibration, Metrics, SplitScores

SAMPLES = 200
"""In equal numbers of each class, and at least one."""

SAMPLES_SEED = 0
MISTAKES = 40
SHEET_COLUMNS = 20
DPI = 120


def prediction_panel(
    images: np.ndarray,
    labels: Sequence[int],
    predicted: Sequence[int],
    class_names: Sequence[str],
    columns: int = 8,
    enlarge: int = 3,
) -> np.ndarray:
    """uint8 images (N, 32, 32, 3) as one captioned uint8 grid (H, W, 3): true class above, prediction below,
    green where it is right, red where it is wrong."""
    side = images.shape[1] * enlarge
    width, height = side + 12, side + 34
    rows = -(-len(images) // columns)
    panel = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(panel)
    for i, (image, label, guess) in enumerate(zip(images, labels, predicted, strict=True)):
        x, y = i % columns * width + 6, i // columns * height + 2
        draw.text((x, y), class_names[label], fill="black")
        panel.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (x, y + 13))
        draw.text((x, y + side + 14), class_names[guess], fill="#1a7f37" if guess == label else "#cf222e")
    return np.asarray(panel)


def draw_figures(metrics: Metrics, history: list[dict[str, float]], class_names: Sequence[str]) -> dict[str, Figure]:
    """curves, confusion_matrix, reliability, per_class; the last three of the test set."""
    test = metrics.test
    return {
        "curves": draw_curves(history, metrics.training.best_epoch),
        "confusion_matrix": draw_confusion_matrix(test.confusion_matrix, class_names),
        "reliability": draw_reliability(test.calibration),
        "per_class": draw_per_class(test.per_class_accuracy, class_names),
    }


def draw_curves(history: list[dict[str, float]], best_epoch: int) -> Figure:
    figure = Figure((11, 3.4), DPI, layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, quantity in zip(figure.subplots(1, 3), ("accuracy", "loss", "learning_rate"), strict=True):
        if quantity == "learning_rate":
            axes.plot(epochs, [row["learning_rate"] for row in history], color="tab:gray")
        else:
            for split in ("train", "val"):
                axes.plot(epochs, [row[f"{split}_{quantity}"] for row in history], label=split)
            axes.axvline(best_epoch, color="tab:green", linewidth=1, linestyle=":", label="best epoch")
            axes.legend()
        axes.set(title=quantity.replace("_", " "), xlabel="epoch")
        axes.grid(alpha=0.3)
    return figure


def draw_confusion_matrix(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    counts = np.asarray(matrix)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = max(6.5, 0.16 * len(counts))  # inches
    figure = Figure((side + 1, side), DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(class_names))
    names = [shortened(name) for name in class_names]
    axes.set_xticks(ticks, names, rotation=45 if len(names) <= 20 else 90, ha="right" if len(names) <= 20 else "center")
    axes.set_yticks(ticks, names)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix, test")
    few = len(counts) <= 20
    for row, column in zip(*np.nonzero(counts + few), strict=True):  # of many classes, zeros are left out
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=color, fontsize=8 if few else 5)
    return figure


def draw_reliability(calibration: Calibration) -> Figure:
    figure = Figure((8.5, 4), DPI, layout="constrained")
    parts = (
        ("before", calibration.ece_before, calibration.bins_before),
        ("after", calibration.ece_after, calibration.bins_after),
    )
    for axes, (when, ece, all_bins) in zip(figure.subplots(1, 2), parts, strict=True):
        bins = [b for b in all_bins if b.n]
        width = all_bins[0].upper
        axes.bar([b.lower for b in bins], [b.accuracy for b in bins], width, align="edge", edgecolor="white")
        axes.plot([0, 1], [0, 1], color="tab:red", linewidth=1, linestyle="--")
        axes.set(title=f"{when} temperature scaling: ECE {ece:.4f}", xlabel="confidence", ylabel="accuracy")
        axes.set(xlim=(0, 1), ylim=(0, 1))
    return figure


def shortened(name: str, most: int = 24) -> str:
    """A class name that leaves room for the figure. No markup: "$" would begin a formula."""
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")


def draw_per_class(accuracies: Sequence[float], class_names: Sequence[str]) -> Figure:
    figure = Figure((7.5, max(3.6, 0.22 * len(class_names))), DPI, layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(class_names)), accuracies)
    axes.set_yticks(range(len(class_names)), [shortened(name) for name in class_names])
    axes.bar_label(bars, [f"{a:.1%}" for a in accuracies], padding=3)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.1), title="Accuracy per class, test")
    return figure


def write_figures(figures: dict[str, Figure], folder: Path) -> None:
    """NAME.png of each. Letters that matplotlib's font lacks become boxes."""
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", metadata={"Software": None}, pil_kwargs={"optimize": True})


def write_samples(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, folder: Path) -> None:
    """Sheets of test images, so that the app can show some without the dataset: `SAMPLES` at random, class by class,
    and the most confident mistakes. uint8 images (N, S, S, 3)."""
    folder.mkdir()
    of_each = min(20, max(1, SAMPLES // probabilities.shape[1]))
    random = np.random.RandomState(SAMPLES_SEED)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen.extend(np.sort(random.permutation(members)[:of_each]))
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    mistakes = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:MISTAKES]
    listing: dict[str, Any] = {"tile": images.shape[1], "columns": SHEET_COLUMNS}
    for name, indices in (("test", chosen), ("mistakes", mistakes)):
        sheet(images[indices]).save(folder / f"{name}.png", optimize=True)
        listing[name] = {
            "sheet": f"{name}.png",
            "images": [{"index": int(i), "label": int(labels[i])} for i in indices],
        }
    artifact.write_json(folder / "samples.json", listing)


def sheet(images: np.ndarray) -> Image.Image:
    """uint8 images (N, H, W, 3) as tiles, row by row, `SHEET_COLUMNS` to a row."""
    size = images.shape[1]
    rows = max(1, math.ceil(len(images) / SHEET_COLUMNS))
    canvas = np.zeros((rows, SHEET_COLUMNS, size, size, 3), np.uint8)
    canvas.reshape(-1, size, size, 3)[: len(images)] = images
    return Image.fromarray(canvas.transpose(0, 2, 1, 3, 4).reshape(rows * size, SHEET_COLUMNS * size, 3))


def log_results(test: SplitScores, figures: Path, step: int, folder: Path) -> None:
    """Test accuracy, test loss and a folder's figures into one of event files, at the last step of the best epoch."""
    with SummaryWriter(folder) as writer:
        for name in ("accuracy", "loss"):
            writer.add_scalar(f"test/{name}", getattr(test, name), step)
        for path in sorted(figures.glob("*.png")):
            pixels = np.asarray(Image.open(path).convert("RGB"))
            writer.add_image(f"figures/{path.stem}", pixels, step, dataformats="HWC")
