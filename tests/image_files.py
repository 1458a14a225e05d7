"""Image files for tests: encoded by Pillow, or built by hand where they lie."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def png(width: int = 40, height: int = 30) -> bytes:
    return encode(Image.new("RGB", (width, height), "teal"))


def noise_png(seed: int) -> bytes:
    """A small one like no other, which is not square, so that the fits differ, and gets other answers than its like."""
    image = np.random.RandomState(seed).randint(0, 256, (24, 33 + seed, 3), np.uint8)
    return encode(image // (1 + seed % 4) + 13 * (seed % 5))


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[274] = orientation
    return block.tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def hand_built_png(width: int, height: int, bits: int, color_type: int, packed: bytes, *extra: bytes) -> bytes:
    """A PNG whose header may claim any size; color_type 0 is gray, 2 RGB, 6 RGBA; `packed` are its deflated rows."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *extra, chunk(b"IDAT", packed), chunk(b"IEND", b"")])


def with_claimed_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The same JPEG with another size in its frame header."""
    at = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]
