"""Clients that send images over HTTP: threads that each send their next image when they have their answer.

A prediction is one POST (`rest`), or three requests as Gradio's own clients make them (`gradio`). Imports neither torch
nor gradio. httpx is not used: it spends 7 ms of processor time on a request, as much as the server that is measured.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from benchmarks.photos import unique
from benchmarks.server import Server

TIMEOUT = 120
BUSY_PAUSE = 0.5
"""Seconds that a client waits after a "busy" (503), as a visitor would. It is counted, not hidden."""

BOUNDARY = "a-line-that-is-in-no-jpeg"


class Refused(Exception):
    """A prediction that was not made; the text is its kind."""


def request(connection: HTTPConnection, method: str, path: str, kind: str = "", body: bytes | None = None) -> bytes:
    connection.request(method, path, body, {"Content-Type": kind} if body else {})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise Refused("busy" if answer.status == 503 else f"HTTP {answer.status}")
    return content


def upload(connection: HTTPConnection, path: str, field: str, image: bytes) -> Any:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="photo.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    return json.loads(request(connection, "POST", path, f"multipart/form-data; boundary={BOUNDARY}", body))


def rest(connection: HTTPConnection, image: bytes) -> dict[str, Any]:
    return upload(connection, "/api/predict", "image", image)


def gradio(connection: HTTPConnection, image: bytes) -> dict[str, Any]:
    """https://www.gradio.app/guides/querying-gradio-apps-with-curl; inputs that are not named have their default."""
    (path,) = upload(connection, "/gradio_api/upload", "files", image)
    call = json.dumps({"image": {"path": path, "meta": {"_type": "gradio.FileData"}}}).encode()
    event = json.loads(request(connection, "POST", "/gradio_api/call/v2/predict", "application/json", call))["event_id"]
    stream = request(connection, "GET", f"/gradio_api/call/predict/{event}").decode()
    kind, _, data = stream.strip().split("\n\n")[-1].partition("\n")
    if kind != "event: complete":
        raise Refused(f"{kind.removeprefix('event: ')} event")
    return json.loads(data.removeprefix("data: "))[0]


PROTOCOLS = {"rest": rest, "gradio": gradio}


def ask(
    server: Server,
    protocol: str,
    images: Sequence[bytes],
    clients: int,
    mark: str,
    seconds: float = float("inf"),
    requests: float = float("inf"),
) -> dict[str, Any]:
    """What `clients` get who begin predictions until `seconds` are over, or until there were `requests`, and what
    processor time the server spent on it. `mark` makes the bytes differ from those of another call."""
    latencies: list[float] = []
    failures: Counter[str] = Counter()
    numbers, used, started = count(1), server.processor_seconds(), time.perf_counter()

    def client() -> None:
        connection = HTTPConnection(urlsplit(server.address).netloc, timeout=TIMEOUT)
        while time.perf_counter() < started + seconds and (number := next(numbers)) <= requests:
            began = time.perf_counter()
            try:
                image = unique(images[number % len(images)], f"{mark}-{number}")
                if not PROTOCOLS[protocol](connection, image)["confidences"]:
                    raise Refused("no prediction")
                latencies.append(time.perf_counter() - began)
            except Refused as reason:
                failures[str(reason)] += 1
                if str(reason) == "busy":
                    time.sleep(BUSY_PAUSE)
            except (OSError, HTTPException) as error:
                failures[type(error).__name__] += 1
                connection.close()
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    return {
        "clients": clients,
        "seconds": took,
        "answered": len(latencies),
        "requests_per_second": len(latencies) / took,
        "latency": {f"p{percent}": 1000 * percentile(latencies, percent) for percent in (50, 95, 99) if latencies},
        "busy": failures.pop("busy", 0),
        "errors": dict(failures),
        "server_processor_seconds": server.processor_seconds() - used,
    }


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that at least `percent` per cent of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
