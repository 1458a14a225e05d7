"""The Test images tab: browse the official CIFAR-10 test images by how the network predicts them, and ask it again.

The predictions for all of them stand in the artifact's predictions.csv; ui/dataset_images.py finds the pixels. Where
there are none, one button downloads the dataset.
"""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import gradio as gr
import numpy as np
from PIL import Image

from model import Classifier
from model.cifar10 import DatasetError
from model.predictions import read_predictions
from ui import download, quiz
from ui.answer import Verdict, answer_html, hint_html, inline, percent, problem_html
from ui.dataset_images import DatasetImages, NoDataset, find_images
from ui.render import render, script

PER_PAGE = 40
PER_CELL = 60
"""Images of a cell of the confusion matrix that are shown below it."""

ANY = "<any>"
"""The filter's value for every class. No class has this name: `model.artifact` refuses a name with markup."""

SHOW = {"all": "All", "mistakes": "Errors", "confident": "Most confident errors", "unsure": "Lowest confidence"}
"""Which images, and in which order; the last two sort by confidence, the others by the index in the test set."""

FILTERS = ("show", "true", "predicted")
"""As the address names them."""

PAGE = "grid-page"
"""As the address names it, from 1. `page` itself is gradio's: it names another page of the app."""

HINT = "Select an image to see prediction and true label."


class Tile(NamedTuple):
    """A test image: its index in the test set, true and predicted class, confidence in percent, image as a data URL."""

    index: int
    true: str
    predicted: str
    confidence: str
    image: str

    @property
    def is_correct(self) -> bool:
        return self.true == self.predicted

    @property
    def words(self) -> str:
        classes = f"true class {self.true}, predicted {self.predicted}"
        return f"Test image {self.index}: {classes}, confidence {self.confidence}"


class DatasetBrowser:
    """The test images that this page has, and what the network predicts for them.

    The pixels are read when they are first asked for, because a page that nobody browses needs none; `read` again after
    a download. From then on `label`, `predicted` and `confidence` are those of the images, (N,) each.
    """

    def __init__(self, classifier: Classifier, data_dir: Path):
        """Raises ArtifactError where predictions.csv is not what metrics.json counts."""
        self.classifier, self.data_dir = classifier, data_dir
        self.predictions = read_predictions(classifier.folder, classifier.metrics)
        self.tests: DatasetImages | None = None
        self.problem, self.download_helps = "", False

    def read(self) -> DatasetImages | None:
        """The images, or None: `problem` then says why."""
        if self.tests is None:
            try:
                self.take(find_images(self.classifier, self.data_dir))
            except DatasetError as error:
                self.problem, self.download_helps = str(error), isinstance(error, NoDataset)
        return self.tests

    def take(self, tests: DatasetImages) -> None:
        """Raises DatasetError unless predictions.csv has each of them, with the same label."""
        found = self.predictions
        row_of = {index: row for row, index in enumerate(found.index.tolist())}
        rows = [row_of.get(index, -1) for index in tests.indices]
        if -1 in rows or found.label[rows].tolist() != list(tests.labels):
            raise DatasetError("The test images are not those that this model's predictions.csv speaks of.")
        self.label, self.predicted, self.confidence = found.label[rows], found.predicted[rows], found.confidence[rows]
        self.tests = tests

    def chosen(self, show: str | None = None, true: str | None = None, predicted: str | None = None) -> list[int]:
        """Positions in `tests` that the filters let through, in the order of `show`, one of SHOW or "sure" (all, most
        confident first); an unknown value is no filter."""
        names = list(self.classifier.class_names)
        keep = np.ones(len(self.label), bool)
        if true in names:
            keep &= self.label == names.index(true)
        if predicted in names:
            keep &= self.predicted == names.index(predicted)
        if show in ("mistakes", "confident"):
            keep &= self.label != self.predicted
        positions = np.flatnonzero(keep)
        if show in ("confident", "unsure", "sure"):
            sign = 1 if show == "unsure" else -1
            positions = positions[np.argsort(sign * self.confidence[positions], kind="stable")]
        return positions.tolist()

    def tile(self, position: int) -> Tile:
        names = self.classifier.class_names
        return Tile(
            index=self.tests.indices[position],
            true=names[self.label[position]],
            predicted=names[self.predicted[position]],
            confidence=percent(self.confidence[position]),
            image=inline(Image.fromarray(self.tests.images[position])),
        )

    def grid_html(self, asked: str) -> str:
        """A page of the images that the filters let through, as an address asks for them. What is no page is the first;
        one that is not there is the nearest."""
        words = dict(parse_qsl(asked))
        positions = self.chosen(*(words.get(name) for name in FILTERS))
        pages = max(1, -(-len(positions) // PER_PAGE))
        page = min(max(1, number(words.get(PAGE)) or 1), pages)
        return render(
            "dataset_grid.html",
            asked=asked,
            tiles=[self.tile(position) for position in positions[(page - 1) * PER_PAGE : page * PER_PAGE]],
            count=len(positions),
            total=len(self.tests.indices),
            drawn=len(self.tests.drawn),
            page=page,
            pages=pages,
        )

    def cell_html(self, true: int, predicted: int) -> str:
        """The images of one cell of the confusion matrix, the most confident first."""
        names = self.classifier.class_names
        pair = {"true": names[true], "predicted": names[predicted]}
        here = self.read() is not None
        positions = self.chosen("sure", **pair) if here else []
        return render(
            "dataset_cell.html",
            pair=pair,
            count=int(self.predictions.confusion_matrix(len(names))[true, predicted]),
            tiles=[self.tile(position) for position in positions[:PER_CELL]],
            total=len(self.tests.indices) if here else 0,
            query=urlencode({"tab": "test-images"} | pair),
            problem=None if here else self.problem,
            download_helps=self.download_helps,
        )

    def answer_html(self, asked: object) -> str:
        """What the network predicts now for the test image of an index, as an address writes it, beside the truth."""
        index = number(asked)
        if self.read() is None or index not in self.tests.indices:
            again = str(asked) if self.tests else None  # a download may bring it
            return problem_html("This test image is not here: choose another one.", "No such image", again)
        names = self.classifier.class_names
        position = list(self.tests.indices).index(index)
        square, label = Image.fromarray(self.tests.images[position]), self.label[position]
        (found,) = self.classifier.classify([square])
        verdict = Verdict(index, names[label], "Correct" if found.best(1) == [label] else "Incorrect")
        view = square.resize((224, 224), Image.Resampling.NEAREST)
        return answer_html(self.classifier, found, square, view, min(5, len(names)), verdict, str(asked))


def number(word: object) -> int | None:
    """The number that a word of an address is, up to 8 digits."""
    return int(word) if isinstance(word, str) and word.isascii() and word.isdecimal() and len(word) < 9 else None


def build_tab(browser: DatasetBrowser) -> dict[str, gr.components.Component]:
    """Puts the tab's components and events into the Blocks that is being built. Returns what the address of the page
    may set, one component for each of FILTERS; the rest of it, the page and the image, static/dataset_*.js read."""
    with gr.Column(visible=False) as absent:
        why = gr.HTML(elem_id="no-tests", apply_default_css=False, js_on_load=None)
        get = gr.Button("Download CIFAR-10 (170 MB)", variant="primary", elem_id="get-cifar10")
    with gr.Column(visible="hidden") as present:
        with gr.Row():
            choices = [(name, key) for key, name in SHOW.items()]
            show = gr.Radio(choices, value="all", label="Filter", elem_id="show", scale=3, min_width=320)
            classes = [("any class", ANY), *((name, name) for name in browser.classifier.class_names)]
            true = gr.Dropdown(classes, value=ANY, label="True class", elem_id="true", min_width=140)
            predicted = gr.Dropdown(classes, value=ANY, label="Predicted class", elem_id="predicted", min_width=140)
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=320):
                js, names = script("address.js", "dataset_grid.js"), [*FILTERS, PAGE]
                grid = gr.HTML(elem_id="test-images", apply_default_css=False, js_on_load=js, names=names)
            with gr.Column(scale=5, min_width=320):
                js = script("answer.js", "address.js", "dataset_image.js")
                shown = gr.HTML(hint_html(HINT), elem_id="test-answer", apply_default_css=False, js_on_load=js)
        with gr.Accordion("Quiz: beat the network", open=False, elem_id="quiz-accordion"):
            quiz.build(browser)

    def draw_grid(event: gr.EventData):
        return drawn_grid(browser, str(getattr(event, "asked", "")))

    def draw_image(event: gr.EventData):
        return browser.answer_html(getattr(event, "asked", None))

    def bring(progress=gr.Progress()):  # noqa: B008  (gradio's way to say that it wants one)
        if browser.read() is not None:
            return ""
        if not browser.download_helps:
            raise gr.Error(browser.problem, print_exception=False)
        try:
            download.download(browser.data_dir, lambda share, what: progress(share, desc=what))
        except DatasetError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return ""

    # "multiple": gradio would make a call that has to wait with the data of the first one.
    private = {"api_visibility": "private", "trigger_mode": "multiple"}
    grid.ask(draw_grid, None, [absent, present, why, get, grid], show_progress="hidden", concurrency_limit=1, **private)
    shown.ask(draw_image, None, shown, show_progress="minimal", **private)
    brought = get.click(bring, None, why, api_visibility="private", show_progress_on=why)
    brought.success(None, js="() => pageAddress.start()", api_visibility="private")
    return {"show": show, "true": true, "predicted": predicted}


def drawn_grid(browser: DatasetBrowser, asked: str) -> list:
    """What the tab shows for the filters and the page of `asked`, as an address writes them: whether there are no
    images, whether there are some, why not, whether a download helps, and the grid."""
    if browser.read() is None:
        helps = browser.download_helps
        why = render("dataset_absent.html", problem=browser.problem, download_helps=helps)
        return [gr.Column(visible=True), gr.Column(visible="hidden"), why, gr.Button(visible=helps), ""]
    return [gr.Column(visible=False), gr.Column(visible=True), "", gr.Button(visible=False), browser.grid_html(asked)]
