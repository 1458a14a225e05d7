"""Several pictures at once: a table with a thumbnail and the three most probable classes of each, and a CSV file."""

import base64
import csv
import io
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from html import escape

import gradio as gr
from PIL import Image

from model import Classifier
from model.classifier import Prediction
from model.preprocess import FITS, MAX_UPLOAD_BYTES, PictureError, to_square_rgb
from ui.answer import hint_html, inline_png, percent, problem_html, spoken_html
from ui.api import BAD_FIT
from ui.uploads import open_upload

TOP = 3

BATCH_SECONDS = 10
"""After so long no further image of a batch is begun, so that it holds its thread for a bounded time."""

TOO_LONG = "The images before this one took too long: send fewer at once."

Row = tuple[str, Prediction | str, Image.Image | None]
"""The file's name as the visitor knows it, the answer (or why there is none), and the 32x32 picture."""


def build(classifier: Classifier, fit: gr.Radio, most: int) -> None:
    """Puts the components and events into the Blocks that is being built; `fit` is shared with the single picture.
    `most` files may be sent at once."""
    limits = f"const most = {most}, megabytes = {MAX_UPLOAD_BYTES // 2**20};"
    zone = gr.HTML(ZONE.format(most=most), elem_id="pictures", apply_default_css=False, js_on_load=limits + ZONE_JS)
    files = gr.JSON(visible=False)
    shown = gr.HTML(hint_html(nothing_yet(most)), elem_id="batch", apply_default_css=False)

    def chosen(event: gr.EventData):
        """What the browser has sent, and nothing else: gradio would read commands and JSON into it."""
        sent = getattr(event, "files", None)
        files = [file for file in sent if isinstance(file, dict)] if isinstance(sent, list) else []
        return [{key: str(file.get(key, "")) for key in ("path", "orig_name")} for file in files]

    def answer(files, fit):
        return table_of(classifier, files, fit, most)

    zone.chosen(chosen, None, files, show_progress="hidden", api_visibility="private")
    gr.on(
        [files.change, fit.change],
        answer,
        [files, fit],
        shown,
        preprocess=False,
        show_progress="minimal",
        trigger_mode="always_last",
        api_visibility="private",
        concurrency_limit=2,
    )


ZONE = """<label class="zone"><input type="file" multiple>
<span><b>Choose up to {most} pictures</b> or drop them here</span></label><p class="state" role="status"></p>"""

ZONE_JS = """
const say = (text) => { element.querySelector('.state').textContent = text; };
let latest = 0;
async function send(files) {
  if (!files.length) return;
  const mine = ++latest, sent = [];
  if (files.length > most) return say(`These are ${files.length} pictures: choose ${most} or fewer.`);
  const large = files.find((file) => file.size > megabytes * 2 ** 20);
  if (large) return say(`${large.name} is too large: a file may have ${megabytes} MB at most.`);
  for (const file of files) {
    say(`Sending picture ${sent.length + 1} of ${files.length}`);
    try {
      const {path} = await upload(file);
      sent.push({path, orig_name: file.name});
    } catch (error) {
      const [, reason] = /^HTTP \\d+: (.+)/.exec(error.message) ?? [, 'Check the connection, and try again.'];
      if (mine === latest) say(`${file.name} could not be sent. ${reason}`);
      return;
    }
    if (mine !== latest) return;
  }
  say('');
  trigger('chosen', {files: sent});
}
element.addEventListener('change', (event) => {
  if (event.target.files) send([...event.target.files]).then(() => { event.target.value = ''; });
});
for (const name of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  element.addEventListener(name, (event) => {
    event.preventDefault();
    element.querySelector('.zone').classList.toggle('over', name === 'dragenter' || name === 'dragover');
    if (name === 'drop') send([...event.dataTransfer.files]);
  });
}
"""
"""The browser sends the files; the page then asks about what the server stored. `upload` is gr.HTML's, its error the
server's sentence. Who chooses again does not wait for what was chosen before."""


def nothing_yet(most: int) -> str:
    return f"Choose up to {most} pictures to get a table."


def table_of(classifier: Classifier, files: object, fit: object, most: int) -> str:
    """What the page shows for a request's files."""
    if not files:
        return hint_html(nothing_yet(most))
    if not isinstance(files, list):
        return problem_html("No pictures were given: upload some.")
    if len(files) > most:
        return problem_html(f"Too many pictures: give {most} at once, or fewer.")
    if fit not in FITS:
        return problem_html(BAD_FIT)
    answers = classify_each(classifier, map(open_upload, files), fit)
    rows = [(file_name(file), *answer) for file, answer in zip(files, answers, strict=True)]
    return table_html(rows, classifier.class_names)


def classify_each(
    classifier: Classifier, images: Iterable[AbstractContextManager[Image.Image]], fit: str
) -> list[tuple[Prediction | str, Image.Image | None]]:
    """A prediction and the 32x32 image for each of `images`, from one run of the network; for one whose context raises
    PictureError, its sentence and None."""
    squares: list[Image.Image | str] = []
    end = time.monotonic() + BATCH_SECONDS
    for opened in images:
        try:
            if time.monotonic() > end:
                raise PictureError(TOO_LONG)
            with opened as image:
                squares.append(to_square_rgb(image, fit))
        except PictureError as error:
            squares.append(str(error))
    good = [one for one in squares if not isinstance(one, str)]
    found = iter(classifier.classify(good) if good else ())
    return [(one, None) if isinstance(one, str) else (next(found), one) for one in squares]


def file_name(upload: object) -> str:
    """As the visitor named it, without control characters; it goes into HTML and CSV, so escape it there."""
    name = upload.get("orig_name") if isinstance(upload, dict) else None
    name = "".join(c for c in name if c.isprintable()) if isinstance(name, str) else ""
    return name.replace("\\", "/").rsplit("/", 1)[-1][:80] or "picture"


def table_html(rows: Sequence[Row], names: Sequence[str]) -> str:
    """A row per file, and a link that holds the same as CSV."""
    titles = ("Picture", "File", "First", "Second", "Third")[: 2 + min(TOP, len(names))]
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = "".join(_table_row(row, names) for row in rows)
    data = base64.b64encode(csv_text(rows, names).encode("utf-8-sig")).decode()
    return (
        spoken_html(f"The answers, in a table of {len(rows)}.")
        + '<div class="scroll" role="region" aria-label="Answers" tabindex="0"><table class="answers">'
        f'<caption class="sr-only">The most probable classes of {len(rows)} pictures</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<p><a class="download" download="predictions.csv" href="data:text/csv;charset=utf-8;base64,{data}">'
        "Download as CSV</a></p>"
    )


def _table_row(row: Row, names: Sequence[str]) -> str:
    name, answer, square = row
    name = escape(name)
    if isinstance(answer, str):
        wide = min(TOP, len(names))
        return f'<tr><td></td><th scope="row">{name}</th><td colspan="{wide}" class="wrong">{escape(answer)}</td></tr>'
    best = "".join(
        f"<td>{escape(names[k])} <span>{escape(percent(answer.probabilities[k]))}</span></td>" for k in answer.best(TOP)
    )
    note = "" if answer.in_distribution else "<small>probably none of the classes</small>"
    thumbnail = f'<img class="pixels" src="{inline_png(square)}" width="48" height="48" alt="">'
    return f'<tr><td>{thumbnail}</td><th scope="row">{name}{note}</th>{best}</tr>'


def csv_text(rows: Sequence[Row], names: Sequence[str]) -> str:
    """file, probably_none_of_these, error, label and probability of the best three, then every class's probability.

    A spreadsheet would run a name that begins like a formula: it gets an apostrophe in front.
    """
    file = io.StringIO()
    table = csv.writer(file)
    best = [f"{what}_{place}" for place in range(1, 1 + min(TOP, len(names))) for what in ("label", "probability")]
    table.writerow(["file", "probably_none_of_these", "error", *best, *(f"p_{name}" for name in names)])
    for name, answer, _ in rows:
        if isinstance(answer, str):
            table.writerow([_text(name), "", answer])
            continue
        cells = [cell for k in answer.best(TOP) for cell in (_text(names[k]), f"{answer.probabilities[k]:.6f}")]
        every = [f"{probability:.6f}" for probability in answer.probabilities]
        table.writerow([_text(name), str(not answer.in_distribution).lower(), "", *cells, *every])
    return file.getvalue()


def _text(cell: str) -> str:
    return f"'{cell}" if cell[:1] in "=+-@" else cell
