"""What reaches gradio: its routes that the page uses, and calls that name nothing but uploads, which are stored here.

Gradio would download an address, or copy a file of the server, that stands in the place of any input: mounted in
another application it checks neither. So each file of a call is replaced by the one of that name among the uploads.
"""

import asyncio
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.limits import UPLOAD, Limits, Refusal, received
from server.uploads import Uploads
from ui.uploads import NOT_UPLOADED, too_many_images

LOG = logging.getLogger(__name__)

API = "/gradio_api"
FILE = f"{API}/file="
PROGRESS = f"{API}/upload_progress"
CALL = re.compile(rf"{API}/call/(v2/)?(predict|model_info)")

READ = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\w+)?)|/(assets|static|svelte)/.+"
    rf"|{API}/(info|startup-events|theme\.css|queue/(data|status)|heartbeat/[^/]+)"
    rf"|{API}/call/(v2/)?[^/]+/[^/]+|{FILE}.+",
    re.DOTALL,
)
"""What the page and the clients of gradio GET. Gradio has more: login, recordings, a proxy, an editor, reloading."""

WRITE = re.compile(rf"{CALL.pattern}|{API}/(cancel|reset|queue/join)")
"""What they POST. Not `run/`, which goes round the queue."""

STORED = re.compile(r"(?:.*[/\\])?([0-9a-f]{64})[/\\]([^/\\\0]{1,255})", re.DOTALL)
"""Where a file is stored: a folder named by the sha256 of its content, and its name."""

MAX_DEPTH = 32
"""Of JSON: gradio walks through it by recursion."""

NOT_FOUND = "Not found."
NOT_JSON = "The body must be a JSON object."
BAD_SESSION = "session_hash must be a text of 1 to 100 characters."
BAD_CALL = "Invalid API request: GET /gradio_api/info lists the calls and their inputs."
BAD_INPUTS = (
    "These inputs do not fit the call: GET /gradio_api/info lists them, and an image is the path that "
    "POST /gradio_api/upload answered with."
)


def build_upload_router(uploads: Uploads, limits: Limits) -> APIRouter:
    """Uploads as gradio takes them (https://www.gradio.app/guides/querying-gradio-apps-with-curl), in front of its own
    route, which keeps what was broken off, texts and files of other names."""
    router = APIRouter(include_in_schema=False)

    @router.post(UPLOAD)
    async def upload(request: Request) -> list[str]:
        async with received(request, "files", limits) as files:
            return await asyncio.to_thread(lambda: [uploads.store(file) for file in files])

    @router.get(PROGRESS)
    async def progress() -> Response:
        """None is told: the page shows that it uploads, without a bar."""
        return Response(status_code=204)

    return router


class GradioRoutes:
    """Middleware in front of the mounted page. `functions` are the page's events by number (`gr.Blocks.fns`),
    `folder` is where uploads are stored."""

    def __init__(self, app: ASGIApp, limits: Limits, functions: Mapping[int, Any], folder: Path):
        self.app, self.limits, self.functions, self.folder = app, limits, functions, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, method = scope["path"].removeprefix(scope.get("root_path", "")), scope["method"]
        ours = (path.startswith("/api/") and path.isprintable()) or path == "/openapi.json"
        if ours or (method, path) in (("POST", UPLOAD), ("GET", PROGRESS)):
            return await self.app(scope, receive, send)
        is_file = path.startswith(FILE)
        plain = path if is_file else path.rstrip("/") or "/"
        allowed = {"GET": READ, "HEAD": READ, "POST": WRITE}.get(method)
        if allowed is None or len(plain) > 1000 or not allowed.fullmatch(plain):
            raise Refusal(404, NOT_FOUND)
        if method == "POST":
            body = await self.checked(plain, await Request(scope, receive).body())
            receive = replay(body, receive)
        elif is_file:
            if not self.is_upload(path.removeprefix(FILE)):
                raise Refusal(404, NOT_FOUND)
            # Gradio answers a range of a file with the headers of the request in the answer.
            scope = scope | {"headers": [pair for pair in scope["headers"] if pair[0] != b"range"]}
        elif "page" in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True):
            raise Refusal(404, NOT_FOUND)  # gradio has one page, and looks for any other in a dict
        await self.ask_gradio(scope, receive, send)

    def is_upload(self, name: str) -> bool:
        try:
            file = Path(unquote(name)).resolve()
            return file.is_file() and file.is_relative_to(self.folder.resolve())
        except (OSError, ValueError, RuntimeError):  # too long, with a NUL, a circle of links
            return False

    async def checked(self, path: str, body: bytes) -> bytes:
        """The body of a call as gradio may have it."""
        try:
            call = json.loads(body)
        except (ValueError, RecursionError):
            raise Refusal(400, NOT_JSON) from None
        if not isinstance(call, dict):
            raise Refusal(400, NOT_JSON)
        call = self.only_uploads(call, 1, [])
        session, data = call.get("session_hash"), call.get("data")
        listed = data if isinstance(data, list) else None
        if session is not None and not (isinstance(session, str) and 0 < len(session) <= 100):
            raise Refusal(400, BAD_SESSION)  # the queue keeps it
        if match := CALL.fullmatch(path):
            named = (one for one in self.functions.values() if one.api_name == match[2])
            check_inputs(next(named), call if match[1] else listed)
        elif path == f"{API}/queue/join":
            number = call.get("fn_index")
            function = self.functions.get(number) if type(number) is int else None
            event = call["event_data"] = call.get("event_data") or {}  # else a function that reads it would fail
            if function is None or function.fn is None or not isinstance(event, dict):
                raise Refusal(400, BAD_CALL)
            check_inputs(function, listed)
        return json.dumps(call).encode()

    def only_uploads(self, value: Any, depth: int, files: list[dict]) -> Any:
        """`value` with every file replaced by an upload, which is added to `files`. Raises Refusal for what names none,
        and for too many."""
        if isinstance(value, dict | list) and depth > MAX_DEPTH:
            raise Refusal(400, f"The body may be nested {MAX_DEPTH} deep at most.")
        if isinstance(value, list):
            return [self.only_uploads(one, depth + 1, files) for one in value]
        if not isinstance(value, dict):
            return value
        if "path" not in value and "url" not in value:
            return {key: self.only_uploads(one, depth + 1, files) for key, one in value.items()}
        path, name = value.get("path"), value.get("orig_name")
        stored = STORED.fullmatch(path) if isinstance(path, str) else None
        if stored is None or "://" in path or stored[2] in (".", ".."):
            raise Refusal(400, NOT_UPLOADED)
        if not isinstance(name, str | None):
            raise Refusal(400, BAD_INPUTS)
        file = {"path": os.path.join(self.folder, *stored.groups()), "meta": {"_type": "gradio.FileData"}}
        files.append(file | ({"orig_name": name} if name else {}))
        if len(files) > self.limits.images:
            raise Refusal(413, too_many_images(self.limits.images))
        return files[-1]

    async def ask_gradio(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio's answer, or a sentence where that is an error, with one line in the log for an exception of its own:
        anybody can cause one."""
        refusal: Refusal | None = None
        started = False

        async def send_on(message: Message) -> None:
            nonlocal refusal, started
            if not started and message.get("status", 200) >= 400:
                refusal = self.instead_of(message["status"], scope["method"])
            if refusal is None:
                started = True
                await send(message)

        try:
            await self.app(scope, receive, send_on)
        except Exception as error:
            # A stream of answers for a session that is unknown or over ends with an HTTPException, having said so.
            over = started and isinstance(error.__cause__ or error, HTTPException)
            if over:
                await send({"type": "http.response.body"})
            elif refusal is None:
                raise
            else:
                LOG.warning("%s: %s", scope["path"][:200], repr(error)[:200])
        if refusal is not None:
            raise refusal

    def instead_of(self, status: int, method: str) -> Refusal:
        if status == 503:
            waiting = f"{self.limits.waiting} predictions are waiting already"
            return Refusal(503, f"The server is busy: {waiting}. Try again in a few seconds.")
        return Refusal(404, NOT_FOUND) if method != "POST" or status in (403, 404, 405) else Refusal(400, BAD_CALL)


def check_inputs(function: Any, data: object) -> None:
    """Raises Refusal where gradio could not hand `data`, a list or the named inputs, to the function."""
    names = [str(block.label) for block in function.inputs]
    if isinstance(data, dict) and set(names[:1]) <= data.keys() <= set(names):
        values = [data.get(name) for name in names]
    elif isinstance(data, list) and len(data) >= len(names):
        values = data
    else:
        raise Refusal(400, BAD_INPUTS)
    for block, value in zip(function.inputs, values, strict=False):
        model = getattr(block, "data_model", None)
        if model is None or value is None:
            continue
        if isinstance(value, str):
            raise Refusal(400, NOT_UPLOADED)
        try:
            model.model_validate(value)
        except ValidationError:
            raise Refusal(400, BAD_INPUTS) from None


def replay(body: bytes, then: Receive) -> Receive:
    """A `receive` that gives a body which was read already, and then whatever comes."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await then()

    return receive
