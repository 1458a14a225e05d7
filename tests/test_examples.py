"""The pictures a first visitor clicks: one per class, and exactly what the script beside them draws."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.cifar10 import CLASS_NAMES
from model.preprocess import open_image, to_square_rgb

FOLDER = Path(__file__).parents[1] / "assets" / "examples"


@pytest.fixture(scope="module")
def drawings():
    spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DRAWINGS


def pixels(picture):
    return np.asarray(picture).astype(int)


def test_there_is_one_picture_per_class_and_no_other():
    assert sorted(path.stem for path in FOLDER.glob("*.png")) == sorted(CLASS_NAMES)


def test_there_is_one_drawing_per_class_in_label_order(drawings):
    assert tuple(drawings) == CLASS_NAMES


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_the_committed_picture_is_what_the_script_draws(name, drawings):
    committed = open_image(FOLDER / f"{name}.png")
    assert (committed.mode, committed.size) == ("RGB", (256, 256))
    difference = abs(pixels(committed) - pixels(drawings[name]()))
    assert difference.mean() < 1  # of 255: room for another Pillow's rounding, none for another drawing


def test_no_two_pictures_look_alike_at_the_size_the_network_sees():
    small = [pixels(to_square_rgb(Image.open(FOLDER / f"{name}.png"))) for name in CLASS_NAMES]
    assert all(abs(a - b).mean() > 15 for i, a in enumerate(small) for b in small[:i])


def test_all_pictures_together_stay_under_600_kb():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.png")) < 600_000
