"""Figures, sample sheets and what TensorBoard gets at the end."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model import artifact
from trainer import report


@pytest.fixture(scope="module")
def found(tiny_artifact):
    return artifact.read(tiny_artifact)


def test_the_panel_shows_every_image_and_marks_right_and_wrong():
    images = np.full((3, 32, 32, 3), (10, 200, 30), np.uint8)
    panel = report.prediction_panel(images, [0, 1, 2], [0, 1, 0], ("cat", "dog", "frog"), columns=2, enlarge=2)
    assert panel.dtype == np.uint8 and panel.shape == (2 * 98, 2 * 76, 3)
    assert (panel == (10, 200, 30)).all(2).sum() == 3 * 64 * 64
    reddish = (panel[..., 0] > 180) & (panel[..., 1] < 90) & (panel[..., 2] < 90)
    assert reddish[98:].any() and not reddish[:98].any()  # only the third is wrong


def test_a_sheet_places_tiles_row_by_row():
    images = np.arange(23, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(4, 1).repeat(4, 2).repeat(3, 3)
    sheet = np.asarray(report.sheet(images))
    assert sheet.shape == (8, 20 * 4, 3)
    assert sheet[0, 5 * 4, 0] == 5 and sheet[4, 2 * 4, 0] == 22 and sheet[4, 3 * 4, 0] == 0


def test_figures_are_drawn_from_the_metrics(found, tiny_run):
    history = artifact.read_history(tiny_run)
    figures = report.draw_figures(found.metrics, history, found.config.class_names)
    accuracy = figures["curves"].axes[0]
    assert accuracy.lines[1].get_ydata().tolist() == [row["val_accuracy"] for row in history]
    cells = [int(text.get_text()) for text in figures["confusion_matrix"].axes[0].texts]
    assert np.array_equal(np.reshape(cells, (10, 10)), found.metrics.test.confusion_matrix)
    bars = [bar.get_width() for bar in figures["per_class"].axes[0].patches]
    assert bars == pytest.approx(found.metrics.test.per_class_accuracy)


def test_tensorboard_has_the_test_metrics_and_the_figures_at_the_best_epoch(found, tiny_artifact):
    events = EventAccumulator(str(tiny_artifact / "tensorboard"))
    events.Reload()
    (accuracy,) = events.Scalars("test/accuracy")
    assert accuracy.value == pytest.approx(found.metrics.test.accuracy)
    assert accuracy.step == [e.step for e in events.Scalars("val/accuracy")][found.metrics.training.best_epoch - 1]
    for name in ("curves", "confusion_matrix", "reliability", "per_class"):
        (image,) = events.Images(f"figures/{name}")
        shown = Image.open(BytesIO(image.encoded_image_string))
        saved = Image.open(tiny_artifact / artifact.FIGURES / f"{name}.png").convert("RGB")
        assert image.step == accuracy.step and saved.width > 400 and np.array_equal(shown, saved)
