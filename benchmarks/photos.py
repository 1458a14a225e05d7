"""Photo-like JPEGs of a wanted size, drawn from a seed: smooth colors, hard edges, and grain.

Photographs have about 0.36 bytes per pixel at JPEG quality 88: 0.2 MB are 0.6 megapixels, 5 MB are 15.
"""

import numpy as np
from PIL import Image, ImageDraw

from tests.image_files import encode

QUALITY, BYTES_PER_PIXEL, GRAIN = 88, 0.36, 9.0


def draw(size: int, seed: int) -> bytes:
    """A JPEG, 4 : 3, of about `size` bytes: the second attempt has the pixels that the first asks for."""
    pixels = size / BYTES_PER_PIXEL
    for _ in range(2):
        height = max(8, round((pixels * 3 / 4) ** 0.5))
        image = scene(round(height * 4 / 3), height, np.random.default_rng(seed))
        encoded = encode(image, "JPEG", quality=QUALITY)
        pixels *= size / len(encoded)
    return encoded


def scene(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Smooth noise, filled triangles over it, and grain over all."""
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for corners in random.uniform(0, 1, (12, 3, 2)) * (width, height):
        pen.polygon([tuple(corner) for corner in corners], tuple(random.integers(0, 256, 3).tolist()))
    grain = GRAIN * random.standard_normal((height, width, 1), np.float32)
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def unique(jpeg: bytes, mark: str) -> bytes:
    """The same image in other bytes: `mark` goes into a comment segment behind the start marker."""
    comment = mark.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
