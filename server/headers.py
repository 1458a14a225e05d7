"""Headers: on the way in, where the client is, if a proxy says so; on the way out, what a browser may do."""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.gradio_routes import API, FILE
from server.limits import Refusal, answer_to

BAD_HOST = "The headers of this request (Host, X-Forwarded-Host, -Proto, -Prefix) do not name a host."

HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:([0-9]{1,5}))?")
FRAME = re.compile(r"'none'|(https?://)?(\*\.)?[A-Za-z0-9._-]+(:(\d{1,5}|\*))?/?|https?:|\*")
PREFIX = re.compile(r"(/[A-Za-z0-9._~%!$&'()*+,;=:@-]+)*/?")

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff", "image/avif")
"""The types of an uploaded file that a browser may show by itself; it saves any other, which may be HTML."""

FRAMES = ("'self'", "https://huggingface.co", "https://*.hf.space")
"""Who may show the page in a frame, beside FRAME_ANCESTORS."""

PAGE_POLICY = (
    "default-src 'self'; "
    # inline: gradio writes its settings into the page; eval: how it runs the JavaScript of an event
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors "
)
FILE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"

FORWARDED = b"x-forwarded-"


class Proxy:
    """What stands before the server.

    trusted     addresses and networks of proxies whose X-Forwarded headers count, or "*"
    root_path   the path, or the whole address, under which the server is reached, where no header says it
    frames      further sites that may show the page in a frame (CSP: frame-ancestors)

    Raises ValueError with a sentence that names the variable or flag.
    """

    def __init__(self, trusted: Iterable[str] = ("127.0.0.1",), root_path: str = "", frames: Iterable[str] = ()):
        trusted = [one.strip() for one in trusted if one.strip()]
        self.trusts_all = "*" in trusted
        try:
            self.networks = [ipaddress.ip_network(one, strict=False) for one in trusted if one != "*"]
        except ValueError as error:
            raise ValueError(f"FORWARDED_ALLOW_IPS takes addresses, networks or *: {error}") from None
        self.scheme, self.host, path, rest = "", "", root_path, ""
        if whole := "://" in root_path:
            self.scheme, self.host, path, *rest = urlsplit(root_path)
        self.prefix = f"/{path.strip('/')}".rstrip("/")
        named = not whole or (self.scheme in ("http", "https") and is_host(self.host))
        if any(rest) or not named or not is_prefix(self.prefix):
            raise ValueError(f"--root-path {root_path!r} is no path such as /cifar, and no address that ends with one")
        self.frames = tuple(frames)
        if wrong := [one for one in self.frames if not FRAME.fullmatch(one)]:
            raise ValueError(f"FRAME_ANCESTORS takes sites such as https://example.org, not {wrong[0]!r}")

    def trusts(self, client: tuple[str, int] | None) -> bool:
        if self.trusts_all or client is None:  # None: a Unix socket
            return True
        try:
            address = ipaddress.ip_address(client[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.networks)


def is_host(text: str) -> bool:
    match = HOST.fullmatch(text)
    return bool(match) and int(match[3] or 0) < 2**16


def is_prefix(path: str) -> bool:
    decoded = unquote(path)
    return bool(PREFIX.fullmatch(path)) and decoded.isprintable() and not {".", ".."} & set(decoded.split("/"))


class ForwardedHeaders:
    """Middleware. What X-Forwarded-Proto, -Host and -Prefix of a trusted proxy say goes into the scope. Nobody behind
    it sees these headers."""

    def __init__(self, app: ASGIApp, proxy: Proxy):
        self.app, self.proxy = app, proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        said: dict[str, str] = {}
        headers, host = [], ""
        for name, value in scope["headers"]:
            if name.startswith(FORWARDED):
                said.setdefault(name.removeprefix(FORWARDED).decode("latin-1"), value.decode("latin-1"))
            elif name == b"host":
                host = host or value.decode("latin-1")
            elif name != b"x-gradio-server":
                headers.append((name, value))
        if said and not self.proxy.trusts(scope.get("client")):
            said = {}
        proto, forwarded, prefix = (said.get(name, "").split(",")[0].strip() for name in ("proto", "host", "prefix"))
        scheme = proto.lower() or self.proxy.scheme or scope["scheme"]
        host = forwarded or self.proxy.host or host or "localhost"
        prefix = prefix or self.proxy.prefix
        if not is_host(host) or scheme not in ("http", "https") or not is_prefix(prefix):
            refusal = answer_to(scope["path"], Refusal(400, BAD_HOST))
            refusal.headers["connection"] = "close"
            return await SecurityHeaders(refusal)(scope, receive, send)
        scope = scope | {"scheme": scheme, "headers": [*headers, (b"host", host.encode())]}
        if prefix := unquote(prefix).rstrip("/"):  # as in the scope: /user/a%40b is /user/a@b
            inside = scope["path"] == prefix or scope["path"].startswith(prefix + "/")
            path = scope["path"] if inside else prefix + scope["path"]
            scope |= {"root_path": prefix, "path": path, "raw_path": quote(path).encode()}
        await self.app(scope, receive, send)


class SecurityHeaders:
    """Middleware. `frames` are further sites that may show the page in a frame (CSP: frame-ancestors)."""

    def __init__(self, app: ASGIApp, frames: Iterable[str] = ()):
        self.app = app
        self.page_policy = PAGE_POLICY + " ".join([*FRAMES, *frames])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        file, api = path.startswith(FILE), path.startswith("/api/")

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "same-origin"
                headers["content-security-policy"] = FILE_POLICY if file or api else self.page_policy
                kind = headers.get("content-type", "").split(";")[0]
                if kind == "text/event-stream":
                    headers["x-accel-buffering"] = "no"  # nginx would hold events back
                if file and message["status"] == 200 and kind not in IMAGE_TYPES:
                    headers["content-type"] = "application/octet-stream"
                    headers["content-disposition"] = "attachment"
                if file or not path.startswith((API, "/config", "/api/", "/openapi.json", "/static/fonts/")):
                    for name in [key for key in headers.keys() if key.startswith("access-control-")]:
                        del headers[name]  # another site may call the API, not read the page or what was uploaded
            await send(message)

        await self.app(scope, receive, send_on if scope["type"] == "http" else send)
