"""What a stranger's program sends: HTTP by hand, so that it may be wrong."""

import http.client
import json
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

UPLOAD = "/gradio_api/upload"
BOUNDARY = "b" * 20
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"Content-Type": "application/json"}
END = f"--{BOUNDARY}--\r\n".encode()
SECONDS = 60

LEAK = re.compile(r"Traceback|File \"|site-packages|/tmp|/home|\.py\b|Error:|Exception|0x[0-9a-f]{6,}|/work")
"""What no stranger may read of the server."""


def ask(
    address: str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (small letters) and body of the answer. A body in pieces goes without Content-Length."""
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=SECONDS)) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent: the answer is there
            connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def part(content: bytes, name: str = "picture.png", field: str = "files") -> bytes:
    file_name = name.replace('"', "%22")
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{file_name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


def sent(address: str, body: bytes | Iterable[bytes], headers: dict[str, str] = MULTIPART) -> tuple[int, str]:
    """Status and text of what an upload is answered with."""
    status, _, answer = ask(address, "POST", UPLOAD, body, headers)
    return status, answer.decode()


def upload(address: str, content: bytes, name: str = "picture.png") -> tuple[int, str]:
    """Status, and the path on the server or the sentence."""
    status, answer = sent(address, part(content, name) + END)
    return status, json.loads(answer)[0] if status == 200 else answer


def stored(path: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def post(address: str, path: str, body: object) -> tuple[int, dict]:
    """`body` as JSON, unless it is bytes."""
    status, _, answer = ask(address, "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), JSON)
    return status, json.loads(answer)


def call(address: str, api: str, data: object) -> tuple[int, object]:
    """Status, and the outputs (a list) or the error: a sentence, or None where gradio tells none."""
    status, body = post(address, f"/gradio_api/call/{api}", {"data": data})
    if status != 200:
        return status, body["detail"]
    status, _, events = ask(address, "GET", f"/gradio_api/call/{api}/{body['event_id']}")
    kind, value = events.decode().strip().split("\n\n")[-1].split("\n")[:2]
    found = json.loads(value.removeprefix("data: "))
    assert kind in ("event: complete", "event: error"), events
    return status, found if kind == "event: complete" else found["error"]


def connect(address: str, head: str) -> socket.socket:
    """A connection on which the lines of `head` are sent."""
    parts = urlsplit(address)
    client = socket.create_connection((parts.hostname, parts.port), timeout=SECONDS)
    client.sendall("\r\n".join([*head.splitlines(), "Host: x", "", ""]).encode())
    return client


def posting(address: str, path: str, length: int, more: str = "") -> socket.socket:
    """A connection on which the body of a POST is to follow; `more` are further headers."""
    kind = MULTIPART["Content-Type"]
    return connect(address, f"POST {path} HTTP/1.1\nContent-Type: {kind}\nContent-Length: {length}\n{more}")


@contextmanager
def upload_under_way(address: str) -> Iterator[socket.socket]:
    """The server waits for its body, of 5 MB."""
    with posting(address, UPLOAD, 5_000_000, "Expect: 100-continue") as client:
        assert client.recv(4096).startswith(b"HTTP/1.1 100 ")
        yield client
