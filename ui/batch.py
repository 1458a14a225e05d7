"""Batch prediction: a table with a thumbnail and the three most probable classes of each image, and a CSV file."""

import base64
import csv
import io
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import gradio as gr
from PIL import Image

from model import Classifier
from model.classifier import Prediction
from model.preprocess import FITS, MAX_UPLOAD_BYTES, ImageError, to_square_rgb
from ui.answer import hint_html, inline, percent, problem_html
from ui.render import render, script
from ui.uploads import open_upload, too_many_images

TOP = 3

BATCH_SECONDS = 10
"""After so long no further image of a batch is begun, so that it holds its thread for a bounded time."""

TOO_LONG = "The images before this one took too long: send fewer per batch."


class Row(NamedTuple):
    """A file by the name that the visitor knows, with its prediction (or why there is none) and the network's input."""

    name: str
    found: Prediction | str
    square: Image.Image | None


def build(classifier: Classifier, most: int) -> None:
    """Puts the components and the event into the Blocks that is being built; `most` files may be sent at once. The
    resize mode is that of the page's address."""
    gr.HTML(render("batch_zone.html", most=most), elem_id="uploads", apply_default_css=False, js_on_load=None)
    shown = gr.HTML(
        hint_html(f"Upload up to {most} images to get a table."),
        elem_id="batch",
        apply_default_css=False,
        js_on_load=script("address.js", "batch.js"),
        most=most,
        megabytes=MAX_UPLOAD_BYTES // 2**20,
    )

    def answer(event: gr.EventData):
        """What the browser has sent, and nothing else."""
        fit = getattr(event, "fit", None)
        fit = fit if fit in FITS else classifier.config.fit
        return table_of(classifier, getattr(event, "files", None), fit, most, str(getattr(event, "asked", "")))

    shown.ask(
        answer,
        None,
        shown,
        show_progress="minimal",
        trigger_mode="multiple",
        api_visibility="private",
        concurrency_limit=2,
    )


def table_of(classifier: Classifier, files: object, fit: str, most: int, asked: str | None = None) -> str:
    """What the page shows for a request's files, each {"path", "orig_name"}."""
    if not isinstance(files, list) or not files:
        return problem_html("No images were given: upload some.", asked=asked)
    if len(files) > most:
        return problem_html(too_many_images(most), asked=asked)
    answers = classify_each(classifier, map(open_upload, files), fit)
    rows = [Row(file_name(file), *answer) for file, answer in zip(files, answers, strict=True)]
    return table_html(rows, classifier.class_names, asked)


def classify_each(
    classifier: Classifier, images: Iterable[AbstractContextManager[Image.Image]], fit: str
) -> list[tuple[Prediction | str, Image.Image | None]]:
    """A prediction and the model input for each of `images`, from one run of the network; for one whose context raises
    ImageError, its sentence and None."""
    squares: list[Image.Image | str] = []
    end = time.monotonic() + BATCH_SECONDS
    for opened in images:
        try:
            if time.monotonic() > end:
                raise ImageError(TOO_LONG)
            with opened as image:
                squares.append(to_square_rgb(image, fit, classifier.config.image_size))
        except ImageError as error:
            squares.append(str(error))
    good = [one for one in squares if not isinstance(one, str)]
    found = iter(classifier.classify(good) if good else ())
    return [(one, None) if isinstance(one, str) else (next(found), one) for one in squares]


def file_name(upload: object) -> str:
    """As the visitor named it, without control characters; it goes into HTML and CSV, so escape it there."""
    name = upload.get("orig_name") if isinstance(upload, dict) else None
    name = "".join(c for c in name if c.isprintable()) if isinstance(name, str) else ""
    return name.replace("\\", "/").rsplit("/", 1)[-1][:80] or "image"


def table_html(rows: Sequence[Row], names: Sequence[str], asked: str | None = None) -> str:
    """A row per file, and a link that holds the same as CSV."""
    return render(
        "batch_table.html",
        rows=rows,
        names=names,
        top=min(TOP, len(names)),
        inline=inline,
        percent=percent,
        csv=base64.b64encode(csv_text(rows, names).encode("utf-8-sig")).decode(),
        asked=asked,
    )


def csv_text(rows: Sequence[Row], names: Sequence[str]) -> str:
    """file, probably_none_of_these, error, label and probability of the best three, then every class's probability.

    A spreadsheet would run a name that begins like a formula: it gets an apostrophe in front.
    """
    file = io.StringIO()
    table = csv.writer(file)
    best = [f"{what}_{place}" for place in range(1, 1 + min(TOP, len(names))) for what in ("label", "probability")]
    table.writerow(["file", "probably_none_of_these", "error", *best, *(f"p_{name}" for name in names)])
    for row in rows:
        found = row.found
        if isinstance(found, str):
            table.writerow([_text(row.name), "", found])
            continue
        top = [cell for k in found.best(TOP) for cell in (_text(names[k]), f"{found.probabilities[k]:.6f}")]
        every = [f"{probability:.6f}" for probability in found.probabilities]
        table.writerow([_text(row.name), str(not found.in_distribution).lower(), "", *top, *every])
    return file.getvalue()


def _text(cell: str) -> str:
    return f"'{cell}" if cell[:1] in "=+-@" else cell
