"""The images a first visitor clicks: one per class, and exactly what the script beside them draws."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from model.cifar10 import CLASS_NAMES
from model.preprocess import open_image, to_square_rgb

FOLDER = Path(__file__).parents[1] / "assets" / "examples"


@pytest.fixture
def drawings():
    return runpy.run_path(str(FOLDER / "draw.py"))["DRAWINGS"]


def pixels(image):
    return np.asarray(image).astype(int)


def test_each_class_has_the_image_that_the_script_draws_and_there_is_no_other(drawings):
    assert tuple(drawings) == CLASS_NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.png")) == sorted(CLASS_NAMES)
    for name, draw in drawings.items():
        committed = open_image(FOLDER / f"{name}.png")
        assert (committed.mode, committed.size) == ("RGB", (256, 256))
        # of 255: room for another Pillow's rounding, none for another drawing
        assert abs(pixels(committed) - pixels(draw())).mean() < 1, name


def test_no_two_look_alike_at_the_size_the_network_sees_and_all_are_small():
    paths = [FOLDER / f"{name}.png" for name in CLASS_NAMES]
    small = [pixels(to_square_rgb(open_image(path))) for path in paths]
    assert all(abs(a - b).mean() > 15 for i, a in enumerate(small) for b in small[:i])
    assert sum(path.stat().st_size for path in paths) < 600_000
