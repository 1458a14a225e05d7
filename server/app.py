"""The application: REST routes, then the page at `/`, behind middleware that bounds what a request may do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import gradio as gr
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from model import Classifier
from server.api import build_router, explain_errors
from server.gradio_routes import GradioRoutes, build_upload_router
from server.headers import ForwardedHeaders, Proxy, SecurityHeaders
from server.limits import Limits, RequestLimits
from server.uploads import Uploads
from ui.page import theme
from ui.predict import EXAMPLES
from ui.render import CSS

MAX_THREADS, SESSIONS = 8, 64
"""Of gradio: threads for events, and sessions whose last inputs are kept."""


def build_app(
    classifier: Classifier,
    page: gr.Blocks,
    uploads: Uploads,
    limits: Limits | None = None,
    proxy: Proxy | None = None,
) -> FastAPI:
    """The application that serves `classifier` and `page`."""
    limits, proxy = limits or Limits(), proxy or Proxy()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(uploads.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = FastAPI(
        title="Image classifier",
        description="Send an image, get the most probable classes.",
        docs_url=None,  # its page loads from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(build_router(classifier, limits))
    app.include_router(build_upload_router(uploads, limits))
    explain_errors(app, classifier)
    # The last one that is added is the first that sees a request.
    app.add_middleware(GradioRoutes, limits=limits, functions=page.fns, folder=uploads.folder)
    app.add_middleware(RequestLimits, limits=limits)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["Retry-After"],
    )
    app.add_middleware(SecurityHeaders, frames=proxy.frames)
    app.add_middleware(ForwardedHeaders, proxy=proxy)

    page.state_session_capacity, page.max_threads = SESSIONS, MAX_THREADS
    # api_open=False closes the routes that would go round the queue; a prediction takes milliseconds, decoding a large
    # photo is what may overlap.
    page.queue(max_size=limits.waiting, default_concurrency_limit=4, api_open=False, status_update_rate=5)
    return gr.mount_gradio_app(
        app,
        page,
        "/",
        root_path="",  # the scope's, not GRADIO_ROOT_PATH once more
        show_error=False,  # only `gr.Error` messages reach a visitor, never the text of another exception
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        max_file_size=limits.image_bytes,
        allowed_paths=[str(EXAMPLES)],
        theme=theme(),
        css_paths=CSS,
        footer_links=["api", "settings"],
    )
