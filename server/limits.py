"""What one request may send, and what all may at the same time. Every refusal is one sentence.

Plain ASGI middleware, so that server-sent events pass untouched.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.preprocess import MAX_UPLOAD_BYTES

MB = 2**20
UPLOAD = "/gradio_api/upload"
MANY_IMAGES, ONE_IMAGE = (UPLOAD, "/api/predict/batch"), ("/api/predict", "/api/activation-map")
"""Addresses that take multipart/form-data."""

RETRY_SECONDS = 5

NOT_MULTIPART = "Send the image as multipart/form-data."
DAMAGED = "The upload is damaged or incomplete: send it again."
TOO_SLOW = "The upload took too long: try a smaller image or a faster connection."
MANY_UPLOADS = "The server is busy: too many uploads at once. Try again in a few seconds."
MANY_REQUESTS = "The server is busy: too many visitors at once. Try again in a few seconds."
LONG_QUERY = "The part of the address behind the question mark is too long."
STOPPING = "The server is stopping. Try again in a few seconds."


@dataclass(frozen=True)
class Limits:
    request_bytes: int = 64 * MB
    images: int = 16
    image_bytes: int = MAX_UPLOAD_BYTES
    json_bytes: int = 64 * 1024
    """Of a call of gradio, which names uploads. Gradio keeps each input's last value for 64 sessions."""
    query_bytes: int = 2048
    body_seconds: float = 60
    silent_seconds: float = 10
    """Grace for a body that does not come: after it, bytes_per_second must have come on average."""
    bytes_per_second: int = 16_384
    uploads: int = 128
    """Bodies on their way at once."""
    bytes_in_flight: int = 512 * MB
    """Of all bodies whose requests are not yet answered."""
    requests: int = 1000
    """At once. A visitor of the page holds two open: gradio's heartbeat, and the stream of answers."""
    waiting: int = 64
    """Events in gradio's queue (told in the refusal of one more)."""

    def body_bytes(self, path: str) -> int:
        """Of one request to `path`."""
        if path in MANY_IMAGES:
            return self.request_bytes
        return self.image_bytes + MB if path in ONE_IMAGE else self.json_bytes


class Refusal(MultiPartException):
    """An answer in one sentence, raised where a body is read. Starlette's form parser, and gradio's, delete what they
    have stored of a body when this kind of exception ends it."""

    def __init__(self, status: int, sentence: str, retry: bool = False):
        super().__init__(sentence)
        self.status, self.sentence, self.retry = status, sentence, retry

    def answer(self, path: str) -> tuple[MutableHeaders, bytes]:
        """Headers and body. A visitor of the page reads as it is what an upload is answered with."""
        plain = path.rstrip("/") == UPLOAD
        body = (self.sentence if plain else json.dumps({"detail": self.sentence})).encode()
        headers = MutableHeaders(
            {"content-type": "text/plain; charset=utf-8" if plain else "application/json"}
            | {"content-length": str(len(body))}
            | ({"retry-after": str(RETRY_SECONDS)} if self.retry else {})
        )
        return headers, body


@dataclass
class Waits:
    """What waits for a client: all of it ends when the server stops, else one open tab would hold it for ever."""

    stopped: bool = False
    under_way: set[asyncio.Timeout] = field(default_factory=set)

    async def receive(self, receive: Receive, until: float | None) -> Message:
        """The next message. Raises TimeoutError at `until` (of the loop's clock), or when the server stops."""
        async with asyncio.timeout_at(0 if self.stopped else until) as wait:
            self.under_way.add(wait)
            try:
                return await receive()
            finally:
                self.under_way.discard(wait)

    def stop(self) -> None:
        self.stopped = True
        for wait in self.under_way:
            if not wait.expired():
                wait.reschedule(0)


class RequestLimits:
    """Middleware. `stored` is told the bytes of each upload of the page that went through."""

    def __init__(self, app: ASGIApp, limits: Limits, waits: Waits, stored: Callable[[int], None] = lambda count: None):
        self.app, self.limits, self.waits, self.stored = app, limits, waits, stored
        self.requests = self.uploads = self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(self, scope, receive, send)
        self.requests += 1
        try:
            await request.answer()
        finally:
            self.requests -= 1
            self.uploads -= request.is_upload
            self.in_flight -= request.count


class Request:
    """One request and its answer: the application's, or a refusal in its place as long as that has not begun."""

    def __init__(self, shared: RequestLimits, scope: Scope, receive: Receive, send: Send):
        self.shared, self.limits = shared, shared.limits
        self.scope, self._receive, self._send = scope, receive, send
        self.path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self.has_body = announced or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        self.began = time.monotonic()
        self.count, self.tail = 0, b""  # bytes of the body that came, and its last few
        self.is_upload = self.gone = self.started = self.ended = False
        self.body_done = not self.has_body
        self.refusal: Refusal | None = None

    async def answer(self) -> None:
        try:
            self.check()
            await self.shared.app(self.scope, self.receive, self.send)
        except Refusal as refusal:
            self.refusal = refusal
        except asyncio.CancelledError:
            if not self.shared.waits.stopped:
                raise
            self.refusal = Refusal(503, STOPPING, retry=True)  # it took longer than the server's end may
        except Exception as error:
            # A stream of answers for a session that is unknown or over ends with an HTTPException, having said so.
            over = self.started and isinstance(error.__cause__ or error, HTTPException)
            if self.refusal is None and not over:
                raise
        await self.finish()
        if self.path == UPLOAD:
            self.shared.stored(self.count)

    def check(self) -> None:
        if self.shared.waits.stopped:
            raise Refusal(503, STOPPING, retry=True)
        if self.shared.requests > self.limits.requests:
            raise Refusal(503, MANY_REQUESTS, retry=True)
        if len(self.scope["query_string"]) > self.limits.query_bytes:
            raise Refusal(400, LONG_QUERY)
        if not self.has_body:
            return
        announced = Headers(scope=self.scope).get("content-length", "")
        self.check_size(int(announced) if announced.isdecimal() and len(announced) < 19 else 0)
        if self.scope["method"] == "POST" and self.path in MANY_IMAGES + ONE_IMAGE:
            if Headers(scope=self.scope).get("content-type", "").lower().split(";")[0].strip() != "multipart/form-data":
                raise Refusal(415, NOT_MULTIPART)
            if self.shared.uploads >= self.limits.uploads:
                raise Refusal(503, MANY_UPLOADS, retry=True)
            self.is_upload = True
            self.shared.uploads += 1

    def check_size(self, count: int) -> None:
        limit = self.limits.body_bytes(self.path)
        if count <= limit:
            return
        if limit == self.limits.json_bytes:
            raise Refusal(413, f"A call may have {limit // 1024} kB at most: send images to {UPLOAD} first.")
        if limit < self.limits.request_bytes:
            raise Refusal(413, f"A file may have {self.limits.image_bytes // MB} MB at most.")
        raise Refusal(413, f"An upload may have {limit // MB} MB at most.")

    async def receive(self) -> Message:
        """The next message for the application; a Refusal where the body is too large, too slow or broken off."""
        if self.body_done:
            try:
                message = await self.shared.waits.receive(self._receive, None)
            except TimeoutError:  # the server stops
                return {"type": "http.disconnect"}
            self.gone = self.gone or message["type"] == "http.disconnect"
            return message
        try:
            return await self.next_piece()
        except Refusal as refusal:
            self.refusal = refusal
            raise

    async def next_piece(self) -> Message:
        allowed = min(self.limits.body_seconds, self.limits.silent_seconds + self.count / self.limits.bytes_per_second)
        until = asyncio.get_running_loop().time() + max(0.01, self.began + allowed - time.monotonic())
        try:
            message = await self.shared.waits.receive(self._receive, until)
        except TimeoutError:
            raise (Refusal(503, STOPPING, True) if self.shared.waits.stopped else Refusal(408, TOO_SLOW)) from None
        if message["type"] == "http.disconnect":
            self.gone = self.body_done = True
            raise Refusal(400, DAMAGED)
        self.body_done = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self.count += size
        self.shared.in_flight += size
        self.check_size(self.count)
        if self.shared.in_flight > self.limits.bytes_in_flight:
            raise Refusal(503, MANY_UPLOADS, retry=True)
        self.tail = (self.tail + message.get("body", b""))[-16:]
        if self.body_done and self.is_upload and not self.tail.rstrip().endswith(b"--"):
            raise Refusal(400, DAMAGED)  # it ends without a boundary; the parser would pass over its last part
        return message

    async def send(self, message: Message) -> None:
        if self.refusal is not None and not self.started:
            return
        await self.send_on(message)

    async def send_on(self, message: Message) -> None:
        """An answer that comes before the body has is the connection's last, and ends after it."""
        unread = not (self.body_done or self.gone)
        if message["type"] == "http.response.start":
            self.started = True
            if unread:
                MutableHeaders(scope=message)["connection"] = "close"
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.ended = True
            if unread:
                await self._send(message | {"more_body": True})
                await self.drain()
                message = {"type": "http.response.body"}
        await self._send(message)

    async def finish(self) -> None:
        """Sends the refusal, and ends what the application left open."""
        if self.gone or self.ended or (self.refusal is None and not self.started):
            return
        body = b""
        if not self.started:
            headers, body = self.refusal.answer(self.path)
            await self.send_on({"type": "http.response.start", "status": self.refusal.status, "headers": headers.raw})
        await self.send_on({"type": "http.response.body", "body": body})

    async def drain(self, seconds: float = 5) -> None:
        """Lets a client that sends its whole body before it reads come to the answer: closed at once, the connection
        would be reset and the answer lost. For a moment only, and not for one that was too slow."""
        too_slow = self.refusal is not None and self.refusal.status == 408
        until = asyncio.get_running_loop().time() + (0 if too_slow else seconds)
        more = True
        while more:
            try:
                message = await self.shared.waits.receive(self._receive, until)
            except TimeoutError:
                return
            more = message["type"] == "http.request" and message.get("more_body", False)
