"""What `model.preprocess` promises, against numpy arithmetic and files built by hand, not Pillow's results."""

import importlib
import io
import resource
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from model.preprocess import FITS, BusyError, ImageError, open_image, open_limited, preprocess, to_square_rgb
from tests.heic import SIDE, alpha, box, coded, exif_item, heic, overlay
from tests.image_files import chunk, encode, exif, hand_built_png, with_claimed_size

module = importlib.import_module("model.preprocess")  # `from model import preprocess` is the function
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited there")
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
AVIF = pytest.param("AVIF", marks=needs_avif)
KINDS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", AVIF]


def noise(width=32, height=32, channels=3, seed=0):
    """uint8 (height, width, channels), or (height, width) for one channel; no turn or flip of it equals another."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(width=96, height=96):
    """uint8 (height, width, 3) that survives JPEG: a gradient per channel."""
    y, x = np.mgrid[0:height, 0:width]
    x, y = x / (width - 1), y / (height - 1)
    return np.stack([255 * x, 255 * y, 255 * (1 - x) * y], -1).astype(np.uint8)


def square(given, fit="crop"):
    """int (32, 32, 3) of an array, a Pillow image or a file."""
    if isinstance(given, np.ndarray):
        given = Image.fromarray(np.ascontiguousarray(given))
    return np.asarray(to_square_rgb(given if isinstance(given, Image.Image) else open_image(given), fit)).astype(int)


def packed(*rows):
    """Deflated rows of a PNG, without a filter."""
    return zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))


def halves(left, right):
    return np.hstack([np.full((32, 16, 3), left), np.full((32, 16, 3), right)])


# The array


def test_an_image_becomes_exactly_its_bytes_over_255_channels_first():
    pixels = noise()
    pixels[:8, :, 0] = np.arange(256).reshape(8, 32)  # every level
    array = preprocess(Image.fromarray(pixels))
    assert array.shape == (3, 32, 32) and array.dtype == np.float32 and array.flags.c_contiguous
    assert np.array_equal(array, pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_lossless_file_of_32x32_passes_bit_for_bit_under_every_fit(kind):
    data = encode(noise(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert all(np.array_equal(square(data, fit), noise()) for fit in FITS)


def test_what_is_no_fit_and_what_is_no_pillow_image_is_refused_with_a_way_out():
    with pytest.raises(ValueError, match="'zoom'.*crop, pad, stretch"):
        preprocess(Image.new("RGB", (32, 32)), "zoom")
    with pytest.raises(TypeError, match="got ndarray.*Image.fromarray"):
        preprocess(noise())


# Geometry


@pytest.mark.parametrize("width, height, left, top", [(64, 32, 16, 0), (32, 64, 0, 16), (33, 32, 0, 0), (34, 32, 1, 0)])
def test_crop_is_the_default_and_takes_the_central_square_on_whole_pixels(width, height, left, top):
    pixels = noise(width, height)
    assert np.array_equal(to_square_rgb(Image.fromarray(pixels)), pixels[top : top + 32, left : left + 32])


def test_pad_shows_everything_between_white_bars_and_stretch_squashes():
    expected = np.full((32, 32, 3), 255)
    expected[8:24] = 0
    for black in (np.zeros((64, 128, 3), np.uint8), np.zeros((128, 64, 3), np.uint8)):
        assert np.array_equal(square(black, "pad"), expected)
        expected = expected.transpose(1, 0, 2)
    flag = np.zeros((32, 320, 3), np.uint8)
    flag[:, 80:] = 200
    assert (square(flag, "stretch")[:, :6] == 0).all() and (square(flag, "stretch")[:, 10:] == 200).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 1), (31, 33), (65_500, 1)])
def test_a_plain_image_of_any_shape_keeps_its_color(size, fit):
    rows, columns = (max(1, round(32 * side / max(size))) if fit == "pad" else 32 for side in size[::-1])
    top, left = (32 - rows) // 2, (32 - columns) // 2
    expected = np.full((32, 32, 3), 255)
    expected[top : top + rows, left : left + columns] = (90, 120, 30)
    assert np.array_equal(square(Image.new("RGB", size, (90, 120, 30)), fit), expected)


def test_shrinking_gives_the_mean_of_each_block_and_no_aliases():
    for pixels, most in ((noise(128, 128), 1.5), (smooth(2048, 2048), 2)):
        block = len(pixels) // 32
        assert abs(square(pixels) - pixels.reshape(32, block, 32, block, 3).mean((1, 3))).max() <= most
    for side in (100, 1999):  # a checkerboard turns gray
        y, x = np.mgrid[0:side, 0:side]
        assert abs(square(((x + y) % 2 * 255).astype(np.uint8))[1:-1, 1:-1] - 127.5).max() <= 6


def test_enlarging_is_smooth_and_keeps_the_corners_in_place():
    four = np.array([[[0, 0, 0], [200, 0, 0]], [[0, 200, 0], [0, 0, 200]]], np.uint8)
    result = square(four)
    assert abs(result[[0, 0, -1, -1], [0, -1, 0, -1]] - four.reshape(4, 3)).max() <= 55  # bicubic overshoots
    assert abs(np.diff(result, axis=0)).max() <= 20 and abs(np.diff(result, axis=1)).max() <= 20  # nearest jumps by 200


# Colors


def gray_tiff(data, bits, white_is_zero):
    """Little-endian, 32 x 32, one strip of `data`. None: it does not say which value is white."""
    entries = {256: 32, 257: 32, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: 32}
    entries |= {279: len(data)}
    if white_is_zero is None:
        del entries[262]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(entries)) + table + bytes(4)


def gray16(values, order="<"):
    """A image whose lower bytes are to be dropped."""
    return Image.frombytes("I;16" if order == "<" else "I;16B", (32, 32), values.astype(f"{order}u2").tobytes())


def with_alpha(mode):
    """Noise in "L" or "RGB" with an alpha channel of noise, and what it looks like on white."""
    raw = noise(channels=4)
    color = raw[..., 0] if mode == "L" else raw[..., :3]
    (image := Image.fromarray(color)).putalpha(Image.fromarray(raw[..., 3]))
    share = raw[..., 3:] / 255
    return image, np.atleast_3d(color) * share + 255 * (1 - share)


def palette(*colors, indices=None):
    image = Image.fromarray(np.repeat([[0] * 16 + [1] * 16], 32, 0).astype(np.uint8) if indices is None else indices)
    image = image.convert("P")
    image.putpalette(np.array(colors, np.uint8).ravel().tolist())
    return image


def with_alpha_beside_the_palette(opacity):
    image = Image.merge("PA", (palette((0, 0, 0), (10, 20, 30)), Image.new("L", (32, 32), opacity)))
    image.putpalette([9, 9, 9, 10, 20, 30])
    return image


GREY, DEEP = noise(channels=1), np.random.default_rng(0).integers(0, 65536, (32, 32))
FIRST, SECOND = (GREY.astype(np.uint16) << 4).reshape(-1, 2).T  # 12 bits each: two values to three bytes
TWELVE = np.stack([FIRST >> 4, (FIRST & 15) << 4 | SECOND >> 8, SECOND & 255], -1).astype(np.uint8).tobytes()
FROM_WHITE = ((255 - GREY).astype("<u2") * 257).tobytes()
TWO_COLOURS = halves((250, 20, 20), (10, 20, 30)).astype(np.uint8)
ONE_IS_CLEAR = halves((255, 255, 255), (10, 20, 30))
SHOWN = {
    "16-bit gray PNG": (encode(Image.fromarray(GREY.astype(np.uint16) * 257)), GREY[..., None], 0),
    "16-bit gray, big-endian": (gray16(DEEP, ">"), DEEP[..., None] // 256, 0),
    "16-bit gray from white": (gray_tiff(FROM_WHITE, 16, True), GREY[..., None], 0),
    "16-bit gray, not told": (gray_tiff(FROM_WHITE, 16, None), 255 - GREY[..., None], 0),
    "12-bit gray": (gray_tiff(TWELVE, 12, False), GREY[..., None], 0),
    "16-bit gray, one value clear": (
        hand_built_png(32, 32, 16, 0, packed(*[b"\x12\x34" * 16 + b"\x12\x35" * 16] * 32), chunk(b"tRNS", b"\x12\x34")),
        halves(255, 0x12),
        0,
    ),
    "RGBA": (*with_alpha("RGB"), 1),
    "LA": (*with_alpha("L"), 1),
    "RGBA, premultiplied": (Image.new("RGBa", (32, 32), (50, 25, 0, 100)), (205, 180, 155), 1),
    "LA, premultiplied": (Image.new("La", (32, 32), (50, 100)), 205, 1),
    "palette beside opaque alpha": (with_alpha_beside_the_palette(255), halves((9, 9, 9), (10, 20, 30)), 0),
    "palette beside clear alpha": (with_alpha_beside_the_palette(0), 255, 0),
    "PNG palette, one entry clear": (encode(palette((9, 0, 0), (10, 20, 30)), transparency=0), ONE_IS_CLEAR, 0),
    "palette, an entry a fifth opaque": (
        encode(palette((9, 9, 9), (100, 0, 200)), transparency=bytes([0, 51])),
        halves(255, (224, 204, 244)),
        1,
    ),
    "RGB, one color clear": (encode(TWO_COLOURS, transparency=(250, 20, 20)), ONE_IS_CLEAR, 0),
    "CMYK JPEG": (encode(Image.new("CMYK", (64, 64), (255, 0, 0, 0)), "JPEG", quality=100), (0, 255, 255), 3),
}


@pytest.mark.parametrize(("given", "expected", "most"), SHOWN.values(), ids=SHOWN)
def test_colors_are_those_that_are_meant_and_what_is_clear_is_white(given, expected, most):
    assert abs(square(given) - expected).max() <= most


@pytest.mark.parametrize("fit", FITS)
def test_the_color_hidden_under_full_transparency_does_not_matter(fit):
    assert (square(encode(Image.new("RGBA", (64, 40), (255, 0, 0, 0))), fit) == 255).all()
    pixels = np.full((320, 320, 4), (255, 0, 0, 0), np.uint8)
    pixels[80:240, 80:240] = (0, 0, 0, 255)
    assert np.ptp(square(pixels, fit), axis=-1).max() == 0  # black, white and grays: no red bleeds over the edge


@pytest.mark.parametrize("mode, name", [("F", "floating-point"), ("I", "32-bit integer")])
def test_pixels_without_a_known_white_are_refused(mode, name):
    image = Image.new(mode, (32, 32), 1)
    for given in (image, encode(image, "TIFF")):
        with pytest.raises(ImageError, match=f"{name}.*8 or 16 bits"):
            square(given)


# Orientation

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


@pytest.mark.parametrize("kind, options", [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_a_turned_photo_is_seen_upright(kind, options):
    upright = noise(48, 33)
    for orientation, stored in STORED.items():
        file = encode(np.ascontiguousarray(stored(upright)), kind, exif=exif(orientation), **options)
        assert np.array_equal(square(file, "pad"), square(upright, "pad"))


def test_a_jpeg_is_shrunk_by_its_decoder_to_256_pixels_and_then_turned():
    for size, expected in (((4000, 3000), (500, 375)), ((512, 511), (512, 511)), ((700, 90), (700, 90))):
        assert open_image(encode(Image.new("RGB", size), "JPEG")).size == expected
    upright = smooth(2048, 1536)
    for orientation in (1, 6):
        stored = np.ascontiguousarray(STORED[orientation](upright))
        file = encode(stored, "JPEG", quality=95, exif=exif(orientation))
        assert max(open_image(file).size) == 512 and abs(square(file) - square(upright)).max() <= 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("block", [exif(99), b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 60])
def test_a_broken_exif_block_is_ignored(block):
    assert np.array_equal(square(encode(noise(), exif=block)), noise())
    jpeg = encode(smooth(32, 32), "JPEG", quality=100, subsampling=0, exif=block)
    assert abs(square(jpeg) - smooth(32, 32)).max() <= 6


# Files that are fine


def test_a_path_bytes_and_an_open_file_give_the_same_image(tmp_path):
    data = encode(noise(50, 40))
    (path := tmp_path / "image.of.no.type").write_bytes(data)
    (further := io.BytesIO(b"before" + data)).seek(6)
    with path.open("rb") as file:
        for given in (path, str(path), bytearray(data), memoryview(data), further, file):
            assert open_image(given) == open_image(data)
        assert not file.closed


@pytest.mark.parametrize("kind", [*KINDS, "MPO"])
def test_every_promised_format_is_read_whatever_follows_it(kind):
    file = encode(Image.new("RGB", (64, 64), (200, 100, 50)), kind)
    assert abs(square(file + b"PK\x03\x04" + bytes(5000)) - (200, 100, 50)).max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (32, 32), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    file = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert open_image(file).n_frames == 3 and (square(file) == (255, 0, 0)).all()


# Files that are refused

LIMIT = "25 million pixels, or 64 million in a plain JPEG"
DAMAGED = "damaged or incomplete"


def refusal(file):
    with pytest.raises(ImageError) as caught:
        open_image(file)
    message = str(caught.value)
    assert message.endswith(".") and message.count(". ") == 0  # one sentence
    assert not any(word in message for word in ("secret", "/tmp", "Error", "Pillow", "PIL"))
    return message


def webp_of(side):
    """34 bytes that claim a lossless image."""
    claim = b"\x2f" + struct.pack("<I", side - 1 | side - 1 << 14) + bytes(9)
    vp8l = b"WEBP" + b"VP8L" + struct.pack("<I", len(claim)) + claim
    return b"RIFF" + struct.pack("<I", len(vp8l)) + vp8l


GIF_SCREEN = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6)
GIF_FRAME = b"," + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\2\1\0\0;"
JPEG, PROGRESSIVE = encode(smooth(), "JPEG"), encode(smooth(), "JPEG", progressive=True)


@pytest.mark.parametrize(
    "data, told",
    [
        (hand_built_png(60_000, 60_000, 8, 2, packed(bytes(99))), "60000 x 60000 pixels"),
        (webp_of(13_000), "13000 x 13000 pixels"),
        (GIF_SCREEN + GIF_FRAME, LIMIT),
        (with_claimed_size(JPEG, 8000, 8001), "8000 x 8001 pixels"),
        (with_claimed_size(JPEG, 500, 50_001), LIMIT),  # too narrow to be shrunk
        (with_claimed_size(PROGRESSIVE, 8000, 8000), LIMIT),  # its decoder holds the whole image
        (heic(coded(size=(60_000, 60_000))), "60000 x 60000 pixels"),
    ],
    ids=["PNG", "WebP", "GIF frame", "JPEG", "narrow JPEG", "progressive", "HEIC"],
)
def test_a_bomb_is_refused_by_the_size_in_its_header_without_a_warning(data, told, recwarn):
    message = refusal(data)
    assert told in message and LIMIT in message
    assert not recwarn.list and Image.MAX_IMAGE_PIXELS < 10**8  # nor was Pillow's own limit lifted for everybody


def test_what_is_just_within_a_limit_is_decoded():
    assert DAMAGED in refusal(hand_built_png(5000, 5000, 1, 0, packed(bytes(99))))  # decoding began: no pixels
    assert DAMAGED in refusal(heic(coded(size=(5000, 5000))))
    for size, opened in (((8000, 8000), (1000, 1000)), ((512, 62_500), (256, 31_250)), ((500, 50_000), (500, 50_000))):
        assert open_image(with_claimed_size(JPEG, *size)).size == opened  # what is missing decodes as gray


def one_scan_per_channel(width, height):
    """A baseline JPEG, all gray, whose three channels come one after the other: two zero bits code a block."""
    segment = lambda marker, body: bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body  # noqa: E731
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"".join(bytes([channel, 0x11, 0]) for channel in (1, 2, 3))
    tables = b"".join(segment(0xC4, bytes([kind, 1]) + bytes(16)) for kind in (0x00, 0x10))
    blocks = bytes(-(-width // 8) * -(-height // 8) // 4 + 1)
    scans = b"".join(segment(0xDA, bytes([1, channel, 0, 0, 63, 0])) + blocks for channel in (1, 2, 3))
    return b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC0, frame) + tables + scans + b"\xff\xd9"


def behind_a_padded_comment(jpeg):
    """Who takes the padding for a marker finds a first scan of all channels where the "length" 0xfeff leads to."""
    comment = bytearray(0xFFFF - 2)
    at = 2 + 2 + 0xFEFF - 7  # the comment's text begins at byte 7
    comment[at : at + 5] = b"\xff\xda\0\x0c\x03"
    return jpeg[:2] + b"\xff\xff\xfe\xff\xff" + comment + jpeg[2:]


@pytest.mark.parametrize("disguise", [bytes, behind_a_padded_comment])
def test_a_jpeg_of_one_channel_after_the_other_may_not_have_64_million_pixels(disguise):
    assert abs(square(disguise(one_scan_per_channel(64, 64))) - 128).max() <= 1
    assert LIMIT in refusal(disguise(one_scan_per_channel(8000, 8000)))


def test_a_jpeg_of_endless_scans_is_refused():
    last = PROGRESSIVE.rfind(b"\xff\xda")
    assert open_image(PROGRESSIVE[:-2] + PROGRESSIVE[last:-2] * 50 + b"\xff\xd9").size == (96, 96)
    assert "100 passes" in refusal(PROGRESSIVE[:-2] + PROGRESSIVE[last:-2] * 100 + b"\xff\xd9")


def test_a_file_over_the_byte_limit_is_refused(monkeypatch):
    data = encode(noise())
    monkeypatch.setattr(module, "MAX_BYTES", len(data))
    assert open_image(data).size == (32, 32)
    assert "over the limit" in refusal(data + b"\0") and "over the limit" in refusal(io.BytesIO(data + b"\0"))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", KINDS)
def test_half_a_file_is_refused(kind):
    data = encode(noise(96, 96), kind)
    assert DAMAGED in refusal(data[: len(data) // 2]) and DAMAGED in refusal(data[:24])
    assert DAMAGED in refusal(hand_built_png(0, 0, 8, 2, packed()))


NO_IMAGES = {
    "text": b"this is not an image\n" * 50,
    "eps": encode(smooth(), "EPS"),  # Pillow would start Ghostscript
    "film": b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + bytes(500),
}


@pytest.mark.parametrize("data", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_not_an_image_is_refused_and_the_formats_are_listed(data):
    message = refusal(data)
    assert "not an image" in message
    assert all(name in message for name in ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "HEIC"))


def test_an_empty_file_and_one_that_is_gone_or_closed_are_told_apart(tmp_path):
    (closed := io.BytesIO()).close()
    assert "This file is empty" in refusal(b"") and "This file is empty" in refusal(io.BytesIO())
    for given in (tmp_path / "secret.png", str(tmp_path), "a\0b.png", closed):
        assert refusal(given) == "The uploaded file is gone or cannot be read: please upload it again."


# HEIC


def drawn():
    """uint8 (64, 64, 3): what `coded` holds."""
    pixels = np.full((SIDE, SIDE, 3), (200, 40, 40), np.uint8)
    pixels[:, 32:] = (40, 40, 200)
    pixels[:32, :16] = (240, 240, 240)
    return pixels


def turned(quarters):
    """By `irot`, against the clock, while the EXIF block says the same: ISO 23008-12 has it only tell."""
    orientation = (1, 8, 3, 6)[quarters]
    return heic(coded(box(b"irot", bytes([quarters]))), exif_item(orientation), references=[(b"cdsc", 2, [1])])


UPSIDE_DOWN = coded(box(b"irot", b"\2"))
HEICS = {
    "brand mif1": (heic(coded(), brand=b"mif1"), drawn()),
    "brand heix": (heic(coded(), brand=b"heix"), drawn()),
    **{f"turned by {90 * quarters}": (turned(quarters), np.rot90(drawn(), quarters)) for quarters in range(4)},
    "turned by EXIF alone": (heic(coded(), exif_item(8), references=[(b"cdsc", 2, [1])]), drawn()),
    "mirrored across": (heic(coded(box(b"imir", b"\1"))), np.fliplr(drawn())),
    "the second is primary": (heic(UPSIDE_DOWN, coded(), primary=2), drawn()),
}


@pytest.mark.parametrize(("file", "expected"), HEICS.values(), ids=HEICS)
def test_a_heic_photo_is_seen_as_it_is_meant(file, expected):
    assert abs(square(file) - square(expected)).max() <= 12


def test_a_heic_photo_that_is_broken_is_refused():
    for data in (heic(coded())[:-100], heic(coded(size=(32, 32))), heic()):  # half, larger than it claims, no image
        assert DAMAGED in refusal(data)


def test_a_heic_photo_may_have_alpha_and_its_decoder_stays_in_another_process():
    opened = open_image(heic(coded(), coded(alpha()), references=[(b"auxl", 2, [1])]))
    assert opened.mode == "RGBA" and abs(np.asarray(opened)[40, 40, 3].astype(int) - 64) < 16  # the gray of blue
    assert "pi_heif" not in sys.modules


def test_a_heic_photo_without_the_package_is_refused_and_the_package_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    assert "pi-heif" in refusal(heic(coded()))
    assert np.array_equal(square(encode(noise())), noise())


@LINUX
def test_a_heic_canvas_that_its_header_keeps_quiet_about_cannot_take_much_memory():
    code = (  # in a small process: what a child is counted for begins with the size of its parent
        "import resource, sys; from model.preprocess import ImageError, open_image\n"
        "try: print(open_image(sys.stdin.buffer.read()).size)\nexcept ImageError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    for side, told in ((SIDE, f"({SIDE}, {SIDE})"), (20_000, DAMAGED)):
        data = heic(overlay(1, canvas=(side, side)), coded(), references=[(b"dimg", 1, [2])])
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, input=data, capture_output=True, check=True, cwd=Path(__file__).parent.parent)
        answer, kilobytes = done.stdout.decode().splitlines()
        assert told in answer and int(kilobytes) < 512 * 1024


def endless():
    """A HEIC photo of 30 levels: each lays the two of the level below over each other, twice."""
    items, references = [coded(), coded()], []
    for below in range(1, 60, 2):
        items += [overlay(2), overlay(2)]
        references += [(b"dimg", at, [below, below + 1]) for at in (below + 2, below + 3)]
    return heic(*items, references=references, primary=len(items))


def test_heic_photos_are_given_up_decoded_one_at_a_time_and_hold_up_nothing_else(monkeypatch):
    monkeypatch.setattr(module, "HEIC_SECONDS", 0.8)
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        endless_ones = [pool.submit(refusal, endless()) for _ in range(2)]
        time.sleep(0.3)
        with pytest.raises(BusyError, match="^Other HEIC photos are being decoded: try again"):
            open_image(heic(coded()))
        with open_limited(encode(noise(60, 40))) as other:
            assert other.size == (60, 40) and not endless_ones[0].done()
    assert all(DAMAGED in one.result() for one in endless_ones)
    assert 1.6 <= time.monotonic() - began < 30
    assert open_image(heic(coded())).size == (SIDE, SIDE)


@pytest.mark.slow
def test_a_heic_photo_that_takes_for_ever_stops_by_itself():
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert DAMAGED in refusal(endless())
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 5


# How much is decoded concurrently


def bits(width, height):
    """A PNG of one bit per pixel, quick to decode."""
    return hand_built_png(width, height, 1, 0, packed(*[bytes(-(-width // 8))] * height))


@contextmanager
def others_hold(pixels):
    with open_limited(bits(1000, pixels // 1000)) as opened:
        assert opened.size == (1000, pixels // 1000)
        yield


def waits(file, seconds):
    """Whether `file` is not opened for so long, while the images hold that are open now; it is afterwards."""
    opened = threading.Event()

    def open_it():
        with open_limited(file):
            opened.set()

    thread = threading.Thread(target=open_it)
    thread.start()
    return not opened.wait(seconds), thread


BUDGET = 25_000_000
MARKED = encode(noise(60, 40), "AVIF").replace(b"avif", b"MA1B", 1) if features.check("avif") else b""
PLAIN, AT_ONCE = (encode(smooth(2048, 2048), "JPEG", progressive=whole) for whole in (False, True))


@pytest.mark.parametrize(
    ("held", "file", "expected"),
    [
        (BUDGET - 1000, bits(1000, 1), False),
        (BUDGET - 1000, bits(1000, 2), True),
        (BUDGET - 2048 * 2048 // 8, PLAIN, False),  # the decoder holds a few rows, and the shrunk image
        (BUDGET - 2048 * 2048 // 8, AT_ONCE, True),
        (BUDGET - 1000, heic(coded()), True),
        pytest.param(BUDGET - 1000, MARKED, True, marks=needs_avif),
    ],
    ids=["fits", "fits not", "plain JPEG", "progressive", "HEIC", "AVIF of a brand that Pillow does not know"],
)
def test_an_image_waits_while_all_together_would_hold_too_many_pixels(held, file, expected):
    with others_hold(held):
        waited, thread = waits(file, 0.2 if expected else 10)
        assert thread.is_alive() or not waited
        assert waited is expected
    thread.join(10)
    assert not thread.is_alive() and open_image(file)


@pytest.mark.parametrize("data", [heic(), hand_built_png(5000, 4000, 8, 2, b"")], ids=["HEIC", "PNG"])
def test_what_is_refused_or_fails_gives_its_pixels_back(data):
    with pytest.raises(ImageError), open_limited(data):
        pass
    with pytest.raises(ZeroDivisionError), open_limited(bits(5000, 4000)):
        1 / 0  # noqa: B018
    with open_limited(bits(5000, 5000)) as opened:
        assert opened.size == (5000, 5000)
