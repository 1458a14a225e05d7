"""How the page is served: address, queue, limits, and what becomes of uploads."""

import gc
import inspect
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import gradio as gr

from ui import predict
from ui.calls import explain_failures, refuse_unfit_calls
from ui.guard import Guard, Limits
from ui.page import theme
from ui.uploads import Janitor, give_memory_back, leave_inputs_alone, upload_folder

CSS = sorted(Path(__file__).parent.glob("*.css"))


def launch(
    page: gr.Blocks,
    host: str | None = None,
    port: int | None = None,
    limits: Limits | None = None,
    janitor: Janitor | None = None,
) -> str:
    """Serves the page in the background and returns its address. None: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT,
    else 127.0.0.1 and the first free port from 7860. Raises OSError where it cannot listen."""
    limits = limits or Limits()
    # Threads that decode wait for Python's lock up to this long, 5 ms by default: 6 to 8% of the calls a second.
    sys.setswitchinterval(0.0005)
    give_memory_back()
    # A prediction takes milliseconds; decoding a large photo is what may overlap.
    # api_open=False closes the routes that would go round the queue, and ui.guard those that it leaves open.
    page.queue(max_size=limits.waiting, default_concurrency_limit=4, api_open=False, status_update_rate=5)
    leave_inputs_alone()
    refuse_unfit_calls(page)
    explain_failures(page)
    remember_signatures(page)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it writes a line for every damaged upload
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        show_error=False,  # only `gr.Error` messages reach a visitor, never the text of another exception
        enable_monitoring=False,
        run_history=False,
        max_file_size=limits.file_bytes,
        max_threads=8,
        state_session_capacity=64,
        allowed_paths=[str(predict.EXAMPLES)],
        theme=theme(),
        css_paths=CSS,
        footer_links=["api", "settings"],
        app_kwargs={"lifespan": guarded(page, limits, janitor or janitor_of(page))},
    )
    gc.collect()
    gc.freeze()  # gradio's 150,000 objects stay; looking through them again and again took 3% of the calls
    return address


def remember_signatures(page: gr.Blocks) -> None:
    """Gradio asks `inspect.signature` for each component's settings when a visitor comes or a batch of calls starts,
    and works it out anew each time; where a function carries it, it is read from there."""
    for kind in {type(block) for block in page.blocks.values()}:
        for base in kind.__mro__:
            if "__init__" in vars(base) and base is not object:
                base.__init__.__signature__ = inspect.signature(base.__init__)


def guarded(page: gr.Blocks, limits: Limits, janitor: Janitor) -> Callable:
    """What surrounds the server's life. Before it listens, the guard is put round everything, gradio's own middleware
    too: among those that an app is made with, it would come after the one that allows foreign pages credentials."""

    def folders() -> tuple[Path, ...]:
        return upload_folder(), predict.EXAMPLES

    @asynccontextmanager
    async def lifespan(app) -> AsyncIterator[None]:
        app.middleware_stack = Guard(app.middleware_stack, folders, janitor.stored, limits)
        if os.environ.get("GRADIO_TEMP_DIR"):  # else other programs keep their files in the same folder
            janitor.start()
        yield
        janitor.stop()

    return lifespan


def janitor_of(page: gr.Blocks) -> Janitor:
    def keep() -> set[str]:
        return {str(path) for block in list(page.blocks.values()) for path in getattr(block, "keep_in_cache", ())}

    def forget(path: str) -> None:
        for known in page.temp_file_sets:  # gradio notes every file that it ever stored
            known.discard(path)

    return Janitor(upload_folder(), keep, forget)
