"""Photo-like JPEGs of a wanted size, drawn from a seed: smooth colours, a few hard edges, and grain.

How many pixels a file of that size has follows photographs: about 0.36 bytes per pixel at JPEG quality 88, so that
0.2 MB are 0.6 million pixels and 5 MB are 14 million.
"""

import io
import math

import numpy as np
from PIL import Image, ImageDraw

QUALITY = 88
BYTES_PER_PIXEL = 0.36
ASPECT = 4 / 3
TOLERANCE = 0.03
"""How far a file's size may be from the wanted one."""

OCTAVES = ((3, 70), (7, 40), (17, 25), (41, 15), (97, 8))
"""Cells along a side, and how strongly a random grid of so many cells shows in the picture, of 255."""

EDGES = 12
GRAIN_MAX = 48.0


def dimensions(size: int) -> tuple[int, int]:
    """Width and height, multiples of 8, of a photo whose JPEG has `size` bytes."""
    height = math.sqrt(size / BYTES_PER_PIXEL / ASPECT)
    return 8 * max(1, round(height * ASPECT / 8)), 8 * max(1, round(height / 8))


def draw(size: int, seed: int) -> bytes:
    """A JPEG of `size` bytes, within TOLERANCE where `size` >= 50,000: the strength of the grain is searched for."""
    random = np.random.default_rng(seed)
    width, height = dimensions(size)
    scene = np.asarray(_scene(width, height, random), np.int16)
    grain = random.standard_normal((height, width, 1), np.float32)
    low, high = 0.0, GRAIN_MAX
    for _ in range(12):
        strength = (low + high) / 2
        encoded = _encode(scene, grain, strength)
        if abs(len(encoded) - size) <= TOLERANCE * size:
            break
        low, high = (strength, high) if len(encoded) < size else (low, strength)
    return encoded


def unique(jpeg: bytes, mark: str) -> bytes:
    """The same picture in other bytes: `mark` goes into a comment segment behind the start marker."""
    comment = mark.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def _scene(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Smooth noise of several scales around one colour, and filled shapes with hard edges."""
    total = np.full((height, width, 3), random.uniform(80, 170, 3), np.float32)
    for cells, strength in OCTAVES:
        small = random.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        total += (np.asarray(Image.fromarray(small).resize((width, height)), np.float32) - 127.5) * (strength / 127.5)
    scene = Image.fromarray(total.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(scene)
    for _ in range(EDGES):
        corners = random.uniform(0, 1, (3, 2)) * (width, height)
        pen.polygon(
            [tuple(corner) for corner in corners], fill=tuple(int(level) for level in random.integers(0, 256, 3))
        )
    return scene


def _encode(scene: np.ndarray, grain: np.ndarray, strength: float) -> bytes:
    noisy = (scene + (grain * strength).astype(np.int16)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
