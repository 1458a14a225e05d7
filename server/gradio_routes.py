"""What reaches gradio: its routes that the page uses, uploads of files, and calls that name nothing but uploads.

Gradio would download an address, or copy a file of the server, that stands in the place of any input: mounted in
another application it checks neither. So each file of a call is replaced by the one of that name among the uploads.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.limits import DAMAGED, MB, UPLOAD, Limits, Refusal
from ui.uploads import NOT_UPLOADED

LOG = logging.getLogger(__name__)

API = "/gradio_api"
FILE = f"{API}/file="
CALL = re.compile(rf"{API}/call/(v2/)?(predict|model_info)")

READ = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\w+)?)|/(assets|static|svelte)/.+"
    rf"|{API}/(info|startup-events|theme\.css|upload_progress|queue/(data|status)|heartbeat/[^/]+)"
    rf"|{API}/call/(v2/)?[^/]+/[^/]+|{FILE}.+",
    re.DOTALL,
)
"""What the page and the clients of gradio GET. Gradio has more: login, recordings, a proxy, an editor, reloading."""

WRITE = re.compile(rf"{CALL.pattern}|{API}/(upload|cancel|reset|queue/join)")
"""What they POST. Not `run/`, which goes round the queue."""

META = {"_type": "gradio.FileData"}
STORED = re.compile(r"(?:.*[/\\])?([0-9a-f]{64})[/\\]([^/\\\0]{1,255})", re.DOTALL)
"""Where gradio stores a file: a folder named by a hash of its content, and its name."""

MAX_DEPTH, MAX_VALUES = 32, 2000
"""Of JSON: gradio walks through it by recursion, and keeps it."""

SPARE_BYTES = 4 * MB
"""Of the disk: several uploads are checked before any of them is written."""

NO_ROOM = "The server has no room for uploads at the moment. Try again in a few minutes."
NOT_FOUND = "Not found."
NOT_JSON = "The body must be a JSON object."
BAD_SESSION = "session_hash must be a text of 1 to 100 characters."
BAD_CALL = "Invalid API request: GET /gradio_api/info lists the calls and their inputs."
BAD_INPUTS = (
    "These inputs do not fit the call: GET /gradio_api/info lists them, and an image is the path that "
    "POST /gradio_api/upload answered with."
)
NOT_MULTIPART = "Send the image as multipart/form-data, in a field named files."


class GradioRoutes:
    """Middleware in front of the mounted page. `functions` are the page's events by number (`gr.Blocks.fns`),
    `folder` is where gradio stores uploads."""

    def __init__(self, app: ASGIApp, limits: Limits, functions: Mapping[int, Any], folder: Path):
        self.app, self.limits, self.functions, self.folder = app, limits, functions, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if (path.startswith("/api/") and path.isprintable()) or path == "/openapi.json":
            return await self.app(scope, receive, send)
        method, plain = scope["method"], path if path.startswith(FILE) else path.rstrip("/") or "/"
        allowed = {"GET": READ, "HEAD": READ, "POST": WRITE}.get(method)
        if allowed is None or len(plain) > 1000 or not allowed.fullmatch(plain):
            raise Refusal(404, NOT_FOUND)
        if path.startswith(FILE):
            if not self.is_upload(path.removeprefix(FILE)):
                raise Refusal(404, NOT_FOUND)
            # Gradio answers a range of a file with the headers of the request in the answer.
            scope = scope | {"headers": [pair for pair in scope["headers"] if pair[0] != b"range"]}
        if method != "POST":
            if "page" in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True):
                raise Refusal(404, NOT_FOUND)  # gradio has one page, and looks for any other in a dict
            return await self.explained(scope, receive, send)
        if plain == UPLOAD:
            await self.upload(scope, receive, send)
        else:
            body = await self.checked(plain, await read(receive))
            await self.explained(scope, replay(body, receive), send)

    def is_upload(self, name: str) -> bool:
        try:
            file = Path(unquote(name)).resolve()
            return file.is_file() and file.is_relative_to(self.folder.resolve())
        except (OSError, ValueError, RuntimeError):  # too long, with a NUL, a circle of links
            return False

    async def upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands an upload on as it comes, so that no more of it is in memory than a piece."""
        headers = Headers(scope=scope)
        form = UploadForm(headers.get("content-type", ""), self.limits)
        self.check_room(int(headers.get("content-length", 0)))

        async def receive_piece() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not form.done:
                self.check_room(len(message.get("body", b"")))
                form.feed(message.get("body", b""), last=not message.get("more_body", False))
            return message

        await self.explained(scope, receive_piece, send)

    def check_room(self, count: int) -> None:
        """Gradio would leave a part of the file behind, where the disk is full."""
        if shutil.disk_usage(self.folder).free < count + SPARE_BYTES:
            LOG.error("No room for uploads in %s", self.folder)
            raise Refusal(503, NO_ROOM, retry=True)

    async def checked(self, path: str, body: bytes) -> bytes:
        """The body of a call as gradio may have it."""
        try:
            call = json.loads(body)
        except (ValueError, RecursionError):
            raise Refusal(400, NOT_JSON) from None
        if not isinstance(call, dict):
            raise Refusal(400, NOT_JSON)
        levels, values = extent(call)
        if levels > MAX_DEPTH:
            raise Refusal(400, f"The body may be nested {MAX_DEPTH} deep at most.")
        if values > MAX_VALUES:
            raise Refusal(413, f"The body may have {MAX_VALUES} values at most.")
        session = call.get("session_hash")
        if session is not None and not (isinstance(session, str) and 0 < len(session) <= 100):
            raise Refusal(400, BAD_SESSION)  # the queue keeps it
        call = self.only_uploads(call, [0])
        listed = call["data"] if isinstance(call.get("data"), list) else None
        if match := CALL.fullmatch(path):
            named = (one for one in self.functions.values() if one.api_name == match[2])
            check_inputs(next(named), call if match[1] else listed)
        elif path == f"{API}/queue/join":
            number = call.get("fn_index")
            function = self.functions.get(number) if type(number) is int else None
            if function is None or function.fn is None:
                raise Refusal(400, BAD_CALL)
            check_inputs(function, listed)
        return json.dumps(call).encode()

    def only_uploads(self, value: Any, count: list[int]) -> Any:
        """`value` with every file replaced by an upload. Raises Refusal for what names none, and for too many."""
        if isinstance(value, list):
            return [self.only_uploads(one, count) for one in value]
        if not isinstance(value, dict):
            return value
        if "path" not in value and "url" not in value:
            return {key: self.only_uploads(one, count) for key, one in value.items()}
        path, name = value.get("path"), value.get("orig_name")
        stored = STORED.fullmatch(path) if isinstance(path, str) else None
        if stored is None or "://" in path or stored[2] in (".", ".."):
            raise Refusal(400, NOT_UPLOADED)
        if name is not None and not isinstance(name, str):
            raise Refusal(400, BAD_INPUTS)
        count[0] += 1
        if count[0] > self.limits.images:
            raise Refusal(413, f"Too many images: give {self.limits.images} at once, or fewer.")
        file = {"path": os.path.join(self.folder, *stored.groups()), "meta": META}
        return file | ({"orig_name": name} if name else {})

    async def explained(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio's answer, or a sentence where that is an error, with one line in the log for an exception of its own:
        anybody can cause one."""
        refusal: Refusal | None = None

        async def receive_piece() -> Message:
            nonlocal refusal
            try:
                return await receive()
            except Refusal as reason:
                refusal = reason
                raise

        async def send_on(message: Message) -> None:
            nonlocal refusal
            if refusal is None and message["type"] == "http.response.start" and message["status"] >= 400:
                refusal = self.instead_of(message["status"], scope)
            if refusal is None:
                await send(message)

        try:
            await self.app(scope, receive_piece, send_on)
        except Exception as error:
            if refusal is None:
                raise
            if not isinstance(error, Refusal):
                LOG.warning("%s: %s", scope["path"][:200], repr(error)[:200])
        if refusal is not None:
            raise refusal

    def instead_of(self, status: int, scope: Scope) -> Refusal:
        if status == 503:
            waiting = f"{self.limits.waiting} predictions are waiting already"
            return Refusal(503, f"The server is busy: {waiting}. Try again in a few seconds.", retry=True)
        if scope["method"] != "POST" or status in (403, 404, 405):
            return Refusal(404, NOT_FOUND)
        return Refusal(400, DAMAGED if scope["path"].rstrip("/").endswith(UPLOAD) else BAD_CALL)


def check_inputs(function: Any, data: object) -> None:
    """Raises Refusal where gradio could not hand `data`, a list or the named inputs, to the function."""
    names = [str(block.label) for block in function.inputs]
    if isinstance(data, dict) and names and data.keys() <= set(names) and names[0] in data:
        pairs = [(block, data.get(name)) for block, name in zip(function.inputs, names, strict=True)]
    elif isinstance(data, list) and len(data) >= len(names):
        pairs = list(zip(function.inputs, data, strict=False))
    elif data != {} or names:
        raise Refusal(400, BAD_INPUTS)
    else:
        return
    for block, value in pairs:
        model = getattr(block, "data_model", None)
        if model is None or value is None:
            continue
        if isinstance(value, str):
            raise Refusal(400, NOT_UPLOADED)
        try:
            model.model_validate(value)
        except ValidationError:
            raise Refusal(400, BAD_INPUTS) from None


class UploadForm:
    """Follows a multipart body as it streams by; raises a Refusal at what gradio would store or hold without end."""

    def __init__(self, content_type: str, limits: Limits):
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Refusal(400, NOT_MULTIPART)
        self.limits, self.files, self.size, self.complete, self.done = limits, 0, 0, False, False
        self.header, self.value, self.disposition = b"", b"", b""
        names = ("part_begin", "header_field", "header_value", "header_end", "headers_finished", "part_data", "end")
        self.parser = MultipartParser(options[b"boundary"], {f"on_{name}": getattr(self, name) for name in names})

    def feed(self, piece: bytes, last: bool) -> None:
        try:
            self.parser.write(piece)
        except FormParserError:
            raise Refusal(400, DAMAGED) from None
        self.done = last
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
        if self.files > self.limits.images:
            raise Refusal(413, f"An upload may have {self.limits.images} files at most.")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.size += end - start
        if self.size > self.limits.image_bytes:
            raise Refusal(413, f"A file may have {self.limits.image_bytes // MB} MB at most.")

    def end(self) -> None:
        self.complete = True


async def read(receive: Receive) -> bytes:
    """The whole body, which `RequestLimits` bounds."""
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def replay(body: bytes, then: Callable[[], Any]) -> Receive:
    """A `receive` that gives a body which was read already, and then whatever comes."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await then()

    return receive


def extent(value: object) -> tuple[int, int]:
    """How deep lists and objects lie in each other, and how many values there are, found without recursion."""
    level, deepest, values = [value], 0, 1
    while level := [part for part in level if isinstance(part, dict | list)]:
        deepest += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
        values += len(level)
    return deepest, values
