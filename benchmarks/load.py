"""Clients that send images over HTTP: threads that each send their next image when they have their answer.

A prediction is one POST (`rest`), or three requests as Gradio's own clients make them (`gradio`, `plain`).
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.client import HTTPException
from itertools import count
from typing import Any

import numpy as np

from benchmarks.photos import unique
from benchmarks.server import Server
from tests import http_calls as http

BUSY_PAUSE = 0.5
"""Seconds that a client waits after a "busy" (503), as a visitor would. It is counted, not hidden."""


def rest(address: str, image: bytes) -> tuple[int, Any]:
    """Status, and what is answered."""
    body = http.part(image, "photo.jpg", "image") + http.END
    status, _, answer = http.ask(address, "POST", "/api/predict", body, http.MULTIPART)
    return status, [json.loads(answer)] if status == 200 else None


def gradio(address: str, image: bytes, inputs: Sequence[object] = (5, "crop")) -> tuple[int, Any]:
    """https://www.gradio.app/guides/querying-gradio-apps-with-curl; `inputs` are those behind the image."""
    status, path = http.upload(address, image, "photo.jpg")
    return http.call(address, "predict", [http.stored(path), *inputs]) if status == 200 else (status, path)


def plain(address: str, image: bytes) -> tuple[int, Any]:
    return gradio(address, image, inputs=())


PROTOCOLS = {"rest": rest, "gradio": gradio, "plain": plain}


def predict(protocol: str, address: str, image: bytes) -> str | None:
    """What went wrong."""
    try:
        status, found = PROTOCOLS[protocol](address, image)
    except (OSError, HTTPException) as error:
        return type(error).__name__
    if status != 200:
        return "busy" if status == 503 else f"HTTP {status}"
    return None if isinstance(found, list) and found[0].get("confidences") else "no prediction"


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
        while time.perf_counter() < started + seconds and (number := next(numbers)) <= requests:
            image, began = unique(images[number % len(images)], f"{mark}-{number}"), time.perf_counter()
            if failure := predict(protocol, server.address, image):
                failures[failure] += 1
                time.sleep(BUSY_PAUSE if failure == "busy" else 0)
            else:
                latencies.append(time.perf_counter() - began)

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
        "latency": percentiles(latencies) if latencies else {},
        "busy": failures.pop("busy", 0),
        "errors": dict(failures),
        "server_processor_seconds": server.processor_seconds() - used,
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds, by nearest rank."""
    found = 1000 * np.percentile(seconds, (50, 95, 99), method="inverted_cdf")
    return dict(zip(("p50", "p95", "p99"), found.tolist(), strict=True))
