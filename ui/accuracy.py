"""The Accuracy tab: what metrics.json, history.csv and config.json of the artifact say, as HTML.

No statistic is computed here, and no number is typed but the `PUBLISHED` ones. Every string of the artifact is escaped:
an artifact may come from anybody.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

import gradio as gr

from model import Classifier
from model.artifact import (
    Bin,
    Calibration,
    Config,
    Metrics,
    PretrainedNetwork,
    Resumed,
    Scores,
    Training,
    read_history,
)
from model.cifar10 import CLASS_NAMES
from model.schema import Plain
from ui.address import fill
from ui.curves import FEW_IMAGES, Line, curve, reliability

PUBLISHED = (
    ("Test, He et al. 2015 (ResNet-32)", 0.9249),  # "Deep Residual Learning for Image Recognition", table 6: error 7.51
    ("Test, course report", 0.8677),  # the report this project began with, as docs/results.md cites it
    ("Validation, course report", 0.8716),  # the same
)
"""Accuracies on CIFAR-10 that others state: (what of whom, accuracy). Neither source states an interval."""

PUBLISHED_SOURCES = (
    'He et al. 2015: <a href="https://arxiv.org/abs/1512.03385" target="_blank" rel="noopener noreferrer">'
    "Deep Residual Learning for Image Recognition</a>, table 6. Course report: the one that this project began with. "
    "Neither states an interval, and neither network was run here."
)

MANY_CLASSES = 20
"""Beyond it, class names stand upright above the matrix, and long tables scroll."""

NOT_RECORDED = "not recorded"

Matrix = Sequence[Sequence[int]]
Names = Sequence[str]


def build_tab(classifier: Classifier, cell_html: Callable[[int, int], str]) -> None:
    """Puts the tab's content into the Blocks that is being built.

    `cell_html(true, predicted)` gives HTML with the test images of one cell of the confusion matrix, two positions in
    `class_names`.
    """
    metrics, names = classifier.metrics, classifier.class_names
    history = read_history(classifier.folder)
    gr.HTML(overview(metrics, names, classifier.config), apply_default_css=False)
    with gr.Column(elem_id="confusion-card"):
        counts = metrics.test.confusion_matrix
        matrix = gr.HTML(matrix_card(counts, names), js_on_load=MATRIX_JS, apply_default_css=False)
        _show_cells(matrix, counts, names, cell_html)
    gr.HTML(background(metrics, classifier.config, history), apply_default_css=False)


def _show_cells(matrix: gr.HTML, counts: Matrix, names: Names, cell_html: Callable[[int, int], str]) -> None:
    """The area below the matrix, and what fills it when a cell is activated."""
    chosen = gr.JSON(visible=False)  # CELL_JS fills it at each call
    area = gr.HTML(
        '<p class="told" role="status">Choose a number above to see its images here.</p>',
        elem_id="cell",
        js_on_load=AREA_JS,
        apply_default_css=False,
    )

    def show(data: object) -> str:
        cell = chosen_cell(data, len(names))  # a visitor's program may send anything
        if cell is None:
            raise gr.Error(
                "There is no such cell in the confusion matrix: choose one of its numbers.", print_exception=False
            )
        true, predicted = cell
        told = _told(counts[true], true, predicted, names)
        # The browser changes this paragraph in place, so a screen reader says the sentence and not the images.
        return f'<p class="told spoken" role="status">{told}: shown below the matrix.</p>{cell_html(true, predicted)}'

    matrix.cell(
        show,
        chosen,
        area,
        js=CELL_JS,
        trigger_mode="always_last",
        api_visibility="private",
        show_progress="minimal",
    )


def chosen_cell(data: object, classes: int) -> tuple[int, int] | None:
    """(true, predicted) of what CELL_JS gives; None unless both are whole numbers of a class."""
    if not isinstance(data, dict):
        return None
    cell = data.get("true"), data.get("predicted")
    return cell if all(type(value) is int and 0 <= value < classes for value in cell) else None


MATRIX_JS = fill("""
const table = element.querySelector('#confusion');
const buttonAt = (row, column) => table.rows[row]?.cells[column]?.querySelector('button');
const place = (button) => [button.closest('tr').rowIndex, button.closest('td').cellIndex];
const trueNames = [...table.rows].map((row) => row.cells[0].textContent);
const saidNames = [...table.rows[0].cells].map((cell) => cell.textContent);
let current = table.querySelector('button[tabindex="0"]');

function select(button) {
  current.tabIndex = -1;
  button.tabIndex = 0;
  current = button;
}
function neighbour(button, down, right) {
  let [row, column] = place(button);
  do { row += down; column += right; } while (table.rows[row]?.cells[column] && !buttonAt(row, column));
  return buttonAt(row, column);
}
const inRow = (button) => [...button.closest('tr').querySelectorAll('button')];
const moves = {
  ArrowUp: (button) => neighbour(button, -1, 0),
  ArrowDown: (button) => neighbour(button, 1, 0),
  ArrowLeft: (button) => neighbour(button, 0, -1),
  ArrowRight: (button) => neighbour(button, 0, 1),
  Home: (button) => inRow(button)[0],
  End: (button) => inRow(button).at(-1),
};
element.addEventListener('keydown', (event) => {
  const button = event.target.closest('#confusion button');
  if (!button || !moves[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const next = moves[event.key](button);
  if (next) { select(next); next.focus(); }
});
element.addEventListener('mouseover', (event) => {
  const button = event.target.closest('#confusion button');
  if (button) button.title = button.getAttribute('aria-label');
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('#confusion button');
  if (!button) return;
  select(button);
  table.querySelector('[aria-pressed]')?.removeAttribute('aria-pressed');
  button.setAttribute('aria-pressed', 'true');
  const [row, column] = place(button);
  const url = $VIEW;
  url.searchParams.set('row', trueNames[row]);
  url.searchParams.set('column', saidNames[column]);
  $SHOW(url);
  trigger('cell', {});
});
const asked = $VIEW.searchParams;
buttonAt(trueNames.indexOf(asked.get('row')), saidNames.indexOf(asked.get('column')))?.click();
""")
"""One tab stop, arrow keys, Home and End; a click, Enter or Space presses the button and triggers `cell`. Places are
counted in the table, whose first row and column are headers. The address names the cell by its two classes."""

CELL_JS = """() => {
  const pressed = document.querySelector('#confusion [aria-pressed]');
  const place = pressed && {true: pressed.closest('tr').rowIndex - 1, predicted: pressed.closest('td').cellIndex - 1};
  return [place];
}"""
"""A JavaScript function: the cell that is pressed when the call begins. The event's data is no place for it: gradio
makes a call that had to wait for the one before it with the first event's.
"""

AREA_JS = fill("""
const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
watch('value', () => requestAnimationFrame(() =>
  element.scrollIntoView({block: 'nearest', behavior: calm ? 'auto' : 'smooth'})));
element.addEventListener('click', (event) => {
  const link = $EMBEDDED && event.target.closest('a[href^="?"]');
  if (link) Object.assign(link, {href: `${$APP}/${link.getAttribute('href')}`, target: '_blank', rel: 'noopener'});
});
""")
"""Where the app is a part of another page, a link to another view would leave that."""


def overview(metrics: Metrics, names: Names, config: Config) -> str:
    """The cards above the matrix: the summary, each class, and where the numbers come from."""
    cards = (
        _card("How good it is", plain_sentence(metrics.test, len(names)) + summary_table(metrics, names), "wide"),
        _card("Accuracy of each class", best_worst_sentence(metrics, names) + per_class_table(metrics, names)),
        _card("Where these numbers come from", chosen_sentences(metrics) + split_facts(metrics.training, config)),
    )
    return f'<div class="report accuracy">{"".join(cards)}</div>'


def matrix_card(matrix: Matrix, names: Names) -> str:
    """The confusion matrix with its explanation."""
    return (
        '<div class="accuracy"><h2>What it takes for what</h2>'
        f"<p>{mistakes_sentence(matrix, names)}</p><p>{CONFUSION_NOTE}</p>"
        "<p>Choose a number to see its images; with a keyboard, move by the arrow keys.</p>"
        f"{confusion_table(matrix, names)}</div>"
    )


CONFUSION_NOTE = (
    "In the confusion matrix each row is a true class of the test images, each column what the network said. "
    "The diagonal, bold and green, is what it got right; everything beside it, orange, is a mistake. "
    "Within each of the two, a stronger colour means a larger share of the row."
)


def background(metrics: Metrics, config: Config, history: list[dict[str, float]]) -> str:
    """The cards below the matrix: calibration, curves, recipe."""
    training = metrics.training
    calibration = calibration_card(metrics.test.calibration, config.temperature)
    cards = (
        _card("Can its percentages be believed?", calibration, "wide"),
        _card("How it learned", curves(history, training.best_epoch), "wide"),
        _card("How it was trained", training_lists(training), "wide"),
    )
    return f'<div class="report accuracy">{"".join(cards)}</div>'


def _card(title: str, body: str, width: str = "") -> str:
    return f'<section class="card {width}"><h2>{title}</h2>{body}</section>'


def _scroll(label: str, body: str, kind: str = "") -> str:
    """A region that scrolls by itself, also by keyboard, so that the page never gets wider than the screen."""
    return f'<div class="scroll {kind}" role="region" aria-label="{label}" tabindex="0">{body}</div>'


def plain_sentence(test: Scores, classes: int) -> str:
    """What the test accuracy means, for people who never trained a network."""
    return (
        f'<p class="plain">Of 100 new pictures of this kind, it gets {_of_100(test)} right.</p>'
        f"<p>That is the accuracy on the {test.n:,} test images, which it never saw while it learned. Guessing "
        f"among the {classes} classes would get about {round(100 / classes)}. Photos unlike these images can be "
        "harder.</p>"
    )


def _of_100(test: Scores) -> str:
    """As "about 92"; "more than 99" where rounding would claim that none is wrong, "fewer than 1" likewise."""
    right = round(100 * test.accuracy)
    if right == 100 and test.correct < test.n:
        return "<strong>more than 99</strong>"
    if right == 0 and test.correct:
        return "<strong>fewer than 1</strong>"
    return f"about <strong>{right}</strong>"


def summary_table(metrics: Metrics, names: Names) -> str:
    """Accuracy on test and val with the number of images and the 95% interval, and, for CIFAR-10, published ones."""
    own = "".join(
        f'<tr><th scope="row">{name}</th><td class="strong">{split.accuracy:.2%}</td>'
        f"<td>{_interval(split)}</td><td>{split.correct:,} of {split.n:,}</td><td>{split.loss:.3f}</td></tr>"
        for name, split in (("Test", metrics.test), ("Validation", metrics.val))
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Images", "Accuracy", "95% interval", "Right", "Loss"))
    comparable = tuple(names) == CLASS_NAMES
    caption = "Share of images that get their right name"
    table = (
        f'<table id="summary"><caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{own}</tbody>'
        f"{_published_rows() if comparable else ''}</table>"
    )
    sources = f'<p class="small">{PUBLISHED_SOURCES}</p>' if comparable else ""
    return _scroll("Accuracy table", table) + sources + flip_sentence(metrics)


def _published_rows() -> str:
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{accuracy:.2%}</td><td>not stated</td><td></td><td></td></tr>'
        for name, accuracy in PUBLISHED
    )
    return (
        '<tbody class="published"><tr><th scope="rowgroup" colspan="5">For comparison, as stated there</th></tr>'
        f"{rows}</tbody>"
    )


def _interval(split: Scores) -> str:
    low, high = split.accuracy_interval
    return f"{low:.2%} to {high:.2%}"


def flip_sentence(metrics: Metrics) -> str:
    """`flip_tta`, apart from the table; nothing where the artifact lacks it."""
    told = [
        f"{name} {flip.accuracy:.2%} ({_interval(flip)})"
        for name, flip in (("test", metrics.test.flip_tta), ("validation", metrics.val.flip_tta))
        if flip
    ]
    if not told:
        return ""
    return (
        f'<p id="flip" class="small">Mean of the image and its mirror image: {", ".join(told)}. '
        "All other numbers, and the predictions of this page, are of the single view.</p>"
    )


def chosen_sentences(metrics: Metrics) -> str:
    """How the published weights were selected, on which images, and what the interval covers."""
    training = metrics.training
    split = training.split
    return (
        f"<p><b>Split.</b> It learned from {split.train:,} training images. Another {split.val:,} of the "
        "training set, the validation images, were held out: no weight was trained on them.</p>"
        f"<p><b>Selection.</b> After each of the {training.epochs:,} epochs it was tried on the validation images. "
        f"The weights are those of epoch {training.best_epoch:,}, selected by {escape(training.selected_by)}. "
        f"The trainer reads the {split.test:,} test images once, after that choice: the test accuracy is the one to "
        "quote.</p>"
        "<p><b>Interval.</b> With other images of the same kind the number would differ a little; the 95% interval "
        "(Wilson) says how much. It does not cover what another training run would change.</p>"
    )


def split_facts(training: Training, config: Config) -> str:
    """The identity of the split, and the numbers that were fitted on the validation images."""
    split = training.split
    facts = {
        "Train / validation / test": f"{split.train:,} / {split.val:,} / {split.test:,}",
        "Split seed": split.seed,
        "Hash of the split (SHA-256)": split.sha256 or NOT_RECORDED,
        "Hash of its validation part": split.val_sha256 or NOT_RECORDED,
        "Temperature": f"{config.temperature:.4g}",
    }
    if config.threshold is not None:
        facts["Threshold of “none of these”"] = f"highest logit below {config.threshold:.4g}"
    return _definitions(facts, "split")


def best_worst_sentence(metrics: Metrics, names: Names) -> str:
    """Which classes it knows best and worst, of those that the test images have."""
    totals = [sum(row) for row in metrics.test.confusion_matrix]
    shares = {i: share for i, share in enumerate(metrics.test.per_class_accuracy) if totals[i]}
    best, worst = max(shares.values()), min(shares.values())
    counts = sorted({total for total in totals if total})
    each = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    if best == worst:
        return f"<p>Equally good at every class: {best:.1%}. Each has {each} test images.</p>"

    def called(share: float) -> str:
        found = [escape(names[i]) for i in shares if shares[i] == share]
        return f"<strong>{_listed(found[:3])}</strong>{' and others' if len(found) > 3 else ''} ({share:.1%})"

    return f"<p>Best at {called(best)}, worst at {called(worst)}. Each class has {each} test images.</p>"


def per_class_table(metrics: Metrics, names: Names) -> str:
    """Test accuracy of each class as a bar, with a tick and a number for val; best first."""
    test, val = metrics.test.per_class_accuracy, metrics.val.per_class_accuracy
    tested, held = ([sum(row) for row in split.confusion_matrix] for split in (metrics.test, metrics.val))
    order = sorted(range(len(names)), key=lambda i: -test[i] if tested[i] else 1)
    rows = "".join(
        f'<tr><th scope="row">{escape(names[i])}</th>'
        f'<td class="bar"><span style="--share: {test[i]:.4f}; --val: {val[i]:.4f}"></span></td>'
        f'<td class="strong">{_share(test[i], tested[i])}</td><td>{_share(val[i], held[i])}</td></tr>'
        for i in order
    )
    table = (
        '<table id="per-class"><caption>Share of each class’s images that get its name, best first</caption>'
        '<thead><tr><th scope="col">Class</th><td></td><th scope="col" class="test">Test</th>'
        f'<th scope="col" class="val">Validation</th></tr></thead><tbody>{rows}</tbody></table>'
    )
    return _scroll("Accuracy of each class", table, "tall" if len(names) > MANY_CLASSES else "")


def _share(accuracy: float, images: int) -> str:
    return f"{accuracy:.1%}" if images else "no images"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def mistakes_sentence(matrix: Matrix, names: Names, most: int = 3) -> str:
    """The most frequent mistakes by count, the more frequent first; a tie at the end is told."""
    found = sorted(
        (-count, true, said) for true, row in enumerate(matrix) for said, count in enumerate(row) if true != said
    )
    found = [cell for cell in found if cell[0]]
    if not found:
        return "It made no mistake on the test images."
    shown = [
        f"{-count:,} of {sum(matrix[true]):,} {escape(names[true])} images were called {escape(names[said])}"
        for count, true, said in found[:most]
    ]
    tied = sum(cell[0] == found[most - 1][0] for cell in found[most:])
    others = f", as many as in {tied} other {'cell' if tied == 1 else 'cells'}" if tied else ""
    return f"Most frequent {'mistake' if len(shown) == 1 else 'mistakes'}: {_listed(shown)}{others}."


def confusion_table(matrix: Matrix, names: Names) -> str:
    """Counts, row: true class, column: predicted. Shaded by the square root of the row's share, so that rare mistakes
    are still seen beside a full diagonal. Each count above 0 is a button; all are a single tab stop."""
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    first = next((i for i, row in enumerate(matrix) if row[i]), None)
    rows = "".join(
        f'<tr><th scope="row"><span>{escape(name)}</span></th>{"".join(_cells(row, true, names, true == first))}</tr>'
        for true, (name, row) in enumerate(zip(names, matrix, strict=True))
    )
    if first is None:  # nothing on the diagonal: the first button of all is the tab stop
        rows = rows.replace('tabindex="-1"', 'tabindex="0"', 1)
    kind = ' class="many"' if len(names) > MANY_CLASSES else ""
    table = (
        f'<table id="confusion"{kind} role="grid" style="--classes: {len(names)}">'
        "<caption>Number of test images</caption>"
        f'<thead><tr><td class="corner">true \\ said</td>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )
    return _scroll("Confusion matrix", table)


def _cells(row: Sequence[int], true: int, names: Names, tab_stop: bool) -> Iterator[str]:
    total = sum(row) or 1
    for said, count in enumerate(row):
        if not count:
            yield '<td class="none">0</td>'
            continue
        kind, stop = "hit" if said == true else "miss", 0 if tab_stop and said == true else -1
        told = f"{_told(row, true, said, names)}: show them"
        yield (
            f'<td class="{kind}" style="--shade: {math.sqrt(count / total):.3f}">'
            f'<button type="button" tabindex="{stop}" aria-label="{told}">{count:,}</button></td>'
        )


def _told(row: Sequence[int], true: int, said: int, names: Names) -> str:
    """A cell in words, escaped also for an attribute."""
    return escape(f"{row[said]:,} of {sum(row):,} {names[true]} images called {names[said]}", quote=True)


def calibration_card(calibration: Calibration, temperature: float) -> str:
    """The reliability diagram before and after temperature scaling."""
    parts = (
        ("Before", calibration.ece_before, calibration.bins_before),
        ("After", calibration.ece_after, calibration.bins_after),
    )
    charts = "".join(reliability(*_diagram(title, error, bins)) for title, error, bins in parts)
    tables = "".join(_bins_table(title, bins) for title, _, bins in parts)
    return (
        "<p>When it says 80%, it should be right in 80 of 100 cases. On average over the test images, what it says and "
        f"what it keeps lie <strong>{_points(calibration.ece_before)}</strong> apart before, and "
        f"<strong>{_points(calibration.ece_after)}</strong> after its scores are divided by one number, the "
        f"temperature {temperature:.4g}, fitted on the validation images (expected calibration error, ECE). Dividing "
        "changes no answer, only how sure it is; this page shows the percentages after it.</p>"
        "<p>How to read it: a bar is the share that was right among the images of which it was that sure; the mark on "
        "it is how sure it said it was. A mark above its bar means too sure, below it too modest. The small numbers "
        f"are how many images a bar stands for; a pale bar has fewer than {FEW_IMAGES}, so its height is mostly "
        "chance.</p>"
        f'<div class="charts two">{charts}</div>'
        f'<details><summary>The numbers of the diagrams</summary><div class="charts two">{tables}</div></details>'
    )


def _diagram(title: str, error: float, bins: Sequence[Bin]) -> tuple[str, str, Sequence[Bin]]:
    used = [part for part in bins if part.n]
    too_sure = sum(part.confidence > part.accuracy for part in used)
    label = (
        f"Reliability diagram. {title}: too sure in {too_sure} of {len(used)} bars, {_points(error)} apart on average, "
        f"{sum(part.n for part in used):,} images"
    )
    return f"{title}: {_points(error)} apart", label, bins


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _bins_table(title: str, bins: Sequence[Bin]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{part.lower:.0%} to {part.upper:.0%}</th><td>{part.n:,}</td>'
        f"<td>{part.confidence:.1%}</td><td>{part.accuracy:.1%}</td></tr>"
        for part in bins
        if part.n
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Sure", "Images", "Said, mean", "Right"))
    table = f"<table><caption>{title}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return _scroll(f"Numbers of the diagram: {title.lower()}", table)


def curves(history: list[dict[str, float]], best_epoch: int) -> str:
    """Accuracy and loss by epoch, training beside validation, and the learning rate; the chosen epoch marked."""

    def column(name: str) -> list[float]:
        return [row[name] for row in history]

    def pair(name: str) -> list[Line]:
        return [Line("train", "training", column(f"train_{name}")), Line("val", "validation", column(f"val_{name}"))]

    legend = (
        '<p class="legend"><span class="val">Validation</span><span class="train">Training</span>'
        f'<span class="best">Chosen epoch ({best_epoch:,})</span></p>'
    )
    epochs = column("epoch")
    rate = [Line("rate", "it", column("learning_rate"))]
    charts = (
        curve("Accuracy", epochs, pair("accuracy"), best_epoch, "{:.1%}".format, percent=True)
        + curve("Loss", epochs, pair("loss"), best_epoch)
        + curve("Learning rate", epochs, rate, best_epoch)
    )
    note = (
        "<p>An epoch is one pass over the training images. Loss is what the training lowers: it is large where the "
        "network is sure of a wrong answer. The learning rate is how far one step may change the weights.</p>"
        '<p class="small">Training values are means over an epoch in which the weights still change and the pictures '
        "are augmented, so they may be worse than those of the validation images. The summary is computed anew by the "
        "exported network, in float32; a run in another precision may differ from it by a few images.</p>"
    )
    return f'{legend}<div class="charts">{charts}</div>{note}'


def training_lists(training: Training) -> str:
    """The run (recipe, seed, time, device, commit), its hyperparameters and its software versions."""
    run = {
        "Recipe": training.recipe,
        **({"Changed from it": " ".join(training.changes)} if training.changes else {}),
        "Seed": training.seed,
        "Epochs": f"{training.epochs:,} (chosen: {training.best_epoch:,})",
        "Parameters": f"{training.parameters:,}",
        "Time": duration(training.wall_seconds),
        "Speed": f"{training.images_per_second:,.0f} images per second",
        "Hardware": training.device,
        "Precision": training.precision,
        "Peak memory": _memory(training),
        "Started": _moment(training.started),
        "Commit": _commit(training.git_commit),
        "Resumed": {0: "never", 1: "once"}.get(len(training.resumed), f"{len(training.resumed):,} times"),
    }
    if found := training.pretrained:
        networks = {"Began with": found.initial_weights, "Teacher": found.teacher}
        run |= {label: _pretrained(network) for label, network in networks.items() if network}
    return (
        _definitions(run, "run")
        + _resumed(training.resumed)
        + f"<details open><summary>Hyperparameters</summary>{_definitions(training.hyperparameters)}</details>"
        + f"<details><summary>Software versions</summary>{_definitions(training.versions)}</details>"
    )


def _pretrained(network: PretrainedNetwork) -> str:
    return (
        f"ResNet of depth {network.depth}; recipe: {network.recipe}; epochs: {network.epochs:,}; "
        f"validation accuracy: {network.val_accuracy:.2%}"
    )


def _memory(training: Training) -> str:
    peak = training.peak_memory_bytes
    found = {"host": peak.host, "device": peak.device} if peak else {}
    told = [f"{bytes_ / 2**30:.1f} GiB ({where})" for where, bytes_ in found.items() if bytes_]
    return ", ".join(told) or NOT_RECORDED


def _moment(started: str) -> str:
    return started.replace("T", " ").replace("+00:00", " UTC")


def _commit(commit: str | None) -> str:
    return commit[:12] if commit else NOT_RECORDED


def _resumed(parts: Sequence[Resumed]) -> str:
    """Where and with what the later parts of the run went on; nothing for one that ran in one piece."""
    items = "".join(
        f"<li>{escape(_moment(part.started))}: {escape(part.device)}, {escape(part.precision)}, "
        f"commit {escape(_commit(part.git_commit))}; "
        f"{escape(', '.join(f'{name} {value}' for name, value in part.versions.items()))}</li>"
        for part in parts
    )
    return f"<details><summary>Later parts of the run</summary><ol>{items}</ol></details>" if parts else ""


def _definitions(values: dict[str, Plain], name: str = "") -> str:
    rows = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(_shown(value))}</dd></div>" for key, value in values.items()
    )
    return f'<dl class="facts"{f" id={name}" if name else ""}>{rows}</dl>'


def _shown(value: Plain) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def duration(seconds: float) -> str:
    """As "1 h 18 min", "4 min 10 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
