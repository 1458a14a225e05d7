"""Listens, serves until a signal comes, and leaves nothing behind."""

import asyncio
import logging
import os
import signal
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

import uvicorn

from model import Classifier
from server.app import build_app
from server.headers import Proxy
from server.limits import Limits
from server.memory import bound_malloc
from server.uploads import Uploads
from ui.page import build_page

FIRST_PORT, PORTS = 7860, 100
GRACE_SECONDS = 2
"""For requests that are being answered when the server stops."""


class Server(uvicorn.Server):
    """https://uvicorn.dev: it waits for every open stream before it ends, so they are ended by then."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self.cancel_requests)
        await super().shutdown(sockets)

    def cancel_requests(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()


def serve(
    classifier: Classifier,
    data_dir: Path,
    notice: str | None = None,
    host: str | None = None,
    port: int | None = None,
    proxy: Proxy | None = None,
) -> NoReturn:
    """Serves until SIGINT, SIGTERM or SIGHUP, then ends the process. Raises OSError where it cannot listen, or has no
    folder for uploads."""
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it writes a line for every damaged upload
    bound_malloc()
    limits = Limits()
    listening = listen(host or "127.0.0.1", port)
    uploads = Uploads(os.environ.get("GRADIO_TEMP_DIR"))
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.folder)  # components remember it when the page is built
    status = 0
    try:
        page = build_page(classifier, data_dir, notice, limits.images, limits.request_bytes)
        app = build_app(classifier, page, uploads, limits, proxy)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # server.headers reads them
            server_header=False,
            ws="none",
            lifespan="on",  # where it fails, the server does not start without a queue
            timeout_graceful_shutdown=2 * GRACE_SECONDS,
        )
        server = Server(config)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises again what it was ended by
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: server.handle_exit(signal.SIGTERM, None))
        print(f"Serving the model ({classifier.source}) at {address(listening)}", flush=True)
        server.run(sockets=[listening])
    except SystemExit as ended:
        status = ended.code
    except KeyboardInterrupt:
        status = 130
    finally:
        uploads.remove()
    sys.stdout.flush()
    os._exit(status)  # at once: Python would wait for threads that still decode


def listen(host: str, port: int | None) -> socket.socket:
    """A socket on `host` (an IPv6 address may have brackets) and `port`, or the first free one from FIRST_PORT where
    that is None. Raises OSError."""
    host = host.strip("[]")
    for tried in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]:
        family, _, _, _, where = socket.getaddrinfo(host, tried, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = family == socket.AF_INET6 and where[0] == "::" and socket.has_dualstack_ipv6()
        try:
            return socket.create_server(where[:2], family=family, backlog=2048, dualstack_ipv6=both)
        except OSError as error:
            problem = error
    raise problem


def address(listening: socket.socket) -> str:
    """What a browser on this machine opens."""
    host, port = listening.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
