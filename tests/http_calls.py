"""What a stranger's program sends to the page: HTTP by hand, so that it may be wrong."""

import http.client
import json
from collections.abc import Iterable
from urllib.parse import urlsplit

UPLOAD = "/gradio_api/upload"
BOUNDARY = "b" * 20
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
META = {"_type": "gradio.FileData"}
SECONDS = 60


def connect(address: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(address).netloc, timeout=SECONDS)


def ask(
    address: str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (small letters) and body of the answer. A body in pieces goes without Content-Length."""
    connection = connect(address)
    try:
        try:
            connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent: the answer is there
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def part(content: bytes, name: str = "picture.png", field: str = "files") -> bytes:
    file_name = name.replace('"', "%22")
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{file_name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def upload(address: str, content: bytes, name: str = "picture.png") -> tuple[int, str]:
    """Status, and the path on the server or the sentence."""
    status, _, body = ask(address, "POST", UPLOAD, part(content, name) + END, MULTIPART)
    return status, json.loads(body)[0] if status == 200 else body.decode()


def stored(path: str) -> dict:
    return {"path": path, "meta": META}


def post(address: str, path: str, body: object) -> tuple[int, dict]:
    """`body` as JSON, unless it is bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, _, answer = ask(address, "POST", path, raw, {"Content-Type": "application/json"})
    return status, json.loads(answer)


def call(address: str, api: str, data: object) -> tuple[int, object]:
    """Status, and the outputs (a list) or the error: a sentence, or None where gradio tells none."""
    status, body = post(address, f"/gradio_api/call/{api}", data if isinstance(data, bytes) else {"data": data})
    if status != 200:
        return status, body["detail"]
    status, _, events = ask(address, "GET", f"/gradio_api/call/{api}/{body['event_id']}")
    kind, value = events.decode().strip().split("\n\n")[-1].split("\n")[:2]
    found = json.loads(value.removeprefix("data: "))
    assert kind in ("event: complete", "event: error"), events
    return status, found if kind == "event: complete" else found["error"]
