"""`model.preprocess` for any image and any file: what hypothesis tries to break, with the same cases every time."""

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from model.preprocess import FITS, ImageError, open_image, preprocess, to_square_rgb
from tests.image_files import encode, exif
from tests.test_preprocess import smooth

tried = settings(derandomize=True, deadline=None, database=None)

MODES = {  # bits per pixel
    **{"1": 1, "L": 8, "P": 8, "LA": 16, "La": 16, "PA": 16, "I;16": 16, "I;16L": 16, "I;16B": 16},
    **{"RGB": 24, "YCbCr": 24, "LAB": 24, "HSV": 24, "RGBX": 32, "RGBA": 32, "RGBa": 32, "CMYK": 32},
}

sides = st.integers(1, 80) | st.integers(81, 300)
sizes = (
    st.tuples(sides, sides)
    | st.tuples(st.integers(1, 3), st.integers(300, 9000))
    | st.tuples(st.integers(300, 9000), st.integers(1, 3))
)
fits = st.sampled_from(FITS)


@st.composite
def images(draw):
    """A image as a reader of Pillow may give it: noise or one value, maybe with a transparent value, maybe turned."""
    mode, (width, height) = draw(st.sampled_from(sorted(MODES))), draw(sizes)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    count = (width * MODES[mode] + 7) // 8 * height  # rows of mode "1" end at a whole byte
    data = random.bytes(count) if draw(st.booleans()) else bytes([draw(st.integers(0, 255))]) * count
    image = Image.new(mode, (width, height))
    image.frombytes(data)
    if mode in ("P", "PA"):
        image.putpalette(random.bytes(768))
    if mode in ("1", "L", "P", "I;16") and draw(st.booleans()):
        image.info["transparency"] = draw(st.integers(0, 255))
    if mode == "RGB" and draw(st.booleans()):
        image.info["transparency"] = tuple(data[:3])
    orientation = draw(st.none() | st.integers(0, 9))
    if orientation is not None:
        image.info["exif"] = exif(orientation)
    return image


@settings(tried, max_examples=150)
@given(images(), fits)
def test_any_image_becomes_a_finite_array_of_the_promised_kind_and_stays_as_it_was(image, fit):
    before, info = image.copy(), dict(image.info)
    array = preprocess(image, fit)
    assert image == before and image.info == info
    assert array.shape == (3, 32, 32) and array.dtype == np.float32 and array.flags.c_contiguous
    assert np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1


@settings(tried, max_examples=150)
@given(images(), fits, fits)
def test_preprocessing_the_square_image_again_changes_nothing_under_any_fit(image, fit, again):
    square = to_square_rgb(image, fit)
    assert square.mode == "RGB" and square.size == (32, 32)
    assert to_square_rgb(square, again) == square
    assert np.array_equal(preprocess(square, again), preprocess(image, fit))


def opened(data):
    """The image, or None where it was refused; any other exception fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about some of the broken metadata
        try:
            image = open_image(data)
            assert preprocess(image).shape == (3, 32, 32)
            return image
        except ImageError as error:
            assert str(error).endswith(".") and len(str(error)) < 300
            return None


LEADS = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBP", b"GIF89a", b"BM", b"II*\0", b"MM\0*")


@settings(tried, max_examples=300)
@given(st.sampled_from(LEADS), st.binary(max_size=400))
def test_arbitrary_bytes_end_in_an_image_or_an_image_error(lead, rest):
    opened(lead + rest)


FILES = {
    **{kind: encode(smooth(24, 20), kind, exif=exif(6)) for kind in ("JPEG", "PNG", "WEBP", "TIFF")},
    **{kind: encode(smooth(24, 20), kind) for kind in ("GIF", "BMP", *["AVIF"] * features.check("avif"))},
    "progressive JPEG": encode(smooth(24, 20), "JPEG", progressive=True),
    "palette PNG": encode(Image.fromarray(smooth(24, 20)).quantize(8), "PNG", transparency=3),
    "16-bit TIFF": encode(Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24) * 99), "TIFF"),
    "LZW TIFF": encode(smooth(24, 20), "TIFF", compression="tiff_lzw"),
}


@st.composite
def damaged(draw):
    """A file with some of its bytes set, removed or added; heads, where sizes and offsets lie, more often."""
    data = bytearray(FILES[draw(st.sampled_from(sorted(FILES)))])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, min(100, len(data))) | st.integers(0, len(data)))
        length = draw(st.integers(0, 4))
        data[at : at + length] = draw(st.binary(max_size=4) | st.just(b"\xff" * length) | st.just(bytes(length)))
    return bytes(data[: draw(st.integers(1, len(data)))] if data and draw(st.booleans()) else data)


@settings(tried, max_examples=300)
@given(damaged())
def test_a_damaged_file_ends_in_an_image_or_an_image_error(data):
    opened(data)
