"""The Test images tab: browse the official CIFAR-10 test images by what the network said of them, and ask it again.

What it said of all of them stands in the artifact's predictions.csv. Their pixels come from a CIFAR-10 folder or the
artifact's samples/; where there is neither, one button downloads the dataset.
"""

import json
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import urlencode

import gradio as gr
import numpy as np
from PIL import Image

from model import Classifier
from model.artifact import SAMPLES
from model.cifar10 import CLASS_NAMES, IMAGE_SIZE, DatasetError, missing_files, read_test
from model.predictions import Predictions, read_predictions
from ui import download, quiz
from ui.address import fill
from ui.answer import ANSWER_JS, answer_html, hint_html, in_words, inline_png, percent, problem_html, spoken_html

LOG = logging.getLogger(__name__)

PER_PAGE = 40
PER_CELL = 60
"""Images of a cell of the confusion matrix that are shown below it."""

ANY = "<any>"
"""The filter's value for every class. No class has this name: `model.artifact` refuses a name with markup."""

SHOW = {"all": "All", "mistakes": "Mistakes", "confident": "Most confident mistakes", "unsure": "Least sure"}
"""Which images, and in which order; the last two sort by confidence, the others by the index in the test set."""

MAX_SAMPLES = 1000
"""Images of a sheet, and columns: a bound on what an artifact from the Hub can make this page decode, 3 MB."""


@dataclass(frozen=True)
class TestImages:
    """Images of the official test set: uint8 (N, 32, 32, 3), their labels (N,) and their index in that set (N,)."""

    __test__ = False  # not a test, whatever pytest makes of the name

    images: np.ndarray
    labels: Sequence[int]
    indices: Sequence[int]
    drawn: Sequence[int]
    """Positions of those that are here whatever the network said of them: not only because it was wrong."""


class NoDataset(DatasetError):
    """A download of CIFAR-10 helps."""


def find_test_images(classifier: Classifier, data_dir: Path) -> TestImages:
    """All of the CIFAR-10 folder if there is an intact one and the model's classes are CIFAR-10's, else those of the
    artifact's `samples/`. Raises DatasetError, which says what is wrong and what to do."""
    samples = classifier.folder / SAMPLES
    if tuple(classifier.class_names) == CLASS_NAMES and not missing_files(data_dir):
        try:
            images, labels = read_test(data_dir)
        except DatasetError as error:  # it names a path of the server
            LOG.warning("%s", error)
            if not samples.is_dir():
                raise NoDataset("The CIFAR-10 files on this server are damaged or altered.") from None
        else:
            return TestImages(images, labels.tolist(), list(range(len(labels))), range(len(labels)))
    if samples.is_dir():
        return read_samples(samples, len(classifier.class_names))
    if tuple(classifier.class_names) != CLASS_NAMES:
        raise DatasetError("This model comes without sample images, and its classes are not those of CIFAR-10.")
    raise NoDataset("This model comes without sample images, and CIFAR-10 is not on this server yet.")


DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    RecursionError,
    SyntaxError,  # Pillow: a broken PNG chunk
    struct.error,  # Pillow: one that is too short
    Image.DecompressionBombError,
)
"""What readers of JSON and PNG, and the arithmetic on what they found, raise for a file that is no such thing."""


def read_samples(folder: Path, classes: int) -> TestImages:
    """The images of both sheets (`docs/architecture.md`, samples/samples.json), each once; labels below `classes`.
    Raises DatasetError."""
    try:
        about = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        sheets = [_read_sheet(folder, about, name, classes) for name in ("test", "mistakes")]
    except DAMAGE as error:
        LOG.warning("%s: %s", folder, error)  # it may name a path of the server
        raise DatasetError(
            f"The sample images of this model are damaged ({folder.name}/). Export the artifact again, or delete that "
            "folder: the app then takes the images from a CIFAR-10 folder."
        ) from None
    once = {index: (tile, label) for sheet in sheets for tile, label, index in zip(*sheet, strict=True)}
    indices, drawn = sorted(once), set(sheets[0][2])
    return TestImages(
        images=np.stack([once[index][0] for index in indices]),
        labels=[once[index][1] for index in indices],
        indices=indices,
        drawn=[position for position, index in enumerate(indices) if index in drawn],
    )


def _read_sheet(folder: Path, about: dict, name: str, classes: int) -> tuple[np.ndarray, list[int], list[int]]:
    """Tiles uint8 (N, 32, 32, 3), labels and indices of one sheet; "mistakes" may be empty. Raises any of DAMAGE."""
    tile, columns, entries = about["tile"], about["columns"], about[name]["images"]
    if name == "mistakes" and len(entries) == 0:
        return np.empty((0, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), [], []
    if not (1 <= columns <= MAX_SAMPLES and 1 <= len(entries) <= MAX_SAMPLES):
        raise ValueError(f"{len(entries)} images in {columns} columns; each may be 1 to {MAX_SAMPLES}")
    rows = -(-len(entries) // columns)
    file = Path(about[name]["sheet"]).name  # never a file of another folder
    with Image.open(folder / file, formats=["PNG"]) as sheet:
        if tile != IMAGE_SIZE or sheet.size != (columns * tile, rows * tile):
            raise ValueError(f"the sheet has {sheet.size} pixels")
        pixels = np.asarray(sheet.convert("RGB"))
    labels, indices = [entry["label"] for entry in entries], [int(entry["index"]) for entry in entries]
    if not all(label in range(classes) for label in labels):
        raise ValueError(f"a label is not one of the {classes} classes")
    tiles = pixels.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)  # (rows, columns, 32, 32, 3)
    return tiles.reshape(-1, tile, tile, 3)[: len(entries)], labels, indices


@dataclass
class Browser:
    """The test images that this page has, and what the network said of them.

    The pixels are read when they are first asked for, because a page that nobody browses needs none; `read` again after
    a download.
    """

    classifier: Classifier
    data_dir: Path
    predictions: Predictions
    tests: TestImages | None = None
    problem: str = ""
    download_helps: bool = False
    rows: dict[int, int] = field(default_factory=dict)
    """Index in the test set -> row of predictions.csv."""

    @classmethod
    def of(cls, classifier: Classifier, data_dir: Path) -> "Browser":
        """Raises ArtifactError where predictions.csv is not what metrics.json counts."""
        predictions = read_predictions(classifier.folder, classifier.metrics)
        rows = {int(index): row for row, index in enumerate(predictions.index)}
        return cls(classifier, data_dir, predictions, rows=rows)

    def read(self) -> TestImages | None:
        """The images, or None: `problem` then says why."""
        if self.tests is None:
            try:
                found = find_test_images(self.classifier, self.data_dir)
                self._check(found)
            except DatasetError as error:
                self.problem, self.download_helps = str(error), isinstance(error, NoDataset)
                return None
            self.tests = found
        return self.tests

    def _check(self, found: TestImages) -> None:
        for index, label in zip(found.indices, found.labels, strict=True):
            if index not in self.rows or self.label_of(index) != label:
                raise DatasetError("The test images are not those that this model's predictions.csv speaks of.")

    def label_of(self, index: int) -> int:
        return int(self.predictions.label[self.rows[index]])

    def chosen(self, show: str = "all", true: str = ANY, predicted: str = ANY) -> list[int]:
        """Positions in `tests` that the filters let through, in the order that `show` asks for; an unknown value is
        no filter."""
        names = list(self.classifier.class_names)
        said, rows = self.predictions, np.array([self.rows[index] for index in self.tests.indices])
        keep = np.ones(len(rows), bool)
        if true in names:
            keep &= said.label[rows] == names.index(true)
        if predicted in names:
            keep &= said.predicted[rows] == names.index(predicted)
        if show in ("mistakes", "confident"):
            keep &= said.label[rows] != said.predicted[rows]
        positions = np.flatnonzero(keep)
        confidence = said.confidence[rows[positions]]
        if show == "confident":
            positions = positions[np.argsort(-confidence, kind="stable")]
        elif show == "unsure":
            positions = positions[np.argsort(confidence, kind="stable")]
        return positions.tolist()

    def grid_html(self, show: str, true: str, predicted: str, page: object = 0) -> str:
        """One page of the images that the filters let through, with links to the pages beside it. Pages count from 0;
        what is none is the nearest, or the first."""
        positions = self.chosen(show, true, predicted)
        pages = max(1, -(-len(positions) // PER_PAGE))
        page = min(max(0, page), pages - 1) if isinstance(page, int) else 0
        part = positions[page * PER_PAGE : (page + 1) * PER_PAGE]
        count = f"{len(positions):,} of {len(self.tests.indices):,} images"
        tiles = "".join(self._tile(position) for position in part) or "<li>No image is like that.</li>"
        turns = "".join(
            f'<button type="button" class="turn" data-page="{to}"{off}>{name}</button>'
            for name, to in (("Previous", page - 1), ("Next", page + 1))
            for off in ("" if 0 <= to < pages else " disabled",)
        )
        filters = escape(json.dumps([show, true, predicted]))
        added = len(self.tests.indices) - len(self.tests.drawn)
        note = (
            f'<p class="note">{len(self.tests.drawn):,} of the {len(self.tests.indices):,} images were picked at '
            f"random; {added:,} more {'is' if added == 1 else 'are'} here because the network is wrong there.</p>"
        )
        return (
            f'<p class="count" role="status">{count}; page {page + 1} of {pages}</p><ul class="tests">{tiles}</ul>'
            f'<div class="turns" data-filters="{filters}">{turns}</div>{note if added else ""}'
        )

    def _tile(self, position: int, button: bool = True) -> str:
        index = self.tests.indices[position]
        row = self.rows[index]
        names, said = self.classifier.class_names, self.predictions
        truth, guess = names[said.label[row]], names[said.predicted[row]]
        sure = percent(said.confidence[row])
        right = truth == guess
        told = f"Test image {index}: {truth}, called {guess}, {sure} sure"
        caption = escape(guess) if right else f'<span class="wrong">{escape(guess)}</span>'
        source = inline_png(Image.fromarray(self.tests.images[position]))
        picture = f'<img class="pixels" src="{source}" width="32" height="32"'
        small = f"<small>{caption} {escape(sure)}</small>"
        if not button:
            return f'<li>{picture} alt="{escape(told)}">{small}</li>'
        return (
            f'<li><button type="button" class="test" data-index="{index}" aria-label="{escape(told)}">'
            f'{picture} alt="">{small}</button></li>'
        )

    def cell_html(self, true: int, predicted: int) -> str:
        """The images of one cell of the confusion matrix, the most confident first."""
        names = self.classifier.class_names
        count = int(self.predictions.confusion_matrix(len(names))[true, predicted])
        images = "image" if count == 1 else "images"
        heading = f"<h3>{count:,} {escape(names[true])} {images} called {escape(names[predicted])}</h3>"
        if self.read() is None:
            where = " The Test images tab can get them." if self.download_helps else ""
            return f"{heading}<p>{escape(self.problem)}{where}</p>"
        positions = self.chosen("all", names[true], names[predicted])
        confidence = {p: self.predictions.confidence[self.rows[self.tests.indices[p]]] for p in positions}
        shown = sorted(positions, key=lambda position: -confidence[position])[:PER_CELL]
        if not shown:
            return f"{heading}<p>None of them is among the {len(self.tests.indices)} sample images of this model.</p>"
        query = urlencode({"tab": "test-images", "true": names[true], "predicted": names[predicted]})
        link = f'<a href="?{escape(query)}">Browse them</a>'
        more = f"<p>{len(shown)} of {count:,} shown, the most confident first. {link}</p>"
        return f'{heading}{more}<ul class="tests">{"".join(self._tile(p, button=False) for p in shown)}</ul>'

    def answer_html(self, index: object) -> str:
        """What the network says of one test image now, beside the truth."""
        if self.read() is None or type(index) is not int or index not in self.tests.indices:
            return problem_html("This test image is not here: choose another one.")
        names = self.classifier.class_names
        square = Image.fromarray(self.tests.images[list(self.tests.indices).index(index)])
        (answer,) = self.classifier.classify([square])
        truth = names[self.label_of(index)]
        said = spoken_html(f"Test image {index:,} is {truth}. The network says {in_words(answer, names)}")
        verdict = verdict_html(names[answer.best(1)[0]], truth, index)
        view = square.resize((IMAGE_SIZE * 7, IMAGE_SIZE * 7), Image.Resampling.NEAREST)
        count = min(5, len(names))
        return said + verdict + answer_html(self.classifier, answer, square, view, count, whose=f"Test image {index}")


HINT = "Choose an image: what the network says appears here, beside the truth."


def verdict_html(said: str, truth: str, index: int) -> str:
    """Right or wrong in words: never by colour alone."""
    outcome = "right" if said == truth else "wrong"
    return (
        f'<div class="verdict {outcome}"><strong>{outcome.capitalize()}</strong>'
        f"<span>The network says <b>{escape(said)}</b>. It is <b>{escape(truth)}</b>.</span>"
        f"<small>Test image {index:,}</small></div>"
    )


GRID_JS = fill("""
element.addEventListener('click', (event) => {
  const turn = event.target.closest('.turn'), test = event.target.closest('.test');
  if (!turn && !test) return;
  const url = $VIEW;
  if (turn) {
    const filters = JSON.parse(turn.parentElement.dataset.filters);
    if (!filters.every((value, k) => value === window.gridFilters?.[k])) return;  // another grid is under way
    const page = Number(turn.dataset.page);
    if (page > 0) url.searchParams.set('grid-page', page + 1); else url.searchParams.delete('grid-page');
  } else {
    for (const one of element.querySelectorAll('.test')) one.setAttribute('aria-current', one === test);
    url.searchParams.set('image', test.dataset.index);
  }
  $SHOW(url);
  trigger(turn ? 'select' : 'choose', {});
});
""")
"""A click writes into the address what is asked for; PAGE_JS and IMAGE_JS read it there when the call begins, because
gradio makes a call that had to wait for the one before it with the first event's data. `select` is a page turned, by a
name that `gr.on` takes; `choose` is an image."""

FILTERS = {"show": "all", "true": ANY, "predicted": ANY}
"""As the address names them, with the values that it leaves out."""

PAGE_JS = fill(f"""(...inputs) => {{
  const usual = {json.dumps(FILTERS)}, names = Object.keys(usual), chosen = inputs.slice(0, names.length);
  const url = $VIEW, asked = url.searchParams;
  const inAddress = names.every((name, k) => chosen[k] === (asked.get(name) ?? usual[name]));
  window.gridFilters = chosen;
  if (inAddress) return [...chosen, Number(asked.get('grid-page') ?? 1) - 1];
  if (window.addressIsRead) {{
    names.forEach((name, k) => chosen[k] === usual[name] ? asked.delete(name) : asked.set(name, chosen[k]));
    asked.delete('grid-page');
    $SHOW(url);
  }}
  return [...chosen, 0];
}}""")
"""A JavaScript function: the filters, and the page that the address names, from 0. A page is one of the filters beside
it, so other filters begin at the first, and are written into the address here and nowhere else. `gridFilters` are those
that the newest grid is for, here or under way. `page` itself is gradio's: it names another page of the app."""

IMAGE_JS = fill("""() => {
  const asked = $VIEW.searchParams.get('image') ?? '';
  return [/^[0-9]{1,8}$/.test(asked) ? Number(asked) : null];
}""")
"""A JavaScript function: the index of the image that the address names."""


def build_tab(browser: Browser, tab: gr.Tab) -> tuple[dict[str, gr.components.Component], gr.HTML]:
    """Puts the tab's components and events into the Blocks that is being built. Returns what the address of the page
    may set (one component for each of FILTERS), and where the answer for one image is shown."""
    names = browser.classifier.class_names
    with gr.Column(visible=False) as absent:
        why = gr.HTML(elem_id="no-tests", apply_default_css=False)
        get = gr.Button("Download CIFAR-10 (170 MB)", variant="primary", elem_id="get-cifar10")
    with gr.Column(visible=False) as present:
        with gr.Row():
            show = gr.Radio(
                [(name, key) for key, name in SHOW.items()],
                value=FILTERS["show"],
                label="Show",
                elem_id="show",
                scale=3,
            )
            any_class = [("any class", ANY), *((name, name) for name in names)]
            true = gr.Dropdown(any_class, value=ANY, label="It is", filterable=False, elem_id="true", min_width=140)
            predicted = gr.Dropdown(
                any_class, value=ANY, label="The network said", filterable=False, elem_id="predicted", min_width=140
            )
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=320):
                grid = gr.HTML(elem_id="test-images", apply_default_css=False, js_on_load=GRID_JS)
                page, image = gr.JSON(visible=False), gr.JSON(visible=False)  # PAGE_JS and IMAGE_JS fill them
            with gr.Column(scale=5, min_width=320):
                shown = gr.HTML(hint_html(HINT), elem_id="test-answer", apply_default_css=False, js_on_load=ANSWER_JS)
        with gr.Accordion("Quiz: you against the network", open=False, elem_id="quiz-accordion"):
            quiz.build(browser)
    filters = [show, true, predicted]

    def refresh(*chosen):
        if browser.read() is None:
            why = absent_html(browser.problem, browser.download_helps)
            return gr.Column(visible=True), gr.Column(visible=False), why, gr.Button(visible=browser.download_helps), ""
        return (
            gr.Column(visible=False),
            gr.Column(visible=True),
            "",
            gr.Button(visible=False),
            browser.grid_html(*chosen),
        )

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

    private = {"api_visibility": "private", "show_progress": "hidden"}
    redraw = {
        "fn": refresh,
        "inputs": [*filters, page],
        "outputs": [absent, present, why, get, grid],
        "js": PAGE_JS,
        "concurrency_limit": 1,
    }
    # One event for all, and one call of it at a time, also where an address changes two filters at once: the answer for
    # filters of before could come last.
    gr.on([tab.select, grid.select, *(one.change for one in filters)], trigger_mode="always_last", **redraw, **private)
    grid.choose(
        browser.answer_html,
        image,
        shown,
        js=IMAGE_JS,
        trigger_mode="always_last",
        api_visibility="private",
        show_progress="minimal",
    )
    get.click(bring, None, why, api_visibility="private", show_progress_on=why).success(**redraw, **private)
    return dict(zip(FILTERS, filters, strict=True)), shown


def absent_html(problem: str, download_helps: bool) -> str:
    offer = (
        " The button downloads the dataset from the University of Toronto to this server, once, and checks that it is "
        "the official one."
    )
    return (
        f'<div class="notice"><h2>No test images yet</h2><p>{escape(problem)}{offer if download_helps else ""} Without '
        "them, everything else on this page works.</p></div>"
    )
