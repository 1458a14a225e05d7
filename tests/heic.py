"""HEIC files, written box by box (ISO 14496-12 and 23008-12) around one encoded image: good, odd, hostile."""

import base64
import struct

SIDE = 64
CONFIGURATION = base64.b64decode(
    "AQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAe"
    "oCCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQA=="
)
CODED = base64.b64decode(
    "AAAAzygBrw7gIJPNZ9p/h9dKV//UeA//5IryH5AakSXFiz/PG5I3+1ZRBjMel1y1rlUwKb3oYm3s8/iTH4u54ssdblNl/RIjpdHm"
    "jydfeVbPx2eE2Cf5+/6X+1GF//0gM0C7/7lx//0b6j/Fh2C/vWS/PP9GPhWL7OJbI+7HEJYdHVcRjiGwwwEtKDy6vwl4vhfvTT5g"
    "FVXNwzSRADIwUZHWIaWhLYjKLXXPOYqVb8I5oVPJpRXtZqUi5wQ3fQuSXFiTlcVEGgaQeXV+EvF8L92XHA=="
)
"""64 x 64 pixels: the left half red (200, 40, 40), the right one blue (40, 40, 200), a white corner (240, 240, 240) at
the top left, 16 wide and 32 high."""


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def full_box(kind: bytes, content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + content)


def claims(width: int, height: int) -> bytes:
    return full_box(b"ispe", struct.pack(">II", width, height))


def coded(*transforms: bytes, size: tuple[int, int] = (SIDE, SIDE)) -> tuple[bytes, list[bytes], bytes]:
    """An item: kind, properties, data."""
    return b"hvc1", [claims(*size), box(b"hvcC", CONFIGURATION), *transforms], CODED


def overlay(count: int, canvas: tuple[int, int] = (SIDE, SIDE)) -> tuple[bytes, list[bytes], bytes]:
    """An item that lays `count` others over each other. The size of its canvas stands in its data once more."""
    data = struct.pack(">BB4HII", 0, 1, 0, 0, 0, 65535, *canvas) + bytes(8 * count)
    return b"iovl", [claims(SIDE, SIDE)], data


def alpha() -> bytes:
    return full_box(b"auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")


def exif_item(orientation: int) -> tuple[bytes, list[bytes], bytes]:
    tiff = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 274, 3, 1, orientation, 0)
    return b"Exif", [], struct.pack(">I", 6) + b"Exif\0\0" + tiff


def heic(*items, references=(), primary: int = 1, brand: bytes = b"heic") -> bytes:
    """A file of `items`, numbered from 1. A reference is (kind, from, [to, ...])."""
    start = box(b"ftyp", brand + b"\0\0\0\0mif1heic")
    entries, properties, associations = b"", [], b""
    for number, (kind, own, _) in enumerate(items, 1):
        entries += full_box(b"infe", struct.pack(">HH", number, 0) + kind + b"\0", 2)
        properties += [new for new in own if new not in properties]
        indices = bytes(0x80 | properties.index(each) + 1 for each in own)  # 0x80: to be understood
        associations += struct.pack(">HB", number, len(own)) + indices
    described = [
        full_box(b"hdlr", b"\0\0\0\0pict" + bytes(13)),
        full_box(b"pitm", struct.pack(">H", primary)),
        full_box(b"iinf", struct.pack(">H", len(items)) + entries),
        box(
            b"iprp",
            box(b"ipco", b"".join(properties)) + full_box(b"ipma", struct.pack(">I", len(items)) + associations),
        ),
    ]
    if references:
        inside = [box(kind, struct.pack(f">HH{len(to)}H", at, len(to), *to)) for kind, at, to in references]
        described.append(full_box(b"iref", b"".join(inside)))

    def meta(base: int) -> bytes:
        places = b""
        for number, (_, _, data) in enumerate(items, 1):
            places += struct.pack(">HHHII", number, 0, 1, base, len(data))
            base += len(data)
        places = full_box(b"iloc", b"\x44\0" + struct.pack(">H", len(items)) + places)
        return full_box(b"meta", b"".join(described) + places)

    base = len(start) + len(meta(0)) + 8
    return start + meta(base) + box(b"mdat", b"".join(data for _, _, data in items))
