"""Bad files and bad calls, as strangers send them to a page: what each is answered.

`tests/test_hostile.py` sends all of them to a running page; `python -m tests.hostile` writes them into
docs/security/malformed-input.md.
"""

import json
import math
import re
import socket
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from tests.http_calls import END, JSON, MULTIPART, SECONDS, ask, call, part, post, sent, stored, upload
from tests.image_files import chunk, encode, hand_built_png, with_claimed_size
from tests.serving import ROOT, running_app

PAGE = ROOT / "docs" / "security" / "malformed-input.md"
MB = 2**20
ANSWER = "(an answer)"


@cache
def photo(width: int = 320, height: int = 240) -> Image.Image:
    """Smooth colours with noise: what encoders were made for."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    noise = np.random.RandomState(0).randint(-20, 20, (height, width, 3))
    return Image.fromarray((np.dstack([across, down, 255 - across]) + noise).clip(0, 255).astype(np.uint8))


def png_bomb(side: int = 20_000) -> bytes:
    """50 MB of black pixels, one bit each, in 50 kB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    packed = b"".join([packer.compress(row) for _ in range(side)]) + packer.flush()
    return hand_built_png(side, side, 1, 0, packed)


def webp_bomb(side: int = 16_383) -> bytes:
    """1 GB of pixels in 34 bytes."""
    bits = struct.pack("<BI", 0x2F, (side - 1) | (side - 1) << 14) + bytes(9)
    return b"RIFF" + struct.pack("<I", 26) + b"WEBPVP8L" + struct.pack("<I", 14) + bits


def bmp_bomb(side: int = 30_000) -> bytes:
    return b"BM" + struct.pack("<IHHI IiiHHIIiiII", 54, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)


def gif_bomb(side: int = 65_535) -> bytes:
    """A small GIF whose screen and frame claim to be huge."""
    data = bytearray(encode(Image.new("P", (8, 8)), "GIF"))
    frame = data.index(b"\x2c")
    data[6:10] = data[frame + 5 : frame + 9] = struct.pack("<HH", side, side)
    return bytes(data)


def tiff_bomb(side: int = 60_000) -> bytes:
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: side, 279: 10}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def text_bomb() -> bytes:
    """A PNG of 8 x 8 pixels with 200 MB of text, packed."""
    packer = zlib.compressobj(9)
    packed = b"".join([packer.compress(bytes(MB)) for _ in range(200)]) + packer.flush()
    small = encode(photo(8, 8), "PNG")
    return small[:33] + chunk(b"zTXt", b"note\0\0" + packed) + small[33:]


BOMBS = {
    "bomb.png": png_bomb(),
    "bomb.webp": webp_bomb(),
    "bomb.bmp": bmp_bomb(),
    "bomb.gif": gif_bomb(),
    "bomb.tif": tiff_bomb(),
    "bomb.jpg": with_claimed_size(encode(photo(16, 16), "JPEG"), 65_000, 65_000),
}


def files() -> Iterator[tuple[str, str, bytes]]:
    """What it is, the name it is uploaded by, its bytes."""
    picture = photo()
    jpeg, png = encode(picture, "JPEG"), encode(picture, "PNG")
    grey16 = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    frames = [Image.new("P", (60, 60), n) for n in range(50)]
    yield "a JPEG", "photo.jpg", jpeg
    yield "a JPEG named .txt", "photo.txt", jpeg
    yield "a PNG named .gif", "photo.gif", png
    yield "a JPEG in CMYK", "print.jpg", encode(picture.convert("CMYK"), "JPEG")
    yield "a PNG of 16 bits", "scan.png", encode(grey16, "PNG")
    yield "a GIF of 50 frames", "moving.gif", encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "a PNG of 1 x 1 pixel", "dot.png", encode(photo(1, 1), "PNG")
    yield "a PNG of 20000 x 2 pixels", "line.png", encode(photo(20_000, 2), "PNG")
    yield "a JPEG of 7000 x 7000 pixels", "big.jpg", encode(Image.new("RGB", (7000, 7000), "teal"), "JPEG")
    yield "a PNG of 4900 x 4900 pixels with transparency", "big.png", encode(Image.new("RGBA", (4900, 4900)), "PNG")
    yield "a PNG named `<img src=x onerror=alert(1)>.png`", "<img src=x onerror=alert(1)>.png", png
    yield "a PNG named `../../../tmp/x.png`", "../../../tmp/x.png", png
    yield "a PNG with a name of 3000 characters", "x" * 3000 + ".png", png
    for name, bomb in BOMBS.items():
        yield f"a bomb: {len(bomb)} bytes of {name[5:].upper()}", name, bomb
    yield "a bomb: 200 MB of text in a small PNG", "text.png", text_bomb()
    yield "half a JPEG", "half.jpg", jpeg[: len(jpeg) // 2]
    yield "half a PNG", "half.png", png[: len(png) // 2]
    yield "half a WebP", "half.webp", (webp := encode(picture, "WEBP"))[: len(webp) // 2]
    yield "a PNG with a damaged byte", "damaged.png", png[:3000] + bytes([png[3000] ^ 1]) + png[3001:]
    yield "a TIFF of floating-point numbers", "float.tif", encode(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF")
    yield "a TIFF of 32-bit whole numbers", "int.tif", encode(Image.fromarray(np.ones((9, 9), np.int32)), "TIFF")
    yield "an empty file", "empty.png", b""
    yield "one byte", "one.png", b"\x89"
    yield "noise", "noise.jpg", np.random.RandomState(1).bytes(5000)
    yield "a text named .jpg", "note.jpg", b"This is no image.\n" * 50
    yield "a web page named .png", "page.png", b"<!doctype html><script>alert(1)</script>"
    yield "an SVG", "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    yield (
        "an SVG that refers to a file",
        "xxe.svg",
        b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
    )
    yield "a PDF", "paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"
    yield "a ZIP", "images.zip", b"PK\x03\x04" + bytes(60)
    yield "a PostScript file", "print.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    yield "a HEIC", "IMG_0001.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60)
    yield "a JPEG 2000", "old.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60)
    yield "a film", "film.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + bytes(60)


Answer = tuple[int | str, str]
"""HTTP status (and how the stream of events ended), and the sentence (or ANSWER)."""


def ask_rest(address: str, content: bytes, name: str = "picture.png") -> Answer:
    body = part(content, name, "image") + END
    return answer_of(*ask(address, "POST", "/api/predict", body, MULTIPART))


def answer_of(status: int, headers: dict[str, str], body: bytes) -> Answer:
    """Of a REST call."""
    if not body or not headers.get("content-type", "").startswith("application/json"):
        return status, body.decode() or "(no body)"
    found = json.loads(body)
    return status, found["detail"] if isinstance(found, dict) and "detail" in found else ANSWER


def ask_about(address: str, name: str, content: bytes) -> Answer:
    status, found = upload(address, content, name)
    return predicted(address, [stored(found), 5, "crop"]) if status == 200 else (status, found)


def predicted(address: str, data: object) -> Answer:
    status, found = call(address, "predict", data)
    if isinstance(found, list) and isinstance(found[0], dict) and "confidences" in found[0]:
        return status, ANSWER
    return f"{status}, error" if status == 200 else status, told(found)


def told(found: object) -> str:
    """A sentence of ours, or the first complaint of the library that reads JSON bodies for gradio."""
    if isinstance(found, list) and found and isinstance(found[0], dict) and "msg" in found[0]:
        return f"{'.'.join(map(str, found[0]['loc']))}: {found[0]['msg']}"
    return str(found)


def images() -> dict[str, object]:
    """In the place of the image of /predict. {good} is the path of an upload."""
    return {
        "no image": None,
        "an empty object": {},
        "a number": 5,
        "a path as text": "/etc/passwd",
        "a list of images": [{"path": "{good}"}],
        "the path /etc/passwd": {"path": "/etc/passwd"},
        "the path /etc/passwd, said to be an upload": stored("/etc/passwd"),
        "the path /dev/zero": {"path": "/dev/zero"},
        "the path of an upload + /../../../etc/passwd": {"path": "{good}/../../../../../../../etc/passwd"},
        "the path of the upload folder": {"path": "{good}/../.."},
        "an upload that is gone": {"path": "{good}.gone.png"},
        "a path with a NUL": {"path": "{good}\0.png"},
        "a path of 5000 characters": {"path": "x" * 5000},
        "a web address": stored("http://127.0.0.1:9/a.png"),
        "the address of a cloud's secrets": stored("http://169.254.169.254/latest/meta-data/"),
        "the address file:///etc/passwd": {"path": "file:///etc/passwd"},
        "a data URL as path": {"path": "data:image/png;base64,iVBORw0KGgo="},
        "a data URL as url": {"url": "data:image/png;base64,iVBORw0KGgo="},
        "an upload and another url": {"path": "{good}", "url": "file:///etc/passwd"},
        "an upload whose `meta` is a number": {"path": "{good}", "meta": 5},
    }


def calls() -> Iterator[tuple[str, Callable[[str, str], Answer]]]:
    """What it is, and what asks it of (address, path of an upload)."""

    def with_image(image: object) -> Callable[[str, str], Answer]:
        text = json.dumps([image, 5, "crop"])
        return lambda address, good: predicted(address, json.loads(text.replace("{good}", good)))

    def with_rest(*rest: object) -> Callable[[str, str], Answer]:
        return lambda address, good: predicted(address, [stored(good), *rest])

    def raw(body: bytes, path: str = "/gradio_api/call/predict") -> Callable[[str, str], Answer]:
        return lambda address, good: (reply := post(address, path, body))[:1] + (told(reply[1]["detail"]),)

    for what, image in images().items():
        yield f"`image`: {what}", with_image(image)
    for top_k in (0, 11, -1, 2.5, True, "abc", None, 10**30, [5]):
        yield f"`top_k`: {json.dumps(top_k)}", with_rest(top_k, "crop")
    for fit in ("zoom", None, ["crop"]):
        yield f"`fit`: {json.dumps(fit)}", with_rest(5, fit)
    yield "no inputs", lambda address, good: predicted(address, [])
    yield "`top_k`: a web address", with_rest(stored("http://127.0.0.1:9/a.png"), "crop")
    yield "`fit`: the path /etc/passwd, said to be an upload", with_rest(5, stored("/etc/passwd"))
    yield "one input too many", with_rest(5, "crop", 1)
    yield "no `data`", raw(b"{}")
    yield "`data` is an object", raw(b'{"data": {}}')
    yield "a body that is no JSON", raw(b"hello")
    yield "an empty body", raw(b"")
    yield "a body that is a list", raw(b"[]")
    yield "a body that is no UTF-8", raw(b'{"data": ["\xff\xfe"]}')
    yield "a body nested 30,000 deep", raw(b'{"data": ' + b"[" * 30_000 + b"]" * 30_000 + b"}")
    yield "a body nested 900 deep", raw(b'{"data": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}")
    yield "a number of 5000 digits", raw(b'{"data": [' + b"9" * 5000 + b"]}")
    yield "a body of 30 MB", raw(b'{"data": ["' + b"A" * 30 * MB + b'"]}')
    yield "a session_hash of 1000 characters", raw(b'{"data": [], "session_hash": "' + b"s" * 1000 + b'"}')
    yield "a call that there is not", raw(b'{"data": []}', "/gradio_api/call/nothing")
    yield "an argument that there is not", raw(b'{"nothing": 1}', "/gradio_api/call/v2/predict")
    yield (
        "a function by the number 999",
        raw(b'{"data": [], "fn_index": 999, "session_hash": "s"}', "/gradio_api/queue/join"),
    )


def pieces(count: int) -> Iterator[bytes]:
    yield part(b"")[:-2]
    yield from (bytes(MB) for _ in range(count))
    yield b"\r\n" + END


def uploads() -> Iterator[tuple[str, bytes | Callable[[], Iterator[bytes]], dict[str, str]]]:
    """What it is, its body, its headers."""
    png = encode(photo(), "PNG")
    yield "a file of 21 MB", part(bytes(21 * MB)) + END, MULTIPART
    yield "65 MB in 4 files", b"".join(part(bytes(65 * MB // 4), f"{n}.png") for n in range(4)) + END, MULTIPART
    yield "500 MB, of which nothing is announced", lambda: pieces(500), MULTIPART
    yield "500 MB, as announced", part(png), MULTIPART | {"Content-Length": str(500 * MB)}
    yield "17 files", b"".join(part(png, f"{n}.png") for n in range(17)) + END, MULTIPART
    yield "1000 empty files", b"".join(part(b"", f"{n}.png") for n in range(1000)) + END, MULTIPART
    yield (
        "20 MB of text in the place of a file",
        part(bytes(20 * MB)).replace(b'; filename="picture.png"', b"") + END,
        MULTIPART,
    )
    yield "a file in a field of another name", part(png, field="other") + END, MULTIPART
    yield "a file named `..`", part(png, "..") + END, MULTIPART
    yield "a name of 1 MB", part(png, "x" * MB) + END, MULTIPART
    yield "no file", END, MULTIPART
    yield "an upload without an end", part(png), MULTIPART
    yield "garbage", b"garbage", MULTIPART
    yield "an image as it is", png, {"Content-Type": "image/png"}


def rest() -> Iterator[tuple[str, str, str, bytes | Callable[[], Iterator[bytes]], dict[str, str]]]:
    """What it is, method, address, body, headers."""
    png = encode(photo())
    one, two, kind = part(png, field="image"), part(png, field="images"), MULTIPART["Content-Type"]
    text = one.replace(b'; filename="picture.png"', b"")
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
        yield f"method {method}", method, "/api/predict", one + END if method in ("PUT", "PATCH") else b"", MULTIPART
    yield "POST of what is read only", "POST", "/api/model", one + END, MULTIPART
    for other in ("application/json", "image/png", "application/x-www-form-urlencoded", "multipart/mixed; boundary=b"):
        yield f"content type {other}", "POST", "/api/predict", png, {"Content-Type": other}
    yield "no content type", "POST", "/api/predict", one + END, {}
    for form in ("", "; boundary=", "; boundary=other", "; boundary=" + "b" * 5000, "; boundary=\xff"):
        what = f"content type multipart/form-data{form[:20]}"
        yield what, "POST", "/api/predict", one + END, {"Content-Type": f"multipart/form-data{form}"}
    bodies: dict[str, bytes | Callable[[], Iterator[bytes]]] = {
        "an empty body": b"",
        "garbage": b"garbage",
        "no end": one,
        "half of the body": one[: len(one) // 2],
        "an end alone": END,
        "something behind the end": one + END + b"more",
        "1000 fields": text * 1000 + END,
        "1001 empty files": part(b"", field="image") * 1001 + END,
        "17 images": two * 17 + END,
        "65 MB in 4 images": part(bytes(65 * MB // 4), field="images") * 4 + END,
        "a file of 21 MB": part(bytes(21 * MB), field="image") + END,
        "500 MB, unannounced": lambda: pieces(500),
        "a text of 20 MB": text.replace(png, bytes(20 * MB)) + END,
        "a text in the place of the image": text + END,
        "a field name of 1 MB": part(png, field="x" * MB) + END,
        "a field of another name": part(png, field="images") + END,
        "a field name with a NUL": part(png, field="image\0") + END,
        "a file name with a NUL": part(png, "a\0b.png", "image") + END,
        "a file name of broken UTF-8": one.replace(b"picture", b"\xed\xa0\x80") + END,
        "a field twice: noise, then an image": part(b"x", field="image") + one + END,
        "a part without headers": one[:22] + b"\r\n\r\n" + png + b"\r\n" + END,
        "a part with 9000 headers": one.replace(b"\r\n", b"\r\nA: b" * 9000 + b"\r\n", 1) + END,
    }
    for what, body in bodies.items():
        batch = what in ("17 images", "65 MB in 4 images", "500 MB, unannounced")
        yield what, "POST", "/api/predict/batch" if batch else "/api/predict", body, MULTIPART
    yield "an unknown charset", "POST", "/api/predict", one + END, {"Content-Type": f"{kind}; charset=x"}
    queries = ("top_k=0", "top_k=1e9", "top_k=" + "9" * 5000, "top_k=1&top_k=99", "fit=%00", "fit=%ED%A0%80")
    for query in (*queries, "&" * 2000):
        yield f"`?{query[:20]}`", "POST", f"/api/predict?{query}", one + END, MULTIPART
    for label in ("lion", "%ED%A0%80", "x" * 5000, "%3Cscript%3E"):
        yield f"`?label={label[:20]}`", "POST", f"/api/activation-map?label={label}", one + END, MULTIPART
    for path in ("/api/", "/api/..%2f..%2fetc/passwd", "/api/%00", "/api//predict", "/api/predict%0d%0aX:y"):
        yield f"`POST {path[:30]}`", "POST", path, one + END, MULTIPART


LENGTHS = {
    "a negative Content-Length": b"Content-Length: -5",
    "a Content-Length that is no number": b"Content-Length: x",
    "a Content-Length of 30 digits": b"Content-Length: " + b"9" * 30,
    "two Content-Lengths": b"Content-Length: 5\r\nContent-Length: 50",
    "a chunk of a negative size": b"Transfer-Encoding: chunked\r\n\r\n-5\r\nx",
    "chunks without an end": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "less than was announced": b"Content-Length: 500\r\n\r\nhello",
}


def raw(address: str, rest: bytes) -> Answer:
    """What no client library sends; its connection is closed for writing behind it."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), timeout=SECONDS) as connection:
        head = f"POST /api/predict HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {MULTIPART['Content-Type']}\r\n"
        connection.sendall(head.encode() + rest + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if not answer:
        return "closed", "(nothing)"
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["detail"] if b"json" in head else body.decode()


ROUTES = [
    *(("GET", f"/gradio_api/file={path}") for path in ("/etc/passwd", "../../etc/passwd", "/proc/self/environ")),
    *(("GET", f"/gradio_api/file={url}") for url in ("http://169.254.169.254/", "https://example.com/", "file:///etc")),
    ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
    ("GET", "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
    *(("GET", path) for path in ("/monitoring", "/redoc", "/docs", "/gradio_api/dev/reload", "/gradio_api/token")),
    *(("POST", path) for path in ("/login", "/gradio_api/component_server", "/gradio_api/process_recording")),
    *(
        ("POST", path)
        for path in ("/gradio_api/vibe-edit", "/gradio_api/run-history/connect", "/gradio_api/run/predict")
    ),
]


def run(address: str) -> Iterator[tuple[str, str, str, str]]:
    """(kind, what was sent, status, answer) of every case, one after the other."""
    good, pages = upload(address, encode(photo(), "PNG"))[1], []
    for what, name, content in files():
        if name.endswith((".svg", "page.png")):
            pages.append((what, name, content))
        yield "file", what, *_row(ask_rest(address, content, name))
        yield "page", what, *_row(ask_about(address, name, content))
    for what, method, path, body, headers in rest():
        yield "REST", what, *_row(answer_of(*ask(address, method, path, body() if callable(body) else body, headers)))
    for what, head in LENGTHS.items():
        yield "REST", what, *_row(raw(address, head))
    for what, body, headers in uploads():
        yield "upload", what, *_row(sent(address, body() if callable(body) else body, headers))
    for what, send in calls():
        yield "call", what, *_row(send(address, good))
    for method, path in ROUTES:
        body, headers = (b'{"data": []}', JSON) if method == "POST" else (None, None)
        status, _, answer = ask(address, method, path, body, headers)
        yield "route", f"`{method} {path}`", *_row((status, told(json.loads(answer)["detail"])))
    for what, name, content in pages:
        path = upload(address, content, name.replace(".png", ".html"))[1]
        _, headers, _ = ask(address, "GET", f"/gradio_api/file={path}")
        served = f"({headers['content-type']}; {headers['content-disposition'].split(';')[0]})"
        yield "route", f"{what}, uploaded and then opened in a browser", "200", served
    yield "last", "a JPEG, after all of these", *_row(ask_rest(address, encode(photo(), "JPEG")))
    yield "last", "the same on the page", *_row(ask_about(address, "photo.jpg", encode(photo(), "JPEG")))


def _row(answer: Answer) -> tuple[str, str]:
    return str(answer[0]), " ".join(answer[1].replace("|", "\\|").split())


def table(rows: list[tuple[str, str, str, str]]) -> str:
    lines = ["| | what is sent | status | what is answered |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


LEAK = re.compile(r"Traceback|File \"|site-packages|/tmp|/home|\.py\b|Error:|Exception|0x[0-9a-f]{6,}|/work")
"""What no stranger may read of the server."""


def memory(pid: int, name: str = "VmRSS") -> int:
    """Of a process, in MB (Linux; else 0). VmHWM is its peak."""
    status = Path("/proc", str(pid), "status")
    return int(re.search(rf"{name}:\s+(\d+)", status.read_text()).group(1)) // 1024 if status.exists() else 0


@dataclass
class Found:
    """The rows of all cases in their order, the seconds that the slowest took, MB of memory at rest, and above it at
    most and at the end, and what is left of uploads that were refused."""

    rows: list[tuple[str, str, str, str]]
    slowest: float
    rest: int
    peak: int
    kept: int
    left: list[Path]


def drive(folder: Path) -> Found:
    """All cases, sent to an app of its own."""
    with running_app(folder) as address:
        pid = int((folder / "app.pid").read_text())
        ask_about(address, "photo.jpg", encode(photo(), "JPEG"))
        rest, rows, slowest, before = memory(pid), [], 0.0, time.monotonic()
        if rest:
            Path("/proc", str(pid), "clear_refs").write_text("5")  # forgets the peak
        for row in run(address):
            rows.append(row)
            took, before = time.monotonic() - before, time.monotonic()
            slowest = max(slowest, took)
            print(*row, f"+{memory(pid, 'VmHWM') - rest} MB, {took:.1f} s", file=sys.stderr)
        left = list((folder / "uploads").rglob("tmp*"))
        return Found(rows, slowest, rest, memory(pid, "VmHWM") - rest, memory(pid) - rest, left)


ABOUT = """# Malformed and malicious input

{count} files and requests sent over HTTP to `python app.py`, most of them bad, some unusual but valid. Written by
`python -m tests.hostile`; [security.md](../security.md) explains the limits.

Each was answered within {slowest} seconds. Memory peaked at {peak} MB above the {rest} MB at rest, and ended {kept} MB
above it. *file*: `POST /api/predict`; *page*: the same file, sent as the page does it; *REST*: malformed REST requests;
*upload*, *call*, *route*: Gradio's routes. The status is that of the last request; "200, error" is an event stream that
ends in an error.

"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        found = drive(Path(scratch))
    numbers = {"count": len(found.rows), "slowest": math.ceil(found.slowest), "peak": found.peak}
    PAGE.write_text(ABOUT.format(**numbers, rest=found.rest, kept=found.kept) + table(found.rows))
    print(f"{PAGE}: {len(found.rows)} cases, peak {found.peak} MB above {found.rest} MB")


if __name__ == "__main__":
    main()
