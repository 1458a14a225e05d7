"""The REST routes: bytes in, JSON out. Images are decoded in a few threads; none is stored longer than its request."""

import asyncio
import errno
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException

from model import Classifier
from model.preprocess import FITS, BusyError, ImageError, open_limited, to_square_rgb
from server.gradio_routes import NOT_FOUND
from server.limits import DAMAGED, Limits, Refusal, answer_to, received
from ui.api import BAD_FIT, TOP_K, ModelInfo, bad_top_k, details, label_dict, model_info
from ui.batch import classify_each

LOG = logging.getLogger(__name__)

DECODERS = 4
"""Threads. Pillow lets go of the interpreter's lock while it decodes."""

NO_MODEL = "The model does not answer at the moment."
NO_ROOM = "The server has no room for uploads at the moment. Try again in a few minutes."
FAILED = "That could not be done: something is wrong on the server. Try it once more."
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"]


class Problem(BaseModel):
    detail: str = Field(description="one sentence", examples=[BAD_FIT])


class Confidence(BaseModel):
    label: str = Field(examples=["cat"])
    confidence: float = Field(description="calibrated probability", ge=0, le=1, examples=[0.93])


class Prediction(BaseModel):
    label: str = Field(description="the most probable class", examples=["cat"])
    confidences: list[Confidence] = Field(description="the top_k most probable classes, most probable first")
    probably_none_of_these: bool = Field(description="the image is probably out of distribution")
    milliseconds: float = Field(description="of the network's run", examples=[1.4])


class Failure(BaseModel):
    error: str = Field(description="why this image has no prediction, one sentence")


class ActivationMap(BaseModel):
    label: str = Field(examples=["cat"])
    map: list[list[float]] = Field(description="rows of numbers in [0, 1], the top row first")


class Health(BaseModel):
    status: Literal["ok"]


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is damaged"},
    408: {"model": Problem, "description": "The body did not come in time"},
    413: {"model": Problem, "description": "Too many bytes or images"},
    415: {"model": Problem, "description": "The body is not multipart/form-data"},
    422: {"model": Problem, "description": "A parameter out of range, or an image that cannot be read"},
    500: {"model": Problem, "description": "Something is wrong on the server"},
    503: {"model": Problem, "description": "Busy: try again after the seconds in Retry-After"},
}

UNWELL = {status: PROBLEMS[status] for status in (500, 503)}


def build_router(classifier: Classifier, limits: Limits) -> APIRouter:
    """The routes predict, batch, activation map, model and health, and a catch-all, because the page that is
    mounted behind them would take every other path."""
    router, classes = APIRouter(prefix="/api"), len(classifier.class_names)
    pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="predict")
    TopK = Annotated[int, Query(ge=1, le=classes, description="how many classes to answer with")]
    Fit = Annotated[Literal[FITS], Query(description="how an image that is not square becomes one")]
    usual_k, usual_fit = min(TOP_K, classes), classifier.config.fit

    async def in_thread(function: Callable[[], Any]) -> JSONResponse:
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(pool, function))

    def square(image: UploadFile, fit: str):
        with open_limited(image.file) as opened:
            return to_square_rgb(opened, fit, classifier.config.image_size)

    def answer(found: Any, top_k: int) -> dict:
        return label_dict(classifier.class_names, found, top_k) | details(found)

    @router.post("/predict", response_model=Prediction, responses=PROBLEMS, openapi_extra=body("image"))
    async def predict(request: Request, top_k: TopK = usual_k, fit: Fit = usual_fit):
        """Classify one image."""
        async with received(request, "image", limits) as images:
            return await in_thread(lambda: answer(classifier.classify([square(images[-1], fit)])[0], top_k))

    @router.post(
        "/predict/batch",
        response_model=list[Prediction | Failure],
        responses=PROBLEMS,
        openapi_extra=body("images", limits.images),
    )
    async def predict_batch(request: Request, top_k: TopK = usual_k, fit: Fit = usual_fit):
        """Classify several images. Each has its answer, or why it has none, in their order."""

        def classify(images: list[UploadFile]) -> list[dict]:
            found = classify_each(classifier, (open_limited(image.file) for image in images), fit)
            return [{"error": one} if isinstance(one, str) else answer(one, top_k) for one, _ in found]

        async with received(request, "images", limits) as images:
            return await in_thread(lambda: classify(images))

    @router.post("/activation-map", response_model=ActivationMap, responses=PROBLEMS, openapi_extra=body("image"))
    async def activation_map(
        request: Request,
        label: Annotated[
            Literal[classifier.class_names] | None, Query(description="a class name; without: the most probable class")
        ] = None,
        fit: Fit = usual_fit,
    ):
        """Which regions of an image raised the score of a class (Zhou et al. 2016)."""

        def regions(image: UploadFile) -> dict:
            shown = square(image, fit)
            name = label or classifier.predict(shown, top_k=1)[0][0]
            return {"label": name, "map": classifier.activation_map(shown, name).round(6).tolist()}

        async with received(request, "image", limits) as images:
            return await in_thread(lambda: regions(images[-1]))

    @router.head("/model", include_in_schema=False)
    @router.get("/model", response_model=ModelInfo, responses=UNWELL)
    async def model():
        """Which model this is, and how good."""
        return JSONResponse(model_info(classifier))

    @router.head("/health", include_in_schema=False)
    @router.get("/health", response_model=Health, responses=UNWELL)
    async def health():
        """Whether the model answers: it classifies a blank image."""
        blank = Image.new("RGB", (classifier.image_size, classifier.image_size))
        try:
            await asyncio.to_thread(classifier.classify, [blank])  # not behind the images that are being decoded
        except Exception:
            LOG.exception("The model does not answer")
            raise Refusal(503, NO_MODEL) from None
        return JSONResponse({"status": "ok"})

    @router.api_route("/{rest:path}", methods=METHODS, include_in_schema=False)
    async def nothing(rest: str):
        methods = {method for route in router.routes if route.path == f"/api/{rest}" for method in route.methods}
        if methods:
            allowed = ", ".join(sorted(methods))
            raise HTTPException(405, f"This address takes {allowed} only.", {"allow": allowed})
        raise Refusal(404, NOT_FOUND)

    return router


def body(field: str, most: int = 1) -> dict[str, Any]:
    """How /openapi.json describes a body of files. FastAPI would describe it by itself from parameters of the type
    UploadFile, and read it through them half a millisecond later."""
    file = {"type": "string", "format": "binary", "description": "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"}
    schema = file if most == 1 else {"type": "array", "items": file, "minItems": 1, "maxItems": most}
    form = {"type": "object", "properties": {field: schema}, "required": [field]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def explain_errors(app: FastAPI, classifier: Classifier) -> None:
    """One sentence in `detail` for whatever a route or FastAPI raises."""
    classes = classifier.class_names
    sentences = {
        "top_k": bad_top_k(len(classes)),
        "fit": BAD_FIT,
        "label": f"label must be one of {', '.join(classes)}.",
    }

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException):
        if error.status_code == 400 and not isinstance(error, Refusal):  # in the words of the parser of the body
            error = Refusal(400, DAMAGED)
        return answer_to(request.url.path, error)

    @app.exception_handler(ImageError)
    async def bad_image(request: Request, error: ImageError):
        return await refused(request, Refusal(503 if isinstance(error, BusyError) else 422, str(error)))

    @app.exception_handler(RequestValidationError)
    async def bad_value(request: Request, error: RequestValidationError):
        return await refused(request, Refusal(422, sentences.get(str(error.errors()[0]["loc"][1]), DAMAGED)))

    @app.exception_handler(OSError)
    async def no_room(request: Request, error: OSError):
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
            raise error
        LOG.error("No room for the body of a request: %s", error)
        return await refused(request, Refusal(503, NO_ROOM))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception):
        return await refused(request, Refusal(500, FAILED))
