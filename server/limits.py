"""What one request may send, and what all may at the same time. Every refusal is one sentence.

Plain ASGI middleware, so that server-sent events pass untouched.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.preprocess import MAX_UPLOAD_BYTES
from ui.uploads import too_many_images

MB = 2**20
UPLOAD = "/gradio_api/upload"
MANY_IMAGES, ONE_IMAGE = (UPLOAD, "/api/predict/batch"), ("/api/predict", "/api/activation-map")
"""Addresses that take multipart/form-data."""

RETRY_SECONDS = 5

NOT_MULTIPART = "Send the image as multipart/form-data."
DAMAGED = "The upload is damaged or incomplete: send it again."
MANY_TEXTS = "The texts beside the image are too many or too long: leave them out."
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
    drain_seconds: float = 5
    """For what a client still sends when it has its answer."""
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

    def large_file(self) -> str:
        return f"A file may have {self.image_bytes // MB} MB at most."


class Refusal(HTTPException):
    """An answer in one sentence. Whoever gets a 503 may come back soon."""

    def __init__(self, status: int, sentence: str):
        super().__init__(status, sentence, {"retry-after": str(RETRY_SECONDS)} if status == 503 else None)


def answer_to(path: str, error: HTTPException) -> Response:
    """A visitor of the page reads as it is what an upload is answered with; others get JSON."""
    if path.rstrip("/").endswith(UPLOAD):
        return PlainTextResponse(error.detail, error.status_code, error.headers)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


class RequestLimits:
    """Middleware."""

    def __init__(self, app: ASGIApp, limits: Limits):
        self.app, self.limits = app, limits
        self.requests = self.uploads = self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = RequestHandler(self, scope, receive, send)
        self.requests += 1
        try:
            await exchange.run()
        finally:
            self.requests -= 1
            self.uploads -= exchange.is_upload
            self.in_flight -= exchange.count


class RequestHandler:
    """One request and its answer."""

    def __init__(self, shared: RequestLimits, scope: Scope, receive: Receive, send: Send):
        self.shared, self.limits = shared, shared.limits
        self.scope, self._receive, self._send = scope, receive, send
        self.path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        self.headers = Headers(scope=scope)
        announced = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        self.body_done = not announced and scope["method"] in ("GET", "HEAD", "OPTIONS")
        self.began = time.monotonic()
        self.count, self.tail = 0, b""  # bytes of the body that came, and its last few
        self.is_upload = self.started = self.ended = False

    async def run(self) -> None:
        try:
            self.check()
            await self.shared.app(self.scope, self.receive, self.send)
        except Refusal as refusal:
            await self.refuse(refusal)
        except asyncio.CancelledError:  # by server.run, which stops: else one open tab would hold it for ever
            self.body_done = True
            if not self.started:
                await self.refuse(Refusal(503, STOPPING))
            elif not self.ended:
                await self.send({"type": "http.response.body"})

    async def refuse(self, refusal: Refusal) -> None:
        await answer_to(self.path, refusal)(self.scope, self.receive, self.send)

    def check(self) -> None:
        if self.shared.requests > self.limits.requests:
            raise Refusal(503, MANY_REQUESTS)
        if len(self.scope["query_string"]) > self.limits.query_bytes:
            raise Refusal(400, LONG_QUERY)
        if self.body_done:
            return
        self.check_size(int(self.headers.get("content-length", 0)))
        if self.scope["method"] == "POST" and self.path in MANY_IMAGES + ONE_IMAGE:
            if self.headers.get("content-type", "").lower().split(";")[0].strip() != "multipart/form-data":
                raise Refusal(415, NOT_MULTIPART)
            if self.shared.uploads >= self.limits.uploads:
                raise Refusal(503, MANY_UPLOADS)
            self.is_upload = True
            self.shared.uploads += 1

    def check_size(self, count: int) -> None:
        limit = self.limits.body_bytes(self.path)
        if count <= limit:
            return
        if self.path in MANY_IMAGES:
            raise Refusal(413, f"An upload may have {limit // MB} MB at most.")
        if self.path in ONE_IMAGE:
            raise Refusal(413, self.limits.large_file())
        raise Refusal(413, f"A call may have {limit // 1024} kB at most: send images to {UPLOAD} first.")

    async def receive(self) -> Message:
        """The next message for the application; a Refusal where the body is too large, too slow or broken off."""
        if self.body_done or self.started:
            return await self._receive()
        allowed = min(self.limits.body_seconds, self.limits.silent_seconds + self.count / self.limits.bytes_per_second)
        try:
            async with asyncio.timeout(self.began + allowed - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, TOO_SLOW) from None
        piece = message.get("body", b"")
        self.body_done = not message.get("more_body", False)
        self.count += len(piece)
        self.shared.in_flight += len(piece)
        self.check_size(self.count)
        if self.shared.in_flight > self.limits.bytes_in_flight:
            raise Refusal(503, MANY_UPLOADS)
        self.tail = (self.tail + piece)[-16:]
        # Without a boundary at its end, the parser would pass over the last part.
        cut_off = self.body_done and self.is_upload and not self.tail.rstrip().endswith(b"--")
        if message["type"] == "http.disconnect" or cut_off:
            raise Refusal(400, DAMAGED)
        return message

    async def send(self, message: Message) -> None:
        """An answer that comes before the body has is the connection's last, and ends after it."""
        early = not self.body_done
        if message["type"] == "http.response.start":
            self.started = True
            if early:
                MutableHeaders(scope=message)["connection"] = "close"
        elif not message.get("more_body", False):
            self.ended = True
            if early:
                await self._send(message | {"more_body": True})
                await self.drain()
                message = {"type": "http.response.body"}
        await self._send(message)

    async def drain(self) -> None:
        """Lets a client that sends its whole body before it reads come to the answer: closed at once, the connection
        would be reset and the answer lost. For a moment only."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.limits.drain_seconds):
                while (await self._receive()).get("more_body", False):
                    pass


@asynccontextmanager
async def received(request: Request, field: str, limits: Limits) -> AsyncIterator[list[UploadFile]]:
    """The files of that name in the body. Raises HTTPException for none, for too many, and for one too large."""
    too_much = {
        "Too many files": too_many_images(limits.images),
        "Too many fields": MANY_TEXTS,
        "Part exceeded": MANY_TEXTS,
    }
    try:
        async with request.form(max_files=limits.images) as form:
            files = [file for file in form.getlist(field) if isinstance(file, UploadFile)]
            if not files:
                raise Refusal(422, f"No image was given: send it as multipart/form-data, in a field named {field}.")
            if any((file.size or 0) > limits.image_bytes for file in files):
                raise Refusal(413, limits.large_file())
            yield files
    except HTTPException as error:  # starlette tells in words alone what was too much
        for words, sentence in too_much.items():
            if error.detail.startswith(words):
                raise Refusal(413, sentence) from None
        raise
