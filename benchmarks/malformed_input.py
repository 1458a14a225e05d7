"""Bad files and bad requests, as strangers send them to a page, and what each is answered.

    python -m benchmarks.malformed_input     writes docs/security/malformed-input.md

`tests/test_malformed_input.py` compares.
"""

import json
import math
import re
import socket
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks.server import APP, PROJECT, running
from benchmarks.tables import table
from tests.http_calls import END, JSON, MULTIPART, SECONDS, ask, call, part, post, sent, stored, upload
from tests.image_files import chunk, encode, hand_built_png, with_claimed_size

PAGE = PROJECT / "docs" / "security" / "malformed-input.md"
MB = 2**20
ANSWER = "(an answer)"

Answer = tuple[int | str, str]
"""HTTP status (and how the stream of events ended), and the sentence (or ANSWER)."""

Body = bytes | Callable[[], Iterator[bytes]]


def photo(width: int = 320, height: int = 240) -> Image.Image:
    """Smooth colors with noise: what encoders were made for."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    noise = np.random.RandomState(0).randint(-20, 20, (height, width, 3))
    return Image.fromarray((np.dstack([across, down, 255 - across]) + noise).clip(0, 255).astype(np.uint8))


JPEG, PNG, WEBP = (encode(photo(), kind) for kind in ("JPEG", "PNG", "WEBP"))


def packed(piece: bytes, count: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([packer.compress(piece) for _ in range(count)]) + packer.flush()


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that claim to be, or become, huge images; named by their type."""
    yield "png", hand_built_png(20_000, 20_000, 1, 0, packed(bytes(2501), 20_000))
    gif = bytearray(encode(Image.new("P", (8, 8)), "GIF"))
    frame = gif.index(b"\x2c")
    gif[6:10] = gif[frame + 5 : frame + 9] = struct.pack("<HH", 65_535, 65_535)
    yield "gif", bytes(gif)
    yield "jpg", with_claimed_size(encode(photo(16, 16), "JPEG"), 65_000, 65_000)


def files() -> Iterator[tuple[str, str, bytes]]:
    """What it is, the name it is uploaded by, its bytes."""
    gray16 = Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257)
    frames = [Image.new("P", (60, 60), n) for n in range(50)]
    yield "a JPEG", "photo.jpg", JPEG
    yield "a JPEG named .txt", "photo.txt", JPEG
    yield "a JPEG in CMYK", "print.jpg", encode(photo().convert("CMYK"), "JPEG")
    yield "a PNG of 16 bits", "scan.png", encode(gray16, "PNG")
    yield "a GIF of 50 frames", "moving.gif", encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "a PNG of 1 x 1 pixel", "dot.png", encode(photo(1, 1), "PNG")
    yield "a PNG of 20000 x 2 pixels", "line.png", encode(photo(20_000, 2), "PNG")
    yield "a JPEG of 7000 x 7000 pixels", "big.jpg", encode(Image.new("RGB", (7000, 7000), "teal"), "JPEG")
    yield "a PNG of 4900 x 4900 pixels with transparency", "big.png", encode(Image.new("RGBA", (4900, 4900)), "PNG")
    for name in ("<img src=x onerror=alert(1)>.png", "../../../tmp/x.png"):
        yield f"a PNG named `{name}`", name, PNG
    yield "a PNG with a name of 3000 characters", "x" * 3000 + ".png", PNG
    for kind, bomb in bombs():
        yield f"a bomb: {len(bomb)} bytes of {kind.upper()}", f"bomb.{kind}", bomb
    text = chunk(b"zTXt", b"note\0\0" + packed(bytes(MB), 200))
    yield "a bomb: 200 MB of text in a small PNG", "text.png", PNG[:33] + text + PNG[33:]
    for kind, whole in {"JPEG": JPEG, "PNG": PNG, "WebP": WEBP}.items():
        yield f"half a {kind}", "half", whole[: len(whole) // 2]
    yield "a PNG with a damaged byte", "damaged.png", PNG[:3000] + bytes([PNG[3000] ^ 1]) + PNG[3001:]
    yield "a TIFF of floating-point numbers", "float.tif", encode(np.ones((9, 9), np.float32), "TIFF")
    yield "an empty file", "empty.png", b""
    yield "noise", "noise.jpg", np.random.RandomState(1).bytes(5000)
    yield from ((what, name, content) for what, (name, content) in PAGES.items())
    yield "a PDF", "paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"
    yield "a PostScript file", "print.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    yield "a HEIC", "IMG_0001.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60)
    yield "a JPEG 2000", "old.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60)


PAGES = {
    "a web page named .png": ("page.png", b"<!doctype html><script>alert(1)</script>"),
    "an SVG": ("a.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
}


def pieces(count: int) -> Callable[[], Iterator[bytes]]:
    """A file of so many MB, whose length is not announced."""
    return lambda: iter([part(b"", field="image")[:-2], *[bytes(MB)] * count, b"\r\n" + END])


def uploads() -> Iterator[tuple[str, Body, dict[str, str]]]:
    """To gradio's route: what it is, its body, its headers."""
    yield "a file of 21 MB", part(bytes(21 * MB)) + END, MULTIPART
    yield "65 MB in 4 files", part(bytes(65 * MB // 4)) * 4 + END, MULTIPART
    yield "500 MB, of which nothing is announced", pieces(500), MULTIPART
    yield "500 MB, as announced", part(PNG), MULTIPART | {"Content-Length": str(500 * MB)}
    yield "17 files", part(PNG) * 17 + END, MULTIPART
    text = part(bytes(20 * MB)).replace(b'; filename="picture.png"', b"")
    yield "20 MB of text in the place of a file", text + END, MULTIPART
    yield "a file in a field of another name", part(PNG, field="other") + END, MULTIPART
    yield "a file named `..`", part(PNG, "..") + END, MULTIPART
    yield "a name of 1 MB", part(PNG, "x" * MB) + END, MULTIPART
    yield "no file", END, MULTIPART
    yield "an upload without an end", part(PNG), MULTIPART
    yield "an image as it is", PNG, {"Content-Type": "image/png"}


def rest() -> Iterator[tuple[str, str, str, Body, dict[str, str]]]:
    """What it is, method, address, body, headers."""
    one, many, address = part(PNG, field="image"), part(PNG, field="images"), "/api/predict"
    text = one.replace(b'; filename="picture.png"', b"")
    for method in ("GET", "HEAD", "PUT", "OPTIONS", "TRACE", "CONNECT"):
        yield f"method {method}", method, address, one + END if method == "PUT" else b"", MULTIPART
    yield "POST of what is read only", "POST", "/api/model", one + END, MULTIPART
    form = "multipart/form-data"
    for other in (
        "image/png",
        "multipart/mixed; boundary=b",
        form,
        f"{form}; boundary=other",
        f"{form}; boundary=\xff",
    ):
        yield f"content type {other}", "POST", address, one + END, {"Content-Type": other}
    yield "no content type", "POST", address, one + END, {}
    yield "an unknown charset", "POST", address, one + END, {"Content-Type": MULTIPART["Content-Type"] + "; charset=x"}
    bodies: dict[str, Body] = {
        "an empty body": b"",
        "garbage": b"garbage",
        "half of the body": one[: len(one) // 2],
        "something behind the end": one + END + b"more",
        "1001 texts": text.replace(PNG, b"") * 1001 + END,
        "1001 empty files": part(b"", field="image") * 1001 + END,
        "a file of 21 MB": part(bytes(21 * MB), field="image") + END,
        "a text of 20 MB": text.replace(PNG, bytes(20 * MB)) + END,
        "a text in the place of the image": text + END,
        "a field name of 1 MB": part(PNG, field="x" * MB) + END,
        "a field of another name": many + END,
        "a file name with a NUL": part(PNG, "a\0b.png", "image") + END,
        "a file name of broken UTF-8": one.replace(b"picture", b"\xed\xa0\x80") + END,
        "a field twice: noise, then an image": part(b"x", field="image") + one + END,
        "a part without headers": one[:22] + b"\r\n\r\n" + PNG + b"\r\n" + END,
        "a part with 9000 headers": one.replace(b"\r\n", b"\r\nA: b" * 9000 + b"\r\n", 1) + END,
    }
    for what, body in bodies.items():
        yield what, "POST", address, body, MULTIPART
    large = part(bytes(65 * MB // 4), field="images") * 4 + END
    for what, body in {"17 images": many * 17 + END, "65 MB in 4 images": large, "500 MB": pieces(500)}.items():
        yield what, "POST", "/api/predict/batch", body, MULTIPART
    queries = ("top_k=0", "top_k=" + "9" * 5000, "top_k=1&top_k=99", "fit=%ED%A0%80", "&" * 2000)
    addresses = [f"predict?{query}" for query in queries]
    addresses += [f"activation-map?label={label}" for label in ("lion", "%ED%A0%80", "x" * 5000, "%3Cscript%3E")]
    for path in (*addresses, "", "..%2f..%2fetc/passwd", "%00", "predict%0d%0aX:y"):
        yield f"`POST /api/{path[:40]}`", "POST", f"/api/{path}", one + END, MULTIPART


RAW = {
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
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]), told(body)) if answer else ("closed", "(nothing)")


IMAGES: dict[str, object] = {
    "no image": None,
    "a number": 5,
    "a list of images": [{"path": "{good}"}],
    "the path /etc/passwd": {"path": "/etc/passwd"},
    "the path /etc/passwd, said to be an upload": stored("/etc/passwd"),
    "the path of an upload + /../../../etc/passwd": {"path": "{good}/../../../etc/passwd"},
    "the path of the upload folder": {"path": "{good}/../.."},
    "an upload that is gone": {"path": "{good}.gone.png"},
    "a path with a NUL": {"path": "{good}\0.png"},
    "a web address": stored("http://127.0.0.1:9/a.png"),
    "the address of a cloud's secrets": stored("http://169.254.169.254/latest/meta-data/"),
    "a data URL as url": {"url": "data:image/png;base64,iVBORw0KGgo="},
    "an upload and another url": {"path": "{good}", "url": "file:///etc/passwd"},
    "an upload whose `meta` is a number": {"path": "{good}", "meta": 5},
}
"""In the place of the image of /predict. {good} is the path of an upload."""


def inputs() -> Iterator[tuple[str, list]]:
    """Of /predict: what they are, and the inputs."""
    good = stored("{good}")
    yield from ((f"`image`: {what}", [image, 5, "crop"]) for what, image in IMAGES.items())
    for top_k in (11, 2.5, "abc", None, 10**30, [5]):
        yield f"`top_k`: {json.dumps(top_k)}", [good, top_k, "crop"]
    yield from ((f"`fit`: {json.dumps(fit)}", [good, 5, fit]) for fit in ("zoom", None, ["crop"]))
    yield "no inputs", []
    yield "`top_k`: a web address", [good, IMAGES["a web address"], "crop"]
    yield "`fit`: the path /etc/passwd, said to be an upload", [good, 5, stored("/etc/passwd")]
    yield "one input too many", [good, 5, "crop", 1]


CALLS = {
    "no `data`": b"{}",
    "a body that is no JSON": b"hello",
    "a body that is a list": b"[]",
    "a body that is no UTF-8": b'{"data": ["\xff\xfe"]}',
    "a body nested 30,000 deep": b'{"data": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "a number of 5000 digits": b'{"data": [' + b"9" * 5000 + b"]}",
    "a body of 30 MB": b'{"data": ["' + b"A" * 30 * MB + b'"]}',
    "a session_hash of 1000 characters": b'{"data": [], "session_hash": "' + b"s" * 1000 + b'"}',
    "a call that there is not": b'{"data": []}',
    "an argument that there is not": b'{"nothing": 1}',
    "a function by the number 999": b'{"data": [], "fn_index": 999, "session_hash": "s"}',
}
ADDRESSES = {
    "a call that there is not": "call/nothing",
    "an argument that there is not": "call/v2/predict",
    "a function by the number 999": "queue/join",
}
"""Of the calls that are not /predict."""

PLACES = ("/etc/passwd", "../../etc/passwd", "file:///etc", "http://169.254.169.254/")
CLOSED = [
    *(f"GET /gradio_api/file={place}" for place in PLACES),
    *"GET /gradio_api/proxy=http://127.0.0.1/|GET /static/%2e%2e/%2e%2e/%2e%2e/etc/passwd".split("|"),
    *(f"GET {path}" for path in "/monitoring /redoc /docs /gradio_api/dev/reload /gradio_api/token".split()),
    *(f"POST /gradio_api/{path}" for path in "component_server process_recording vibe-edit".split()),
    *"POST /login|POST /gradio_api/run-history/connect|POST /gradio_api/run/predict".split("|"),
]


def told(body: bytes) -> str:
    """The sentence in an answer, or ANSWER."""
    try:
        found = json.loads(body)
    except ValueError:
        return body.decode() or "(no body)"
    return str(found["detail"]) if isinstance(found, dict) and "detail" in found else ANSWER


def on_rest(address: str, content: bytes, name: str = "picture.png") -> Answer:
    status, _, answer = ask(address, "POST", "/api/predict", part(content, name, "image") + END, MULTIPART)
    return status, told(answer)


def on_page(address: str, content: bytes, name: str = "picture.png") -> Answer:
    status, found = upload(address, content, name)
    return predicted(address, [stored(found), 5, "crop"]) if status == 200 else (status, found)


def predicted(address: str, data: list) -> Answer:
    status, found = call(address, "predict", data)
    if isinstance(found, list) and "confidences" in found[0]:
        return status, ANSWER
    return f"{status}, error" if status == 200 else status, str(found)


def run(address: str) -> Iterator[tuple[str, str, Answer]]:
    """(kind, what was sent, answer) of every case, one after the other."""
    good = upload(address, PNG)[1]
    for what, name, content in files():
        yield "file", what, on_rest(address, content, name)
        yield "page", what, on_page(address, content, name)
    for what, method, path, body, headers in rest():
        status, _, answer = ask(address, method, path, body() if callable(body) else body, headers)
        yield "REST", what, (status, told(answer))
    for what, head in RAW.items():
        yield "REST", what, raw(address, head)
    for what, body, headers in uploads():
        status, answer = sent(address, body() if callable(body) else body, headers)
        yield "upload", what, (status, told(answer.encode()))
    for what, data in inputs():
        yield "call", what, predicted(address, json.loads(json.dumps(data).replace("{good}", good)))
    for what, body in CALLS.items():
        status, answer = post(address, f"/gradio_api/{ADDRESSES.get(what, 'call/predict')}", body)
        yield "call", what, (status, str(answer["detail"]))
    for what in CLOSED:
        method, path = what.split()
        status, _, answer = ask(address, method, path, b"{}" if method == "POST" else None, JSON)
        yield "route", f"`{what}`", (status, told(answer))
    for what, (name, content) in PAGES.items():
        path = upload(address, content, name.replace("png", "html"))[1]
        _, headers, _ = ask(address, "GET", f"/gradio_api/file={path}")
        served = f"({headers['content-type']}; {headers['content-disposition'].split(';')[0]})"
        yield "route", f"{what}, uploaded and then opened in a browser", (200, served)
    yield "last", "a JPEG, after all of these", on_rest(address, JPEG)
    yield "last", "the same on the page", on_page(address, JPEG)


@dataclass
class Found:
    """(kind, what was sent, status, sentence) of every case, the seconds that the slowest took, MB of memory at rest,
    and above it at most and at the end."""

    rows: list[tuple[str, str, str, str]]
    slowest: float
    rest: int
    peak: int
    kept: int

    def table(self) -> str:
        """A file that both ways are answered in the same words has one line."""
        lines: list[list[str]] = []
        for kind, *row in self.rows:
            if kind == "page" and row[::2] == lines[-1][1::2]:
                lines[-1][0], lines[-1][2] = "file, page", f"{lines[-1][2]}; {row[1]}"
            else:
                lines.append([kind, *row])
        return table(["", "what is sent", "status", "what is answered"], lines)


def measure() -> Found:
    """Sends all cases to an app of its own."""
    with running(*APP) as server:

        def memory(name: str) -> int:
            return int(re.search(rf"{name}:\s+(\d+)", (server.state / "status").read_text())[1]) // 1024

        on_page(server.address, JPEG)
        (server.state / "clear_refs").write_text("5")  # forgets the peak
        at_rest, rows, slowest, before = memory("VmRSS"), [], 0.0, time.monotonic()
        for kind, what, (status, answer) in run(server.address):
            took, before = time.monotonic() - before, time.monotonic()
            slowest = max(slowest, took)
            rows.append((kind, what, str(status), " ".join(answer.replace("|", "\\|").split())))
            print(*rows[-1], f"{took:.1f} s", file=sys.stderr)
        return Found(rows, slowest, at_rest, memory("VmHWM") - at_rest, memory("VmRSS") - at_rest)


ABOUT = """# Malformed and malicious input

{count} files and requests sent over HTTP to `python app.py`, most of them bad, some unusual but valid. Written by
`python -m benchmarks.malformed_input`; [security.md](../security.md) explains the limits.

Each was answered within {slowest} seconds. Memory peaked at {peak} MB above the {rest} MB at rest, and ended {kept} MB
above it. *file*: `POST /api/predict`; *page*: the same file, sent as the page does it; *REST*: malformed REST requests;
*upload*, *call*, *route*: Gradio's routes. The status is that of the last request; "200, error" is an event stream that
ends in an error.

"""


def main() -> None:
    found = measure()
    numbers = {"count": len(found.rows), "slowest": max(2, math.ceil(found.slowest)), "peak": found.peak}
    PAGE.write_text(ABOUT.format(**numbers, rest=found.rest, kept=found.kept) + found.table())


if __name__ == "__main__":
    main()
