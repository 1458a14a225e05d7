"""What stands before gradio: limits on what a request sends, the routes that are open, and headers on every answer.

Plain ASGI, so that server-sent events pass untouched. Every refusal is one sentence.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

LOG = logging.getLogger(__name__)

MB = 2**20

API = "/gradio_api"
UPLOAD = f"{API}/upload"
FILE = f"{API}/file="

READ = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\w+)?)/?|/(assets|static|svelte)/.+"
    rf"|{API}/(info|startup-events|theme\.css|upload_progress|queue/(data|status)|heartbeat/[^/]+)/?"
    rf"|{API}/call/(v2/)?[^/]+/[^/]+|{FILE}.+",
    re.DOTALL,
)
"""What the page and the clients of gradio GET. Gradio has more: login, recordings, a proxy, an editor, reloading."""

WRITE = re.compile(rf"{API}/(upload|cancel|reset|queue/join|call/(v2/)?[^/]+)/?")
"""What they POST. Not `run/`, which goes round the queue: it takes a function by its number, too."""

PICTURES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff", "image/avif")
"""The types of an uploaded file that a browser may show by itself; it saves any other, which may be HTML."""

PAGE_POLICY = (
    "default-src 'self'; "
    # inline: gradio writes its settings into the page; eval: how it runs the JavaScript of an event
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
)
FILE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"

CROSS_ORIGIN = {"access-control-allow-origin": "*", "access-control-expose-headers": "Retry-After"}
"""Any page may call the API: there is no login and no cookie, so nothing is sent along that it could misuse."""

PREFLIGHT = CROSS_ORIGIN | {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "*",
    "access-control-max-age": "600",
}

NOT_FOUND = "There is nothing here."
NOT_JSON = "The body must be a JSON object."
BAD_SESSION = "session_hash must be a text of at most 100 characters."
BAD_CALL = "This call does not fit the API: GET /gradio_api/info lists the calls and their inputs."
NOT_MULTIPART = "Send the picture as multipart/form-data, in a field named files."
DAMAGED = "The upload is damaged or incomplete: send it again."
TOO_SLOW = "The upload took too long: try a smaller picture or a faster connection."
MANY_UPLOADS = "The server is busy: too many uploads at once. Try again in a few seconds."
MANY_REQUESTS = "The server is busy: too many visitors at once. Try again in a few seconds."

RETRY_SECONDS = 5


@dataclass(frozen=True)
class Limits:
    """What one request may send, and what all may at the same time."""

    upload_bytes: int = 64 * MB
    files: int = 16
    file_bytes: int = 20 * MB
    json_bytes: int = MB
    json_depth: int = 32
    body_seconds: float = 60
    silent_seconds: float = 10
    """Grace for a body that does not come: after it, bytes_per_second must have come on average."""
    bytes_per_second: int = 16_384
    uploads: int = 128
    uploading_bytes: int = 512 * MB
    requests: int = 1000
    """At once. A visitor holds two open: gradio's heartbeat, and the stream of answers."""
    waiting: int = 64
    """Predictions in the queue (told in the refusal of one more)."""


@dataclass
class Refusal(Exception):
    status: int
    sentence: str
    retry: bool = False


@dataclass
class Guard:
    """`app` behind the limits. `folders()` are those whose files may be read through `/gradio_api/file=`; `uploaded` is
    told the bytes of each upload that went through."""

    app: Callable
    folders: Callable[[], Iterable[Path]]
    uploaded: Callable[[int], None] = lambda count: None
    limits: Limits = field(default_factory=Limits)
    requests: int = 0
    uploads: int = 0
    uploading: int = 0

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = Exchange(scope, receive, send, self.limits)
        self.requests += 1
        try:
            await self.answer(exchange)
        except Refusal as refusal:
            exchange.refusal = refusal
        finally:
            try:
                await exchange.finish()
            finally:
                self.requests -= 1

    async def answer(self, exchange: "Exchange") -> None:
        method, path = exchange.scope["method"], exchange.scope["path"]
        if method == "OPTIONS":
            return await exchange.reply(200, b"", PREFLIGHT)
        if self.requests > self.limits.requests:
            raise Refusal(503, MANY_REQUESTS, retry=True)
        if not (READ if method in ("GET", "HEAD") else WRITE if method == "POST" else NOTHING).fullmatch(path):
            raise Refusal(404, NOT_FOUND)
        if path.startswith(FILE) and not self.may_read(path.removeprefix(FILE)):
            raise Refusal(404, NOT_FOUND)
        if method != "POST":
            await exchange.run(self.app, exchange.receive)
        elif path.rstrip("/") == UPLOAD:
            await self.upload(exchange)
        else:
            body = await exchange.json_body()
            await exchange.run(self.app, replay(body, exchange.receive))

    def may_read(self, name: str) -> bool:
        try:
            file = Path(name).resolve()
            return file.is_file() and any(file.is_relative_to(folder.resolve()) for folder in self.folders())
        except (OSError, ValueError, RuntimeError):  # too long, with a NUL, a circle of links
            return False

    async def upload(self, exchange: "Exchange") -> None:
        """Hands the body on as it comes, so that no more of it is in memory than a piece."""
        form = Form(exchange.headers.get("content-type", ""), self.limits)
        if exchange.announced > self.limits.upload_bytes:
            raise too_much(self.limits)
        if self.uploads >= self.limits.uploads:
            raise Refusal(503, MANY_UPLOADS, retry=True)
        count = 0

        async def receive() -> dict:
            nonlocal count
            if exchange.body_done:
                return await exchange.receive()
            try:
                message = await exchange.next_piece(count)
                piece = message.get("body", b"")
                count += len(piece)
                self.uploading += len(piece)
                if count > self.limits.upload_bytes:
                    raise too_much(self.limits)
                if self.uploading > self.limits.uploading_bytes:
                    raise Refusal(503, MANY_UPLOADS, retry=True)
                form.feed(piece, last=exchange.body_done)
                return message
            except Refusal as refusal:
                exchange.refusal = refusal
                raise MultiPartException(refusal.sentence) from None  # gradio then removes what it has stored

        self.uploads += 1
        try:
            await exchange.run(self.app, receive)
        finally:
            self.uploads -= 1
            self.uploading -= count
            self.uploaded(count)


NOTHING = re.compile(r"(?!)")


def too_much(limits: Limits) -> Refusal:
    return Refusal(413, f"An upload may have {limits.upload_bytes // MB} MB at most.")


class Form:
    """Follows a multipart body as it streams by; raises a Refusal at what gradio would store or hold without end."""

    def __init__(self, content_type: str, limits: Limits):
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Refusal(400, NOT_MULTIPART)
        self.limits, self.files, self.size, self.complete = limits, 0, 0, False
        self.header, self.value, self.disposition = b"", b"", b""
        names = ("part_begin", "header_field", "header_value", "header_end", "headers_finished", "part_data", "end")
        self.parser = MultipartParser(options[b"boundary"], {f"on_{name}": getattr(self, name) for name in names})

    def feed(self, piece: bytes, last: bool) -> None:
        try:
            self.parser.write(piece)
        except FormParserError:
            raise Refusal(400, DAMAGED) from None
        if last and not (self.complete and self.files):
            raise Refusal(400, DAMAGED if self.files else NOT_MULTIPART)

    def part_begin(self) -> None:
        self.size, self.header, self.value, self.disposition = 0, b"", b"", b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def header_end(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = self.value
        self.header = self.value = b""

    def headers_finished(self) -> None:
        _, options = parse_options_header(self.disposition)
        if options.get(b"name") != b"files" or b"filename" not in options:
            raise Refusal(400, NOT_MULTIPART)  # gradio would keep a text in memory, and other files for ever
        if options[b"filename"].replace(b"\\", b"/").split(b"/")[-1].strip() in (b".", b".."):
            raise Refusal(400, "The file needs another name.")
        self.files += 1
        if self.files > self.limits.files:
            raise Refusal(413, f"An upload may have {self.limits.files} files at most.")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.size += end - start
        if self.size > self.limits.file_bytes:
            raise Refusal(413, f"A file may have {self.limits.file_bytes // MB} MB at most.")

    def end(self) -> None:
        self.complete = True


class Exchange:
    """One request and its answer: gradio's, or a refusal in its place as long as gradio's has not begun."""

    def __init__(self, scope: dict, receive: Callable, send: Callable, limits: Limits):
        self.limits, self.path, self.headers = limits, scope["path"], Headers(scope=scope)
        # Without an origin, gradio adds no CORS headers of its own (it would allow credentials). And it answers a range
        # of a file with the headers of the request in the answer.
        dropped = (b"origin", b"range") if self.path.startswith(FILE) else (b"origin",)
        self.scope = scope | {"headers": [(name, value) for name, value in scope["headers"] if name not in dropped]}
        self._receive, self._send = receive, send
        self.began = time.monotonic()
        self.body_done = self.gone = self.started = self.ended = False
        self.refusal: Refusal | None = None

    @property
    def announced(self) -> int:
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() and len(text) < 19 else 0

    async def receive(self) -> dict:
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        self.body_done = self.body_done or self.gone or not message.get("more_body", False)
        return message

    async def next_piece(self, count: int) -> dict:
        """The next of the body, after `count` bytes of it; a Refusal where it is too slow or the client has gone."""
        allowed = min(self.limits.body_seconds, self.limits.silent_seconds + count / self.limits.bytes_per_second)
        try:
            async with asyncio.timeout(max(0.01, self.began + allowed - time.monotonic())):
                message = await self.receive()
        except TimeoutError:
            raise Refusal(408, TOO_SLOW) from None
        if self.gone:
            raise Refusal(400, DAMAGED)
        return message

    async def json_body(self) -> bytes:
        """The whole body: a JSON object that gradio can walk through without a RecursionError."""
        limit, pieces, count = self.limits.json_bytes, [], self.announced
        while count <= limit and not self.body_done:
            pieces.append((await self.next_piece(count := sum(map(len, pieces)))).get("body", b""))
        body = b"".join(pieces)
        if max(count, len(body)) > limit:
            raise Refusal(413, f"A call may have {limit // MB} MB at most: send pictures to {UPLOAD} first.")
        try:
            call = json.loads(body)
        except (ValueError, RecursionError):
            raise Refusal(400, NOT_JSON) from None
        if not isinstance(call, dict):
            raise Refusal(400, NOT_JSON)
        if body.count(b"[") + body.count(b"{") > self.limits.json_depth and depth(call) > self.limits.json_depth:
            raise Refusal(400, f"The body may be nested {self.limits.json_depth} deep at most.")
        session = call.get("session_hash")
        if session is not None and not (isinstance(session, str) and len(session) <= 100):
            raise Refusal(400, BAD_SESSION)  # the queue keeps it
        return body

    async def run(self, app: Callable, receive: Callable) -> None:
        """`app`'s answer through `send`. What it raises because of a refusal is not passed on."""
        try:
            await app(self.scope, receive, self.send)
        except Exception as error:
            if self.started and isinstance(error.__cause__ or error, HTTPException):
                return  # a stream of answers for a session that is unknown or over: it has told so
            if self.refusal is None:
                raise
            if self.refusal.sentence == BAD_CALL:  # one line, as anybody can cause it
                LOG.warning("%s: %s", self.path, repr(error)[:200])

    async def send(self, message: dict) -> None:
        if message["type"] == "http.response.start" and self.refusal is None:
            self.refusal = self.instead_of(message["status"])
        if self.refusal is not None and not self.started:
            return
        if message["type"] == "http.response.start":
            self.started = True
            self.complete_headers(MutableHeaders(raw=message.setdefault("headers", [])), message["status"])
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        await self._send(message)

    def instead_of(self, status: int) -> Refusal | None:
        if self.scope["method"] == "POST" and status == 503:
            waiting = f"{self.limits.waiting} predictions are waiting already"
            return Refusal(503, f"The server is busy: {waiting}. Try again in a few seconds.", retry=True)
        if self.scope["method"] == "POST" and status == 500:
            return Refusal(400, DAMAGED if self.path == UPLOAD else BAD_CALL)  # gradio's answer to an unknown call
        return None

    def complete_headers(self, headers: MutableHeaders, status: int) -> None:
        headers["x-content-type-options"] = "nosniff"
        headers["referrer-policy"] = "same-origin"
        file = self.path.startswith(FILE)
        headers["content-security-policy"] = FILE_POLICY if file else PAGE_POLICY
        if file and status == 200 and headers.get("content-type", "").split(";")[0] not in PICTURES:
            headers["content-type"] = "application/octet-stream"
            headers["content-disposition"] = "attachment"
        if not file and self.path.startswith((API, "/config")):
            headers.update(CROSS_ORIGIN)

    async def finish(self) -> None:
        """Sends the refusal, and ends what gradio left open."""
        if self.gone or self.ended:
            return
        if self.started:
            return await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        if self.refusal is not None:
            # a visitor reads what an upload is answered with as it is
            text = self.refusal.sentence if self.path == UPLOAD else json.dumps({"detail": self.refusal.sentence})
            kind = "text/plain; charset=utf-8" if self.path == UPLOAD else "application/json"
            headers = {"content-type": kind} | ({"retry-after": str(RETRY_SECONDS)} if self.refusal.retry else {})
            await self.reply(self.refusal.status, text.encode(), headers)

    async def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        unread = self.scope["method"] == "POST" and not self.body_done
        found = MutableHeaders(headers | {"content-length": str(len(body))})
        if unread:
            found["connection"] = "close"
        self.complete_headers(found, status)
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": found.raw})
        await self._send({"type": "http.response.body", "body": body, "more_body": unread})
        if unread:
            await self.drain()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        self.ended = True

    async def drain(self, seconds: float = 5) -> None:
        """Lets a client that sends its whole body before it reads come to the answer: closed at once, the connection
        would be reset and the answer lost. For a moment only, and not for one that was too slow."""
        if self.refusal is not None and self.refusal.status == 408:
            return
        until = time.monotonic() + seconds
        while not self.body_done and (wait := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(wait):
                    await self.receive()
            except TimeoutError:
                return


def replay(body: bytes, then: Callable[[], Awaitable[dict]]) -> Callable[[], Awaitable[dict]]:
    """A `receive` that gives a body which was read already, and then whatever comes."""
    given = False

    async def receive() -> dict:
        nonlocal given
        if given:
            return await then()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def depth(value: object) -> int:
    """How deep lists and objects lie in each other, found without recursion."""
    level, deepest = [value], 0
    while level := [part for part in level if isinstance(part, dict | list)]:
        deepest += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return deepest
