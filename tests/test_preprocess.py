"""What `model.preprocess` promises. The oracles are numpy arithmetic and files built by hand, not Pillow's results."""

import colorsys
import importlib
import io
import pickle
import resource
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from model.preprocess import (
    FITS,
    PictureError,
    PixelSemaphore,
    open_limited,
    open_picture,
    preprocess,
    to_square_rgb,
)
from tests.heic import SIDE, alpha, box, coded, exif_item, heic, overlay

module = importlib.import_module("model.preprocess")  # `from model import preprocess` is the function
needs_avif = pytest.mark.skipif("AVIF" not in module._READERS, reason="this Pillow was built without AVIF")
AVIF = pytest.param("AVIF", marks=needs_avif)

# -- making pictures and files -----------------------------------------------------------------------------------------


def noise(width=32, height=32, channels=3, seed=0):
    """uint8 (height, width, channels), or (height, width) for one channel; no turn or flip of it equals another."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(width=96, height=96):
    """uint8 (height, width, 3) that survives JPEG: a gradient per channel."""
    y, x = np.mgrid[0:height, 0:width]
    x, y = x / (width - 1), y / (height - 1)
    return np.stack([255 * x, 255 * y, 255 * (1 - x) * y], -1).astype(np.uint8)


def encode(picture, kind, **options):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(tag, data):
    return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))


def hand_built_png(width, height, bits, colour_type, rows, *extra):
    """A PNG whose header may claim any size; colour_type 0 is grey, 2 RGB, 6 RGBA."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def with_claimed_size(jpeg, width, height):
    """The same JPEG with another size in its frame header."""
    at = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def exif(orientation):
    block = Image.Exif()
    block[274] = orientation
    return block.tobytes()


def square(file, fit="crop"):
    return np.asarray(to_square_rgb(open_picture(file), fit)).astype(int)  # (32, 32, 3)


# -- the array ---------------------------------------------------------------------------------------------------------


def test_a_32x32_rgb_picture_becomes_exactly_its_bytes_over_255_channels_first():
    pixels = noise()
    array = preprocess(Image.fromarray(pixels))
    assert array.shape == (3, 32, 32) and array.dtype == np.float32 and array.flags.c_contiguous
    assert np.array_equal(array, pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def test_every_level_from_0_to_255_keeps_its_own_value_in_0_to_1():
    levels = np.arange(1024).reshape(32, 32) % 256
    array = preprocess(Image.fromarray(np.stack([levels] * 3, -1).astype(np.uint8)))
    assert array.min() == 0 and array.max() == 1
    assert sorted(set(array[0].ravel().tolist())) == [float(np.float32(k) / np.float32(255)) for k in range(256)]


@pytest.mark.parametrize("fit", FITS)
def test_a_32x32_rgb_picture_passes_bit_for_bit_under_every_fit(fit):
    pixels = noise(seed=1)
    result = to_square_rgb(Image.fromarray(pixels), fit)
    assert result.mode == "RGB" and np.array_equal(np.asarray(result), pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_lossless_file_of_32x32_passes_bit_for_bit(kind):
    pixels = noise(seed=2)
    assert np.array_equal(square(encode(pixels, kind, **({"lossless": True} if kind == "WEBP" else {}))), pixels)


def test_the_picture_given_is_left_as_it_was():
    picture = Image.fromarray(noise(40, 32, 4))
    before = picture.copy()
    to_square_rgb(picture).putpixel((0, 0), (1, 2, 3))
    assert picture == before


def test_an_unknown_fit_is_refused_and_the_three_are_named():
    with pytest.raises(ValueError, match="'zoom'.*crop, pad, stretch"):
        preprocess(Image.new("RGB", (32, 32)), "zoom")


def test_anything_but_a_pillow_picture_is_refused_with_a_way_out():
    with pytest.raises(TypeError, match="got ndarray.*Image.fromarray"):
        preprocess(noise())


# -- geometry ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width, height, left, top", [(64, 32, 16, 0), (32, 64, 0, 16), (33, 32, 0, 0), (34, 32, 1, 0)])
def test_crop_takes_the_central_square_on_whole_pixels(width, height, left, top):
    pixels = noise(width, height)
    result = to_square_rgb(Image.fromarray(pixels), "crop")
    assert np.array_equal(np.asarray(result), pixels[top : top + 32, left : left + 32])


def test_pad_shows_everything_between_white_bars():
    black = np.zeros((64, 128, 3), np.uint8)
    expected = np.full((32, 32, 3), 255)
    expected[8:24] = 0
    assert np.array_equal(to_square_rgb(Image.fromarray(black), "pad"), expected)
    assert np.array_equal(to_square_rgb(Image.fromarray(black.transpose(1, 0, 2)), "pad"), expected.transpose(1, 0, 2))


def test_stretch_squashes_the_whole_picture():
    flag = np.zeros((32, 320, 3), np.uint8)
    flag[:, 80:] = 200
    result = np.asarray(to_square_rgb(Image.fromarray(flag), "stretch"))
    assert (result[:, :6] == 0).all() and (result[:, 10:] == 200).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_square_picture_is_turned_once_and_preprocessing_it_again_changes_nothing(orientation, fit):
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(noise(48, 64)).save(file, "PNG", exif=exif.tobytes())
    picture = open_picture(file.getvalue())
    square = to_square_rgb(picture, fit)
    assert np.array_equal(preprocess(square, fit), preprocess(picture, fit))
    assert picture.getexif()[274] == orientation  # the caller's picture keeps its own


def test_the_default_is_crop():
    pixels = Image.fromarray(noise(64, 32))
    assert np.array_equal(preprocess(pixels), preprocess(pixels, "crop"))
    assert not np.array_equal(preprocess(pixels), preprocess(pixels, "pad"))


@pytest.mark.parametrize("side", [96, 100, 640, 1999])
def test_shrinking_averages_so_that_a_checkerboard_turns_grey_instead_of_aliasing(side):
    y, x = np.mgrid[0:side, 0:side]
    board = ((x + y) % 2 * 255).astype(np.uint8)
    result = np.asarray(to_square_rgb(Image.fromarray(board))).astype(int)
    assert abs(result[1:-1, 1:-1] - 127.5).max() <= 6


@pytest.mark.parametrize("side", [320, 2048])
def test_shrinking_a_smooth_picture_gives_the_mean_of_each_block(side):
    pixels = smooth(side, side)
    block = side // 32
    means = pixels.reshape(32, block, 32, block, 3).mean((1, 3))
    assert abs(np.asarray(to_square_rgb(Image.fromarray(pixels))) - means).max() <= 2


@pytest.mark.parametrize("side", [128, 512])
def test_a_picture_that_shrinks_to_a_quarter_or_less_keeps_the_exact_mean_of_each_block(side):
    pixels = noise(side, side)
    block = side // 32
    means = pixels.reshape(32, block, 32, block, 3).mean((1, 3))
    assert abs(np.asarray(to_square_rgb(Image.fromarray(pixels))) - means).max() <= 1.5


def test_enlarging_is_smooth_and_keeps_the_corners_in_place():
    four = np.array([[[0, 0, 0], [200, 0, 0]], [[0, 200, 0], [0, 0, 200]]], np.uint8)
    result = np.asarray(to_square_rgb(Image.fromarray(four))).astype(int)
    assert abs(result[[0, 0, -1, -1], [0, -1, 0, -1]] - four.reshape(4, 3)).max() <= 55  # bicubic overshoots
    assert abs(np.diff(result, axis=0)).max() <= 20 and abs(np.diff(result, axis=1)).max() <= 20  # nearest jumps by 200


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (31, 33), (1, 10_000), (10_000, 1), (65_500, 1)])
def test_a_plain_picture_of_any_shape_keeps_its_colour(size, fit):
    result = np.asarray(to_square_rgb(Image.new("RGB", size, (90, 120, 30)), fit))
    colour = (result == (90, 120, 30)).all(-1)
    white = (result == 255).all(-1)
    rows, columns = (max(1, round(32 * side / max(size))) if fit == "pad" else 32 for side in size[::-1])
    assert (colour | white).all() and colour.sum() == rows * columns
    top, left = (32 - rows) // 2, (32 - columns) // 2
    assert colour[top : top + rows, left : left + columns].all()


# -- modes -------------------------------------------------------------------------------------------------------------


def test_grey_is_repeated_in_three_channels():
    grey = noise(channels=1)
    assert np.array_equal(to_square_rgb(Image.fromarray(grey)), np.stack([grey] * 3, -1))


def test_one_bit_is_black_and_white():
    bits = noise(channels=1) > 127
    assert np.array_equal(to_square_rgb(Image.fromarray(bits)), np.stack([bits * 255] * 3, -1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_equals_its_8_bit_version(kind):
    grey = noise(48, 40, channels=1)
    deep = encode(Image.fromarray(grey.astype(np.uint16) * 257), kind)
    assert open_picture(deep).mode.startswith("I;16")
    assert np.array_equal(square(deep), square(encode(grey, kind)))


def grey_tiff(data: bytes, bits: int, white_is_zero: bool | None) -> bytes:
    """Little-endian, 32 x 32, one strip of `data`. None: it does not say which value is white."""
    entries = {
        256: 32,
        257: 32,
        258: bits,
        259: 1,
        262: int(not white_is_zero),
        273: 8,
        277: 1,
        278: 32,
        279: len(data),
    }
    if white_is_zero is None:
        del entries[262]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(entries)) + table + bytes(4)


@pytest.mark.parametrize("fit", FITS)
def test_a_16_bit_grey_tiff_that_counts_from_white_is_turned_round(fit):
    grey = noise(channels=1)
    data = ((255 - grey).astype("<u2") * 257).tobytes()
    assert np.array_equal(square(grey_tiff(data, 16, white_is_zero=True), fit)[..., 0], grey)
    assert np.array_equal(square(grey_tiff(data, 16, white_is_zero=False), fit)[..., 0], 255 - grey)
    assert np.array_equal(square(grey_tiff(data, 16, white_is_zero=None), fit)[..., 0], 255 - grey)


def test_a_12_bit_grey_tiff_equals_its_8_bit_version():
    grey = noise(channels=1)
    first, second = (grey.astype(np.uint16) << 4).reshape(-1, 2).T  # two values to three bytes
    data = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    assert np.array_equal(square(grey_tiff(data, 12, white_is_zero=False))[..., 0], grey)


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_drops_the_lower_byte_in_either_byte_order(order):
    values = np.random.default_rng(0).integers(0, 65536, (32, 32)).astype(f"{order}u2")
    picture = Image.frombytes("I;16" if order == "<" else "I;16B", (32, 32), values.tobytes())
    assert np.array_equal(np.asarray(to_square_rgb(picture))[..., 0], values // 256)


def test_16_bit_rgb_equals_its_8_bit_version():
    pixels = noise()
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in pixels)
    assert np.array_equal(square(hand_built_png(32, 32, 16, 2, rows)), pixels)


def test_the_transparent_value_of_a_16_bit_grey_png_turns_white():
    values = np.full((32, 32), 0x1234, ">u2")
    values[:, 16:] = 0x1235
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    result = square(hand_built_png(32, 32, 16, 0, rows, chunk(b"tRNS", b"\x12\x34")))
    assert (result[:, :16] == 255).all() and (result[:, 16:] == 0x12).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(mode):
    raw = noise(channels=4)
    picture = Image.fromarray(raw[..., :1].repeat(3, -1) if mode == "LA" else raw[..., :3])
    picture = picture.convert("L" if mode == "LA" else "RGB")
    picture.putalpha(Image.fromarray(raw[..., 3]))
    assert picture.mode == mode
    colour = (raw[..., :1] if mode == "LA" else raw[..., :3]).astype(float)
    alpha = raw[..., 3:] / 255
    expected = colour * alpha + 255 * (1 - alpha)
    assert abs(np.asarray(to_square_rgb(picture)) - expected).max() <= 1


@pytest.mark.parametrize("mode, pixel", [("RGBa", (50, 25, 0, 100)), ("La", (50, 100))])
def test_premultiplied_transparency_is_laid_over_white(mode, pixel):
    expected = np.array([pixel[0], pixel[1] if len(pixel) == 4 else pixel[0], pixel[0] if len(pixel) == 2 else 0]) + 155
    assert abs(np.asarray(to_square_rgb(Image.new(mode, (32, 32), pixel))).astype(int) - expected).max() <= 1


def test_a_palette_with_an_alpha_channel_beside_it_is_laid_over_white():
    indices = Image.new("P", (32, 32), 1)
    indices.putpalette([0, 0, 0, 10, 20, 30])
    picture = Image.merge("PA", (indices, Image.new("L", (32, 32), 255)))
    picture.putpalette([0, 0, 0, 10, 20, 30])
    assert (np.asarray(to_square_rgb(picture)) == (10, 20, 30)).all()
    clear = Image.merge("PA", (indices, Image.new("L", (32, 32), 0)))
    clear.putpalette([0, 0, 0, 10, 20, 30])
    assert (np.asarray(to_square_rgb(clear)) == 255).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("colour", [(255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 0, 0)])
def test_the_colour_hidden_under_full_transparency_does_not_matter(colour, fit):
    assert (square(encode(Image.new("RGBA", (64, 40), colour), "PNG"), fit) == 255).all()


def test_a_hidden_colour_does_not_bleed_over_the_edge_when_the_picture_shrinks():
    pixels = np.zeros((320, 320, 4), np.uint8)
    pixels[:, :] = (255, 0, 0, 0)
    pixels[80:240, 80:240] = (0, 0, 0, 255)
    result = np.asarray(to_square_rgb(Image.fromarray(pixels))).astype(int)
    assert (result[..., 0] == result[..., 1]).all()  # black, white and greys, no red


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_turns_white(kind):
    indices = np.zeros((32, 32), np.uint8)
    indices[:, 16:] = 1
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette([200, 0, 0, 10, 20, 30])
    result = square(encode(picture, kind, transparency=0))
    assert (result[:, :16] == 255).all() and (result[:, 16:] == (10, 20, 30)).all()


def test_a_palette_with_one_alpha_per_entry_is_laid_over_white():
    picture = Image.new("P", (32, 32), 1)
    picture.putpalette([0, 0, 0, 100, 0, 200])
    result = square(encode(picture, "PNG", transparency=bytes([255, 51])))  # a fifth opaque
    assert abs(result - (224, 204, 244)).max() <= 1


def test_an_opaque_palette_shows_its_colours():
    indices = noise(channels=1) % 3
    palette = np.array([[250, 1, 2], [3, 240, 4], [5, 6, 230]], np.uint8)
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette(palette.ravel().tolist())
    assert np.array_equal(square(encode(picture, "PNG")), palette[indices])


def test_the_transparent_colour_of_an_rgb_png_turns_white():
    pixels = np.full((32, 32, 3), (250, 20, 20), np.uint8)
    pixels[:, 16:] = (10, 20, 30)
    result = square(encode(pixels, "PNG", transparency=(250, 20, 20)))
    assert (result[:, :16] == 255).all() and (result[:, 16:] == (10, 20, 30)).all()


def test_cmyk_is_inks_on_white_paper():
    inks = noise(channels=4)
    paper = 1 - inks / 255
    expected = 255 * paper[..., :3] * paper[..., 3:]
    picture = Image.frombytes("CMYK", (32, 32), inks.tobytes())
    assert abs(np.asarray(to_square_rgb(picture)) - expected).max() <= 1
    assert abs(square(encode(picture, "TIFF")) - expected).max() <= 1


def test_a_cmyk_jpeg_is_not_inverted():
    ink = Image.new("CMYK", (64, 64), (255, 0, 0, 0))  # pure cyan
    assert abs(square(encode(ink, "JPEG", quality=100)) - (0, 255, 255)).max() <= 3


def test_ycbcr_follows_the_jfif_formula():
    y, cb, cr = noise().astype(float).transpose(2, 0, 1)
    rgb = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    picture = Image.frombytes("YCbCr", (32, 32), noise().tobytes())
    assert abs(np.asarray(to_square_rgb(picture)) - np.clip(np.stack(rgb, -1), 0, 255)).max() <= 2


def test_hsv_agrees_with_the_standard_library():
    raw = noise()
    rgb = np.array([colorsys.hsv_to_rgb(*(pixel / 255)) for pixel in raw.reshape(-1, 3)]).reshape(32, 32, 3) * 255
    assert abs(np.asarray(to_square_rgb(Image.frombytes("HSV", (32, 32), raw.tobytes()))) - rgb).max() <= 6


@pytest.mark.parametrize("lab, rgb", [((255, 0, 0), (255, 255, 255)), ((136, 80, 67), (255, 0, 0))])
def test_lab_white_and_lab_red_are_white_and_red(lab, rgb):
    picture = Image.frombytes("LAB", (32, 32), bytes(lab) * 1024)  # L: 255 for 100; a and b are signed
    assert abs(np.asarray(to_square_rgb(picture)).astype(int) - rgb).max() <= 12


@pytest.mark.parametrize("mode, name", [("F", "floating-point"), ("I", "32-bit integer")])
def test_pixels_without_a_known_white_are_refused(mode, name):
    picture = Image.new(mode, (32, 32), 1)
    with pytest.raises(PictureError, match=f"{name}.*8 or 16 bits"):
        to_square_rgb(picture)
    with pytest.raises(PictureError, match=f"{name}.*8 or 16 bits"):
        open_picture(encode(picture, "TIFF"))


# -- orientation -------------------------------------------------------------------------------------------------------

STORED = {  # EXIF 2.3, tag 274: where the visual top and left of `a` (H, W, 3) lie in the rows and columns stored
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind, options", [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_a_turned_photo_is_seen_upright(kind, options, orientation):
    upright = noise(48, 33)
    stored = np.ascontiguousarray(STORED[orientation](upright))
    for fit in FITS:
        expected = np.asarray(to_square_rgb(Image.fromarray(upright), fit))
        assert np.array_equal(square(encode(stored, kind, exif=exif(orientation), **options), fit), expected)


@pytest.mark.parametrize("orientation", STORED)
def test_a_turned_jpeg_is_seen_upright_after_being_shrunk_by_the_decoder(orientation):
    upright = smooth(1600, 1200)
    file = encode(np.ascontiguousarray(STORED[orientation](upright)), "JPEG", quality=95, exif=exif(orientation))
    assert max(open_picture(file).size) < 1600
    assert abs(square(file, "stretch") - np.asarray(to_square_rgb(Image.fromarray(upright), "stretch"))).max() <= 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "block", [exif(99), exif(0), b"Exif\0\0", b"Exif\0\0not TIFF", b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 60]
)
def test_a_broken_exif_block_is_ignored(block):
    pixels = noise()
    assert np.array_equal(square(encode(pixels, "PNG", exif=block)), pixels)
    jpeg = encode(smooth(32, 32), "JPEG", quality=100, subsampling=0, exif=block)
    assert abs(square(jpeg) - smooth(32, 32)).max() <= 6


# -- files that are fine -----------------------------------------------------------------------------------------------


def test_a_path_bytes_and_an_open_file_give_the_same_picture(tmp_path):
    data = encode(noise(50, 40), "PNG")
    path = tmp_path / "picture.of.no.type"
    path.write_bytes(data)
    expected = open_picture(data)
    with path.open("rb") as file:
        for given in (path, str(path), bytearray(data), memoryview(data), io.BytesIO(data), file):
            assert open_picture(given) == expected
        assert not file.closed


def test_an_open_file_is_read_from_where_it_stands():
    file = io.BytesIO(b"before" + encode(noise(), "PNG"))
    file.seek(6)
    assert np.array_equal(square(file), noise())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", AVIF, "MPO"])
def test_every_promised_format_is_read(kind):
    flat = Image.new("RGB", (64, 64), (200, 100, 50))
    assert abs(square(encode(flat, kind)) - (200, 100, 50)).max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert open_picture(file).n_frames == 3
    assert (square(file) == (255, 0, 0)).all()


def test_bytes_behind_the_picture_do_not_matter():
    assert np.array_equal(square(encode(noise(), "PNG") + b"PK\x03\x04" + bytes(5000)), noise())


@pytest.mark.parametrize(
    "size, expected", [((4000, 3000), (500, 375)), ((512, 511), (512, 511)), ((700, 90), (700, 90))]
)
def test_a_jpeg_is_shrunk_while_decoding_as_long_as_both_sides_keep_256_pixels(size, expected):
    assert open_picture(encode(Image.new("RGB", size), "JPEG")).size == expected


def test_shrinking_while_decoding_leaves_the_32x32_picture_as_it_was():
    pixels = smooth(2048, 1536)
    expected = np.asarray(to_square_rgb(Image.fromarray(pixels)))
    assert abs(square(encode(pixels, "JPEG", quality=95)) - expected).max() <= 3


# -- files that are refused --------------------------------------------------------------------------------------------

LIMIT = "25 million pixels, or 64 million in a plain JPEG"
DAMAGED = "damaged or incomplete"


def refusal(file):
    with pytest.raises(PictureError) as caught:
        open_picture(file)
    return str(caught.value)


@pytest.mark.parametrize("size", [(60_000, 60_000), (60_000, 1000), (10_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_the_size_in_its_header_without_a_warning(size, recwarn):
    message = refusal(hand_built_png(*size, 8, 2, bytes(100)))
    assert f"{size[0]} x {size[1]} pixels" in message and LIMIT in message
    assert not recwarn.list and Image.MAX_IMAGE_PIXELS < 10**8  # nor was Pillow's own limit lifted for everybody


def test_the_limit_is_25_million_pixels_exactly():
    assert DAMAGED in refusal(hand_built_png(5000, 5000, 1, 0, bytes(100)))  # decoding began, and found no pixels
    assert LIMIT in refusal(hand_built_png(25_000_001, 1, 1, 0, bytes(100)))


def test_a_gif_whose_frame_outgrows_its_screen_is_refused():
    screen = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\2\1\0\0;"
    assert LIMIT in refusal(screen + frame)


def test_a_webp_of_34_bytes_cannot_claim_two_gigabytes():
    claim = b"\x2f" + struct.pack("<I", 12_999 | 12_999 << 14) + bytes(9)
    vp8l = b"WEBP" + b"VP8L" + struct.pack("<I", len(claim)) + claim
    assert "13000 x 13000" in refusal(b"RIFF" + struct.pack("<I", len(vp8l)) + vp8l)


def test_a_plain_jpeg_may_have_64_million_pixels_exactly():
    jpeg = encode(smooth(), "JPEG")
    assert open_picture(with_claimed_size(jpeg, 8000, 8000)).size == (1000, 1000)  # what is missing decodes as grey
    assert LIMIT in refusal(with_claimed_size(jpeg, 8000, 8001))


def test_a_plain_jpeg_that_is_too_narrow_to_be_shrunk_may_have_25_million_pixels():
    jpeg, told = encode(smooth(), "JPEG"), []
    assert open_picture(with_claimed_size(jpeg, 512, 62_500), told.append).size == (256, 31_250)
    assert open_picture(with_claimed_size(jpeg, 500, 50_000), told.append).size == (500, 50_000)
    assert told == [256 * 31_250, 500 * 50_000]
    assert LIMIT in refusal(with_claimed_size(jpeg, 500, 50_001))
    assert LIMIT in refusal(with_claimed_size(jpeg, 511, 62_500))


def test_a_progressive_jpeg_may_not_because_its_decoder_holds_the_whole_picture():
    jpeg = encode(smooth(), "JPEG", progressive=True)
    assert open_picture(jpeg).size == (96, 96)
    assert LIMIT in refusal(with_claimed_size(jpeg, 8000, 8000))


def one_scan_per_channel(width, height):
    """A baseline JPEG, all grey, whose three channels come one after the other: two zero bits code a block."""
    segment = lambda marker, body: bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body  # noqa: E731
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"".join(bytes([channel, 0x11, 0]) for channel in (1, 2, 3))
    tables = b"".join(segment(0xC4, bytes([kind, 1]) + bytes(16)) for kind in (0x00, 0x10))
    blocks = bytes(-(-width // 8) * -(-height // 8) // 4 + 1)
    scans = b"".join(segment(0xDA, bytes([1, channel, 0, 0, 63, 0])) + blocks for channel in (1, 2, 3))
    return b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC0, frame) + tables + scans + b"\xff\xd9"


def test_nor_may_a_baseline_jpeg_that_stores_its_channels_one_after_the_other():
    assert abs(square(one_scan_per_channel(64, 64)) - 128).max() <= 1
    assert LIMIT in refusal(one_scan_per_channel(8000, 8000))


def test_nor_may_one_that_hides_it_behind_a_padded_comment():
    """Who takes the padding for a marker finds a first scan of all channels where the "length" 0xfeff leads to."""
    comment = bytearray(0xFFFF - 2)
    at = 2 + 2 + 0xFEFF - 7  # the comment's text begins at byte 7
    comment[at : at + 5] = b"\xff\xda\0\x0c\x03"
    crafted = lambda jpeg: jpeg[:2] + b"\xff\xff\xfe\xff\xff" + comment + jpeg[2:]  # noqa: E731
    assert abs(square(crafted(one_scan_per_channel(64, 64))) - 128).max() <= 1
    assert LIMIT in refusal(crafted(one_scan_per_channel(8000, 8000)))


def test_a_jpeg_of_endless_scans_is_refused():
    jpeg = encode(smooth(), "JPEG", progressive=True)
    last = jpeg.rfind(b"\xff\xda")
    assert open_picture(jpeg[:-2] + jpeg[last:-2] * 50 + b"\xff\xd9").size == (96, 96)
    assert "100 passes" in refusal(jpeg[:-2] + jpeg[last:-2] * 100 + b"\xff\xd9")


def test_a_file_over_the_byte_limit_is_refused(monkeypatch):
    data = encode(noise(), "PNG")
    monkeypatch.setattr(module, "MAX_BYTES", len(data))
    assert open_picture(data).size == (32, 32)
    assert "over the limit" in refusal(data + b"\0")
    assert "over the limit" in refusal(io.BytesIO(data + b"\0"))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", AVIF])
def test_half_a_file_is_refused(kind):
    data = encode(noise(96, 96), kind)
    assert DAMAGED in refusal(data[: len(data) // 2])
    assert DAMAGED in refusal(data[:24])


def test_one_wrong_byte_in_a_png_is_noticed():
    data = bytearray(encode(noise(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    assert DAMAGED in refusal(bytes(data))


def test_a_picture_without_pixels_is_refused():
    assert DAMAGED in refusal(hand_built_png(0, 0, 8, 2, b""))


@pytest.mark.parametrize("empty", [b"", io.BytesIO()])
def test_an_empty_file_is_called_empty(empty):
    assert "empty" in refusal(empty)


class Command:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize(
    "data",
    [
        b"this is not an image\n" * 50,
        b"<html><script>alert(1)</script></html>",
        pickle.dumps(Command()),
        np.random.default_rng(0).bytes(5000),
        b"\x89",
        b"PK\x03\x04" + bytes(200),
        encode(smooth(), "EPS"),  # Pillow would start Ghostscript
        encode(smooth(), "PPM"),
        b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"%PDF-1.7\n" + bytes(500),
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(500),
        b"\xff\x0a" + bytes(500),
        b"8BPS\0\1" + bytes(500),
        b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + bytes(500),
    ],
    ids=["text", "html", "pickle", "random", "one byte", "zip", "eps", "ppm"]
    + ["svg", "pdf", "jpeg 2000", "jpeg xl", "photoshop", "film"],
)
def test_what_is_not_a_picture_is_refused_and_the_formats_are_listed(data):
    message = refusal(data)
    assert "not an image" in message
    assert all(name in message for name in ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "HEIC"))


def test_a_file_that_is_gone_or_closed_asks_for_another_upload(tmp_path):
    closed = io.BytesIO()
    closed.close()
    for given in (tmp_path / "secret.png", str(tmp_path), "a\0b.png", closed):
        assert refusal(given) == "The uploaded file is gone or cannot be read: please upload it again."


def test_no_message_tells_a_path_a_name_or_a_class(tmp_path):
    bad = {
        "text": b"no picture",
        "half": encode(noise(), "PNG")[:60],
        "large": hand_built_png(60_000, 60_000, 8, 2, b""),
        "float": encode(Image.new("F", (9, 9)), "TIFF"),
        "empty": b"",
    }
    for name, data in bad.items():
        path = tmp_path / f"secret-{name}.png"
        path.write_bytes(data)
        message = refusal(path)
        assert message.endswith(".") and message.count(". ") == 0  # one sentence
        assert not any(word in message for word in ("secret", str(tmp_path), "Error", "Pillow", "PIL"))


@pytest.mark.filterwarnings("ignore")  # Pillow warns about some of the broken metadata
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", AVIF])
def test_randomly_damaged_files_end_in_a_picture_or_a_picture_error_and_nothing_else(kind):
    good = encode(smooth(40, 30), kind, exif=exif(6)) if kind not in ("BMP", "GIF") else encode(smooth(40, 30), kind)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        data = bytearray(good[: random.integers(1, len(good) + 1)] if random.random() < 0.3 else good)
        for at in random.integers(0, len(data), random.integers(1, 8)):
            data[at] = random.integers(0, 256)
        try:
            assert preprocess(open_picture(bytes(data)), "pad").shape == (3, 32, 32)
        except PictureError:
            refused += 1
    assert refused > 0


# -- HEIC --------------------------------------------------------------------------------------------------------------

RED, BLUE, WHITE = (200, 40, 40), (40, 40, 200), (240, 240, 240)


def drawn():
    """uint8 (64, 64, 3): what `coded` holds."""
    pixels = np.full((SIDE, SIDE, 3), RED, np.uint8)
    pixels[:, 32:] = BLUE
    pixels[:32, :16] = WHITE
    return pixels


def assert_shows(file, expected):
    assert abs(square(file) - np.asarray(to_square_rgb(Image.fromarray(expected))).astype(int)).max() <= 12


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_a_heic_photo_is_read_without_its_decoder_coming_into_this_process(brand):
    assert_shows(heic(coded(), brand=brand), drawn())
    assert "pi_heif" not in sys.modules


@pytest.mark.parametrize("quarters", range(4))
def test_a_turned_heic_photo_is_turned_once_though_its_exif_block_says_the_same(quarters):
    orientation = (1, 8, 3, 6)[quarters]  # a quarter in `irot` is 90 degrees against the clock
    turned = heic(coded(box(b"irot", bytes([quarters]))), exif_item(orientation), references=[(b"cdsc", 2, [1])])
    assert_shows(turned, np.ascontiguousarray(np.rot90(drawn(), quarters)))


def test_the_exif_block_alone_does_not_turn_a_heic_photo():
    """ISO 23008-12: it only tells; `irot` and `imir` count."""
    assert_shows(heic(coded(), exif_item(8), references=[(b"cdsc", 2, [1])]), drawn())


@pytest.mark.parametrize(("axis", "flip"), [(0, np.flipud), (1, np.fliplr)])
def test_a_mirrored_heic_photo_is_mirrored(axis, flip):
    assert_shows(heic(coded(box(b"imir", bytes([axis])))), np.ascontiguousarray(flip(drawn())))


def test_of_several_images_in_a_heic_file_the_primary_one_counts():
    upside_down = coded(box(b"irot", b"\2"))
    assert_shows(heic(upside_down, coded(), primary=2), drawn())
    assert_shows(heic(upside_down, coded(), primary=1), np.ascontiguousarray(np.rot90(drawn(), 2)))


def test_a_heic_photo_may_have_an_alpha_channel():
    opened = open_picture(heic(coded(), coded(alpha()), references=[(b"auxl", 2, [1])]))
    assert opened.mode == "RGBA" and abs(np.asarray(opened)[40, 40, 3].astype(int) - 64) < 16  # the grey of blue


def test_a_heic_photo_without_the_package_is_refused_and_the_package_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    message = refusal(heic(coded()))
    assert "pi-heif" in message and message.endswith(".") and message.count(". ") == 0
    assert np.array_equal(square(encode(noise(), "PNG")), noise())


def test_a_heic_photo_is_refused_by_the_size_in_its_header():
    message = refusal(heic(coded(size=(60_000, 60_000))))
    assert "60000 x 60000 pixels" in message and LIMIT in message
    assert DAMAGED in refusal(heic(coded(size=(5000, 5000))))  # decoding began, and found another size


@pytest.mark.parametrize(
    "data",
    [
        heic(coded())[:24],
        heic(coded())[:-100],
        b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(500),
        b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(500),
        heic(coded(size=(32, 32))),
        heic(),
    ],
    ids=["head", "half", "stub", "stub of another brand", "larger than it claims", "no image"],
)
def test_a_broken_heic_photo_is_refused(data):
    assert DAMAGED in refusal(data)


def test_a_randomly_damaged_heic_photo_ends_in_a_picture_or_a_picture_error_and_nothing_else():
    good, random = heic(coded(), exif_item(6), references=[(b"cdsc", 2, [1])]), np.random.default_rng(0)
    for _ in range(20):
        data = bytearray(good)
        for at in random.integers(24, len(data), random.integers(1, 8)):
            data[at] = random.integers(0, 256)
        try:
            assert preprocess(open_picture(bytes(data)), "pad").shape == (3, 32, 32)
        except PictureError:
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited there")
def test_a_heic_canvas_that_its_header_keeps_quiet_about_cannot_take_much_memory():
    assert_shows(heic(overlay(1), coded(), references=[(b"dimg", 1, [2])]), drawn())
    code = (  # in a small process: what a child is counted for begins with the size of its parent
        "import resource, sys; from model.preprocess import PictureError, open_picture\n"
        "try: open_picture(sys.stdin.buffer.read())\nexcept PictureError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    data = heic(overlay(1, canvas=(20_000, 20_000)), coded(), references=[(b"dimg", 1, [2])])
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, check=True, cwd=Path(__file__).parent.parent
    )
    told, kilobytes = done.stdout.decode().splitlines()
    assert DAMAGED in told and int(kilobytes) < 512 * 1024


def overlays_of_overlays(levels):
    """Each level lays the two of the level below over each other, twice."""
    items, references = [coded(), coded()], []
    for below in range(1, 2 * levels, 2):
        items += [overlay(2), overlay(2)]
        references += [(b"dimg", at, [below, below + 1]) for at in (below + 2, below + 3)]
    return heic(*items, references=references, primary=len(items))


def test_a_heic_photo_that_takes_for_ever_is_given_up(monkeypatch):
    assert_shows(overlays_of_overlays(2), drawn())
    monkeypatch.setattr(module, "HEIC_SECONDS", 1)
    began = time.monotonic()
    assert DAMAGED in refusal(overlays_of_overlays(30))
    assert time.monotonic() - began < 3


@pytest.mark.slow
def test_a_heic_photo_that_takes_for_ever_stops_by_itself():
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert DAMAGED in refusal(overlays_of_overlays(30))
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < module.heic.CPU_SECONDS + 1


# -- how much is decoded concurrently ----------------------------------------------------------------------------------


def test_threads_pass_a_semaphore_as_long_as_they_take_no_more_than_it_has():
    semaphore, lock, now, most = PixelSemaphore(10), threading.Lock(), 0, 0

    def work(amount):
        nonlocal now, most
        with semaphore.take(amount):
            with lock:
                now += min(amount, 10)
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= min(amount, 10)

    workers = [threading.Thread(target=work, args=(amount,)) for amount in (4, 1, 10, 3, 99, 3, 4, 0)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == 10 and semaphore.free == 10


def test_what_a_semaphore_gave_to_a_thread_that_failed_comes_back():
    semaphore = PixelSemaphore(10)
    with pytest.raises(ValueError), semaphore.take(10):
        raise ValueError
    assert semaphore.free == 10


def taken():
    return module._DECODED.total - module._DECODED.free


def test_a_picture_costs_its_pixels_as_long_as_it_is_open():
    with open_limited(encode(noise(60, 40), "PNG")) as opened:
        assert opened.size == (60, 40) and taken() == 60 * 40
    assert taken() == 0 and module._DECODED.total == 25_000_000


@pytest.mark.parametrize(("options", "share"), [({}, 16), ({"progressive": True}, 1)], ids=["plain", "progressive"])
def test_a_jpeg_costs_as_much_as_its_decoder_holds_of_it(options, share):
    with open_limited(encode(smooth(2048, 2048), "JPEG", **options)) as opened:
        assert opened.size == (256, 256) and taken() == 2048 * 2048 // share
    assert taken() == 0


def test_heic_photos_are_decoded_one_at_a_time_and_hold_up_no_other_image(monkeypatch):
    running, run = [], module.subprocess.run

    def counted(*args, **settings):
        running.append(module._ONE_HEIC.locked())
        with open_limited(encode(noise(60, 40), "PNG")) as other:
            assert other.size == (60, 40)
        return run(*args, **settings)

    monkeypatch.setattr(module.subprocess, "run", counted)
    with open_limited(heic(coded())) as opened:
        assert opened.size == (SIDE, SIDE) and taken() == SIDE * SIDE
    assert running == [True] and not module._ONE_HEIC.locked() and taken() == 0


def test_who_finds_one_heic_photo_decoding_and_one_waiting_is_told_to_come_back():
    with (
        module._HEIC_PLACES,
        module._HEIC_PLACES,
        pytest.raises(module.BusyError, match="^Other HEIC photos are being"),
    ):
        open_picture(heic(coded()))
    assert open_picture(heic(coded())).size == (SIDE, SIDE)


@pytest.mark.parametrize(
    "data", [b"text", heic(), hand_built_png(9, 9, 8, 2, b"")], ids=["text", "broken HEIC", "broken PNG"]
)
def test_what_is_refused_costs_nothing(data):
    with pytest.raises(PictureError), open_limited(data):
        pass
    assert taken() == 0


@needs_avif
def test_an_avif_that_pillow_would_not_know_by_its_brand_costs_its_pixels_too():
    data = encode(noise(60, 40), "AVIF")
    assert data[8:12] == b"avif" and b"avif" in data[12:64]
    data = data[:8] + b"MA1B" + data[12:]
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data))
    with open_limited(data) as opened:
        assert opened.size == (60, 40) and taken() == 60 * 40
