"""Several pictures at once: a table with a thumbnail and the three most probable classes of each, and a CSV file."""

import base64
import csv
import io
from collections.abc import Sequence
from html import escape

import gradio as gr
from PIL import Image

from model import Classifier
from ui.answer import Answer, hint_html, inline_png, percent, problem_html, spoken_html
from ui.api import MAX_FILES, answer_files
from ui.guard import MB, Limits

TOP = 3
NOTHING_YET = f"Choose up to {MAX_FILES} pictures to get a table."

Row = tuple[str, Answer | str, Image.Image | None]
"""The file's name as the visitor knows it, the answer (or why there is none), and the 32x32 picture."""


def build(classifier: Classifier, fit: gr.Radio) -> None:
    """Puts the components and events into the Blocks that is being built; `fit` is shared with the single picture."""
    zone = gr.HTML(ZONE, elem_id="pictures", apply_default_css=False, js_on_load=ZONE_JS)
    files = gr.JSON(visible=False)
    shown = gr.HTML(hint_html(NOTHING_YET), elem_id="batch", apply_default_css=False)

    def chosen(event: gr.EventData):
        return getattr(event, "files", None)

    def answer(files, fit):
        return table_of(classifier, files, fit)

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


ZONE = f"""<label class="zone"><input type="file" accept="image/*" multiple>
<span><b>Choose up to {MAX_FILES} pictures</b> or drop them here</span></label><p class="state" role="status"></p>"""

ZONE_JS = (
    f"const most = {MAX_FILES}, megabytes = {Limits.file_bytes // MB};"
    + """
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
)
"""The browser sends the files; the page then asks about what the server stored. `upload` is gr.HTML's, its error the
server's sentence. Who chooses again does not wait for what was chosen before."""


def table_of(classifier: Classifier, files: object, fit: object) -> str:
    """What the page shows for a request's files."""
    if not files:
        return hint_html(NOTHING_YET)
    try:
        answers = answer_files(classifier, files, fit)
    except gr.Error as error:
        return problem_html(error.message)
    rows = [(file_name(file), *answer) for file, answer in zip(files, answers, strict=True)]
    return table_html(rows, classifier.class_names)


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
    note = "" if answer.recognised else "<small>probably none of the classes</small>"
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
        table.writerow([_text(name), str(not answer.recognised).lower(), "", *cells, *every])
    return file.getvalue()


def _text(cell: str) -> str:
    return f"'{cell}" if cell[:1] in "=+-@" else cell
