"""A page of a few events behind the real server, in a thread of this process."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gradio as gr
import pytest
import uvicorn

from model import Classifier
from model.preprocess import ImageError
from server.app import build_app
from server.headers import Proxy
from server.limits import Limits
from server.run import Server, address, listen
from server.uploads import Uploads
from ui.uploads import open_upload

released = threading.Event()
"""Ends the calls that wait before their time."""


def size_of(image: object, note: object) -> list[int]:
    try:
        with open_upload(image) as opened:
            return list(opened.size)
    except ImageError as error:
        raise gr.Error(str(error), print_exception=False) from None


def wait(seconds: float) -> None:
    released.wait(seconds)


def build_page() -> gr.Blocks:
    """Public: the size of an image, and waiting, one call after the other. Private: one event of the server's, with the
    same inputs, and one of the browser's."""
    with gr.Blocks() as page:
        image, note = gr.Image(type="filepath", label="image"), gr.JSON(label="note")
        seconds, size = gr.Number(label="seconds"), gr.JSON()
        gr.on([], size_of, [image, note], size, preprocess=False, api_name="predict")
        gr.on([], wait, seconds, None, api_name="model_info", concurrency_limit=1)
        gr.on([], size_of, [image, note], size, preprocess=False, api_name="own", api_visibility="private")
        seconds.change(None, seconds, None, js="(value) => value", api_visibility="private")
    return page


bundled = cache(Classifier.load)


@dataclass
class Served:
    address: str
    folder: Path
    uploads: Uploads

    def stored(self) -> list[Path]:
        """Uploads, and parts of them."""
        return [path for path in self.folder.rglob("*") if path.is_file()]


@contextmanager
def served(
    parent: Path,
    proxy: Proxy | None = None,
    host: str = "127.0.0.1",
    classifier: Classifier | None = None,
    **limits: float,
) -> Iterator[Served]:
    """The page with other limits. The server is the innermost of those that run: reading an upload goes by
    GRADIO_TEMP_DIR."""
    uploads, listening = Uploads(str(parent)), listen(host, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(uploads.folder))
        app = build_app(classifier or bundled(), build_page(), uploads, Limits(**limits), proxy)
        config = uvicorn.Config(app, log_config=None, proxy_headers=False, ws="none", lifespan="on")
        server = Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield Served(address(listening), uploads.folder, uploads)
        finally:
            released.set()
            server.should_exit = True
            thread.join(30)
            uploads.remove()
            assert not thread.is_alive()


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
