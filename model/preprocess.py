"""The one place that turns an image into what the network eats. Needs numpy and Pillow (>= 11.3) only.

    file --open_image--> Pillow image --to_square_rgb--> 32x32 RGB --preprocess--> float32 (3, 32, 32) in [0, 1]

`open_image` takes bytes that nobody has vouched for: it looks at the size a file claims before it decodes anything.
HEIC photos need the package pi-heif too, in a process of their own (`model/heic.py`).
"""

import importlib.util
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from model import heic
from model.cifar10 import IMAGE_SIZE

VERSION = 1
"""Counts up when the same file would give other pixels: what was decoded before is then decoded again."""

FITS = ("crop", "pad", "stretch")
"""How an image that is not square becomes one: its central square, white bars beside it, or squashed."""

MAX_BYTES = 64_000_000
"""Of a file. Read into memory once, because Pillow's readers seek and some of them read everything anyway."""

MAX_UPLOAD_BYTES = 20 * 2**20
"""Of an image sent to the server; server/limits.py reads it."""

MAX_PIXELS = 25_000_000
"""Width times height before decoding. 16-bit RGBA of this size, the worst case, costs 0.2 GB and half a second;
Pillow's own limit of 179 million lets a 34-byte WebP claim 2 GB."""

MAX_PIXELS_JPEG = 64_000_000
"""For a JPEG that libjpeg can shrink while it decodes, row by row (a phone's 50 megapixels: 0.06 s and 9 MB); shrunk it
has no more than MAX_PIXELS."""

ROWS_SHARE = 16
"""What decoding such a JPEG costs beside the shrunk image: one part in so many of its pixels."""

MAX_SCANS = 100
"""Of a JPEG; programs write 1 to about 15. Each scan walks over the whole image again (1.7 ms at 25 million pixels),
so that 20 MB of 50-byte scans would hold a core for ten minutes."""

DRAFT_SIDE = 256
"""A JPEG is decoded at 1/2, 1/4 or 1/8 as long as both sides keep this many pixels: far above 32, and enough for a page
to show. Of 1,200 validation images, enlarged to 520 to 1,020 pixels and stored as JPEG, 92.3% are right, as with 512,
which takes 1.6 times as long to decode and shrink."""

HEIC_SECONDS = 20
"""Until the process that decodes a HEIC photo is stopped. It stops itself after 4 seconds of CPU time; a busy machine
needs longer for them."""

_ONE_HEIC, _HEIC_PLACES = threading.Lock(), threading.BoundedSemaphore(2)
"""Each may take half a gigabyte and 4 seconds, because its header may lie: one is decoded while one waits, so that they
occupy no more than two threads. Who finds both places taken is told to come back."""

WHITE = (255, 255, 255)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (tag 274) -> what undoes it; 1 and unknown values need nothing."""

_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,  # also MPO, a JPEG with further images behind the first
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
if AvifImagePlugin.SUPPORTED:
    _READERS["AVIF"] = AvifImagePlugin.AvifImageFile


_DAMAGED = (
    "This image is damaged or incomplete and cannot be decoded: open it in another program, save it again as JPEG or "
    "PNG, and use that."
)


class ImageError(ValueError):
    """An image is of no use. The message is a sentence for a visitor: what was given, what is allowed, what to do."""


class BusyError(ImageError):
    """The image may be of use, but not now."""


def open_image(
    file: str | Path | bytes | BinaryIO, before_decoding: Callable[[int], object] | None = None
) -> Image.Image:
    """Decode one untrusted upload completely; of an animation, the first frame.

    `file` is a path, a file's bytes, or a binary file (read from where it stands, left open). The image keeps its
    mode, its EXIF block and its size (a large JPEG or HEIC is shrunk, both sides >= DRAFT_SIDE; a HEIC comes upright
    and without EXIF). `before_decoding` is told how many pixels the decoder will hold at once, when the file is
    recognized and small enough; it may wait. Raises ImageError and no other: broken bytes make Pillow's readers raise
    nearly every exception there is.
    """
    data = _read(file)
    if _is_heic(data):
        return open_image(_heic_to_png(data), before_decoding)
    reader = _reader(data)
    try:
        # The reader's own class instead of Image.open, whose bomb warning could only be silenced for the whole process.
        image = reader(io.BytesIO(data))
        by_rows = _decodes_by_rows(image)
        _check_size(image, data, by_rows)
        pixels = image.width * image.height // (ROWS_SHARE if by_rows else 1)
        if reader is JpegImagePlugin.JpegImageFile:
            image.draft("RGB", (DRAFT_SIDE, DRAFT_SIDE))
        if image.width * image.height > MAX_PIXELS:  # too narrow to be shrunk
            raise ImageError(_too_large(f"{image.width} x {image.height} pixels"))
        if before_decoding is not None:
            before_decoding(max(pixels, image.width * image.height))
        image.load()
        _check_depth(image)
        if reader is TiffImagePlugin.TiffImageFile and image.mode == "I;16":
            _normalize_gray16_tiff(image)
    except ImageError:
        raise
    except (MemoryError, Image.DecompressionBombError):
        raise ImageError(_too_large()) from None
    except Exception:
        raise ImageError(_DAMAGED) from None
    return image


class PixelSemaphore:
    """Lets threads pass as long as what they hold together is at most `total` pixels, each in its turn."""

    def __init__(self, total: int):
        self.total = self.free = total
        self._turn, self._changed = threading.Lock(), threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        amount = min(amount, self.total)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self.free >= amount)
            self.free -= amount
        try:
            yield
        finally:
            with self._changed:
                self.free += amount
                self._changed.notify_all()


_DECODED = PixelSemaphore(MAX_PIXELS)
"""In all threads: up to 8 bytes each for a moment."""


@contextmanager
def open_limited(file: str | Path | bytes | BinaryIO) -> Iterator[Image.Image]:
    """`open_image`, while all threads together hold at most MAX_PIXELS decoded pixels: it waits for its turn.

    What is made of the image should be made inside, and be small. A thread must not open a second one inside: it
    would wait for itself.
    """
    with ExitStack() as held:
        yield open_image(file, lambda pixels: held.enter_context(_DECODED.take(pixels)))


def to_square_rgb(image: Image.Image, fit: str = "crop", side: int = IMAGE_SIZE) -> Image.Image:
    """The 32x32 RGB image that the network sees; with another `side`, the same part of the image for a person.

    Turned as its EXIF block asks, transparency laid over white, then `fit`: "crop" keeps the central square (half a
    pixel towards the top left where the sides differ by an odd number), "pad" keeps everything and fills up with white,
    the same white that shows through transparency, "stretch" squashes. A 32x32 RGB image comes back bit for bit.
    The result carries no metadata, so that preprocessing it once more changes nothing.
    Raises ImageError for an image that cannot be converted, ValueError for an unknown `fit`, TypeError for anything
    but a Pillow image.
    """
    if fit not in FITS:
        raise ValueError(f"unknown fit {fit!r}: use one of {', '.join(FITS)}")
    if not isinstance(image, Image.Image):
        raise TypeError(f"expected a Pillow image, got {type(image).__name__}: Image.fromarray() makes one")
    try:
        image = _upright(image)
        if fit == "crop":
            image = _central_square(image)  # before the conversion, so that what is thrown away costs nothing
        image = _to_rgb(image)
        square = _pad_to_square(image, side) if fit == "pad" else _resize(image, (side, side))
        square.info = {}  # Pillow hands the EXIF block on, and whoever preprocesses the square would turn it again
        return square
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(_too_large()) from None
    except Exception:
        raise ImageError(
            f"This image's colors (stored as {image.mode}) cannot be read: save it as JPEG or PNG, and use that."
        ) from None


def preprocess(image: Image.Image, fit: str = "crop", side: int = IMAGE_SIZE) -> np.ndarray:
    """A Pillow image as float32 (3, side, side), RGB in [0, 1], C-contiguous: `to_square_rgb` divided by 255.

    Raises what `to_square_rgb` raises. No mean or std here: normalization is inside the network.
    """
    pixels = np.asarray(to_square_rgb(image, fit, side)).transpose(2, 0, 1)  # (H, W, 3) -> (3, H, W)
    return np.ascontiguousarray(pixels) / np.float32(255)


def _read(file: str | Path | bytes | BinaryIO) -> bytes:
    """All bytes of `file`, at least one and at most MAX_BYTES."""
    if isinstance(file, bytes | bytearray | memoryview):
        data = bytes(file[: MAX_BYTES + 1])
    else:
        try:
            if isinstance(file, str | Path):
                with open(file, "rb") as opened:
                    data = opened.read(MAX_BYTES + 1)
            else:
                data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError):  # ValueError: a closed file, or a path with a zero byte
            raise ImageError("The uploaded file is gone or cannot be read: please upload it again.") from None
    if not data:
        raise ImageError(f"This file is empty: use an image ({_allowed()}).")
    if len(data) > MAX_BYTES:
        raise ImageError(f"This file is over the limit of {MAX_BYTES // 10**6} MB: save it smaller, and use that.")
    return data


def _reader(data: bytes) -> type[ImageFile.ImageFile]:
    """By the content, never by the name. Not Image.open(formats=...): it warns above Pillow's own limit, which only a
    change for the whole process could silence, and cannot tell a damaged file from one that is no image."""
    if data[4:8] == b"ftyp" and b"avif" in data[8:64] and "AVIF" in _READERS:  # Pillow knows it by its first brand only
        return _READERS["AVIF"]
    for reader in _READERS.values():
        accepts = Image.OPEN[reader.format][1]
        if accepts(data[:16]) is True:
            return reader
    raise ImageError(
        f"This file is not an image that can be read here: please save the image as {_allowed()}, and use that."
    )


def _allowed() -> str:
    return f"{', '.join(_READERS)} or HEIC"


def _is_heic(data: bytes) -> bool:
    """HEIC and AVIF share a container; the brands that follow "ftyp" tell them apart: heic, heix, hevc, ..."""
    return data[4:8] == b"ftyp" and (b"hei" in data[8:64] or b"hev" in data[8:64])


def _heic_to_png(data: bytes) -> bytes:
    if importlib.util.find_spec("pi_heif") is None:
        raise ImageError(
            "HEIC photos cannot be read here, because the package pi-heif is not installed: please save the image as "
            "JPEG or PNG, and use that."
        )
    command = [sys.executable, "-P", heic.__file__, str(MAX_PIXELS), str(DRAFT_SIDE)]
    if not _HEIC_PLACES.acquire(blocking=False):
        raise BusyError("Other HEIC photos are being decoded: try again in a few seconds, or save it as JPEG.")
    try:
        with _ONE_HEIC:
            done = subprocess.run(command, input=data, capture_output=True, timeout=HEIC_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        raise ImageError(_DAMAGED) from None
    finally:
        _HEIC_PLACES.release()
    if done.returncode == heic.TOO_LARGE:
        raise ImageError(_too_large(done.stdout.decode()))
    if done.returncode != 0:
        raise ImageError(_DAMAGED)
    return done.stdout


def _check_size(image: ImageFile.ImageFile, data: bytes, by_rows: bool) -> None:
    """Raise ImageError before pixels are decoded, by what the header claims."""
    limit = MAX_PIXELS_JPEG if by_rows else MAX_PIXELS
    width, height = image.size
    if width * height > limit:
        raise ImageError(_too_large(f"{width} x {height} pixels"))
    # Inside a scan 0xff is always followed by zero, so this counts scans (and those of an embedded thumbnail).
    if isinstance(image, JpegImagePlugin.JpegImageFile) and data.count(b"\xff\xda") > MAX_SCANS:
        raise ImageError(
            f"This JPEG is stored in more than {MAX_SCANS} passes, which takes too long to decode: save it again as an "
            "ordinary JPEG, and use that."
        )


def _too_large(given: str = "more pixels than memory holds") -> str:
    return (
        f"This image has {given}, and the limit is {MAX_PIXELS // 10**6} million pixels, or "
        f"{MAX_PIXELS_JPEG // 10**6} million in a plain JPEG that has at least {2 * DRAFT_SIDE} on its shorter side: "
        "make it smaller, and use that."
    )


def _decodes_by_rows(image: ImageFile.ImageFile) -> bool:
    """Whether an opened file is a JPEG of which the decoder holds a few rows: baseline, with all its channels in
    the first scan. Otherwise libjpeg holds the coefficients of the whole image, whatever draft() asks: 370 MB at 64
    million pixels. A file whose segments do not follow each other plainly is none, because where padding or a marker
    without a length stands, the decoder may find another first scan than this. Reads from the image's file; load()
    finds its own place there."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.info.get("progressive"):
        return False
    at = 2  # behind the start marker; every segment is ff, marker, 2 bytes of length, payload
    while True:
        image.fp.seek(at)
        head = image.fp.read(5)
        if len(head) < 5 or head[0] != 0xFF:
            return False
        if head[1] == 0xDA:
            return head[4] == len(image.getbands())
        length = int.from_bytes(head[2:4], "big")
        if not 0xC0 <= head[1] <= 0xFE or 0xD0 <= head[1] <= 0xD9 or length < 2:
            return False
        at += 2 + length


def _check_depth(image: Image.Image) -> None:
    """Refuse pixel types that do not say which value is white."""
    if image.mode in ("F", "I"):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise ImageError(
            f"This image holds {kind} pixels, which do not say how bright white is: save it with 8 or 16 bits per "
            "channel, and use that."
        )


def _normalize_gray16_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    """In place, to 0 for black and 65535 for white: Pillow leaves 12-bit values as they are, and those of a file that
    counts from white, inverted."""
    bits, white_is_zero = image.tag_v2[BITSPERSAMPLE][0], image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
    if bits == 16 and not white_is_zero:
        return
    values = np.asarray(image) << (16 - bits)  # uint16 (H, W)
    image.frombytes((65535 - values if white_is_zero else values).astype("<u2").tobytes())


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(274))
    except Exception:  # a broken EXIF block must not cost the visitor the image; its parser raises anything
        return image
    return image if turn is None else image.transpose(turn)


def _central_square(image: Image.Image) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2  # whole pixels: a 33x32 image must not be blurred
    return image if width == height else image.crop((left, top, left + side, top + side))


def _pad_to_square(image: Image.Image, side: int) -> Image.Image:
    """Shrunk first and padded then: the white square around a 65500x1 image would be 13 GB."""
    longer = max(image.size)
    width, height = (max(1, round(side * own / longer)) for own in image.size)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(_resize(image, (width, height)), ((side - width) // 2, (side - height) // 2))
    return square


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Where both axes shrink to a quarter or less, box: each output pixel is the mean of what it covers, which keeps
    more contrast than wider kernels (1,667 validation images, enlarged to 150 ... 333 pixels and shrunk again: 91.4 to
    91.7% right, with Lanczos 91.2 to 91.5%, with bicubic 90.9 to 91.0%). Else bicubic: over so few pixels box aliases.
    Pillow fits either kernel to the scale. reducing_gap=4 averages whole blocks of pixels first: six times faster on
    1000x750, within 3 of 255 levels."""
    shrinks = min(before / after for before, after in zip(image.size, size, strict=True))
    kernel = Image.Resampling.BOX if shrinks >= 4 else Image.Resampling.BICUBIC
    return image.resize(size, kernel, reducing_gap=4.0)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB at the same size; what is transparent turns white, whatever color hides below."""
    _check_depth(image)
    if image.mode.startswith("I;16"):
        image = _gray16_to_8(image)
    elif image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(image, mask=image)  # the mask is the image's own alpha channel
    return canvas


def _gray16_to_8(image: Image.Image) -> Image.Image:
    """Keep the upper byte; Pillow's own convert() clips at 255 and turns nearly every 16-bit image white."""
    values = np.asarray(image)  # uint16 (H, W)
    gray = Image.fromarray((values >> 8).astype(np.uint8))
    if "transparency" in image.info:  # one 16-bit value of a PNG that means "nothing here"
        gray.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return gray
