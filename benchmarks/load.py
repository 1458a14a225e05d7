"""Clients that send images over raw HTTP: `python -m benchmarks.load PROTOCOL ADDRESS FILES --clients N`.

A prediction is one POST (`rest`), or three requests as gradio's own clients make them (`gradio`): POST the image, POST
the call, read the event stream to its end. Every client sends its next image when it has its answer; each has its own
bytes. Prints JSON.

Imports neither torch nor gradio, so that it starts at once and leaves the processor to the server.
"""

import argparse
import asyncio
import json
import resource
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.pictures import unique

TIMEOUT = 120
BUSY_PAUSE = 0.5
"""Seconds that a client waits after a "busy" (503), as a visitor would. It is counted, not hidden."""

BOUNDARY = "a-line-that-is-in-no-jpeg"


class Refused(Exception):
    """A prediction that was not made; the text is its kind."""


class Connection:
    """One visitor's connection, kept open between requests, reopened where the server closed it.

    Why not httpx: it spends 7 ms of processor time on a request, as much as the page that is measured.
    """

    def __init__(self, host: str, port: int):
        self.host, self.port = host, port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, content_type: str, body: bytes) -> bytes:
        return await self._ask("POST", path, f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n", body)

    async def get(self, path: str) -> bytes:
        return await self._ask("GET", path, "", b"")

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None

    async def _ask(self, method: str, path: str, headers: str, body: bytes) -> bytes:
        """The body of a 200; raises Refused for another status."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n{headers}\r\n".encode() + body)
        await self.writer.drain()
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        answered = dict(line.split(": ", 1) for line in lines if line)
        content = await self._body(answered)
        if answered.get("connection") == "close":
            self.close()
        code = status.split()[1]
        if code != "200":
            raise Refused("busy" if code == "503" else f"HTTP {code}")
        return content

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers.get("content-length", 0)))
        content = b""
        while size := int(await self.reader.readline(), 16):
            content += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return content


async def rest(connection: Connection, image: bytes) -> None:
    """A prediction in one request. Raises Refused unless it is one."""
    found = json.loads(await connection.post("/api/predict", *multipart("image", image)))
    if not found["confidences"]:
        raise Refused("no prediction")


async def gradio(connection: Connection, image: bytes) -> None:
    """A prediction in three requests: https://www.gradio.app/guides/querying-gradio-apps-with-curl. What is not named
    has its default. Raises Refused unless it is one."""
    (path,) = json.loads(await connection.post("/gradio_api/upload", *multipart("files", image)))
    call = json.dumps({"image": {"path": path, "meta": {"_type": "gradio.FileData"}}}).encode()
    event = json.loads(await connection.post("/gradio_api/call/v2/predict", "application/json", call))["event_id"]
    answer((await connection.get(f"/gradio_api/call/predict/{event}")).decode())


PROTOCOLS = {"rest": rest, "gradio": gradio}


class Load:
    """Counts what `clients` get who ask until `seconds` are over, or until `requests` predictions were begun."""

    def __init__(self, protocol: str, address: str, pictures: Sequence[bytes], mark: str = "0"):
        self.host, self.port = urlsplit(address).hostname, urlsplit(address).port
        self.predict, self.pictures, self.mark = PROTOCOLS[protocol], pictures, mark
        self.begun = 0
        self.latencies: list[float] = []
        self.failures: Counter[str] = Counter()

    async def run(self, clients: int, seconds: float = float("inf"), requests: float = float("inf")) -> dict[str, Any]:
        used, started = processor_seconds(), time.perf_counter()
        await asyncio.gather(*(self._client(started + seconds, requests) for _ in range(clients)))
        took = time.perf_counter() - started
        return {
            "clients": clients,
            "seconds": took,
            "answered": len(self.latencies),
            "requests_per_second": len(self.latencies) / took,
            "latency": summary(self.latencies),
            "busy": self.failures.pop("busy", 0),
            "errors": dict(self.failures),
            "client_processor_seconds": processor_seconds() - used,
        }

    async def _client(self, end: float, requests: float) -> None:
        connection = Connection(self.host, self.port)
        while time.perf_counter() < end and self.begun < requests:
            self.begun += 1
            number = self.begun
            began = time.perf_counter()
            try:
                image = unique(self.pictures[number % len(self.pictures)], f"{self.mark}-{number}")
                async with asyncio.timeout(TIMEOUT):
                    await self.predict(connection, image)
                self.latencies.append(time.perf_counter() - began)
            except Refused as reason:
                self.failures[str(reason)] += 1
                if str(reason) == "busy":
                    await asyncio.sleep(BUSY_PAUSE)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.failures[type(error).__name__] += 1
                connection.close()
        connection.close()


def multipart(field: str, image: bytes) -> tuple[str, bytes]:
    """Content type and body of an upload."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="photo.jpg"\r\n'
    head, tail = f"{part}Content-Type: image/jpeg\r\n\r\n", f"\r\n--{BOUNDARY}--\r\n"
    return f"multipart/form-data; boundary={BOUNDARY}", head.encode() + image + tail.encode()


def answer(stream: str) -> list[Any]:
    """The outputs of a call, from its event stream."""
    *_, last = stream.strip().split("\n\n")
    event, _, data = last.partition("\n")
    if event != "event: complete":
        raise Refused(event.removeprefix("event: ") + " event" if event else "empty stream")
    outputs = json.loads(data.removeprefix("data: "))
    if not outputs[0]["confidences"]:
        raise Refused("no prediction")
    return outputs


def summary(latencies: list[float]) -> dict[str, float] | None:
    """Milliseconds; None where nobody was answered."""
    if not latencies:
        return None
    return {f"p{percent}": percentile(latencies, percent) * 1000 for percent in (50, 95, 99)}


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that at least `percent` per cent of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__.splitlines()[0])
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("address")
    parser.add_argument("files", nargs="+", type=Path, help="JPEG files, sent in turn")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no prediction begins after so long")
    parser.add_argument("--requests", type=float, default=float("inf"), help="no more predictions than this")
    parser.add_argument("--mark", default="0", help="makes the bytes differ from those of another run")
    args = parser.parse_args(argv)
    load = Load(args.protocol, args.address, [path.read_bytes() for path in args.files], args.mark)
    print(json.dumps(asyncio.run(load.run(args.clients, args.seconds, args.requests))))


if __name__ == "__main__":
    main()
