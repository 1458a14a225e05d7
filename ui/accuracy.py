"""The Evaluation tab: what metrics.json, history.csv and config.json of the artifact say.

No statistic is computed here, and no number is typed.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import gradio as gr

from model import Classifier, cifar10
from model.artifact import Config, Metrics, PretrainedNetwork, Scores, SplitScores, Training, is_cifar10, read_history
from ui.curves import Curve, Line, Reliability, curve
from ui.render import render, script

MANY_CLASSES = 20
"""Beyond it, class names stand upright above the matrix, and long tables scroll."""

FEW_IMAGES = 30
"""A bin of fewer is drawn pale: its accuracy is mostly chance."""

NOT_RECORDED = "not recorded"

Matrix = Sequence[Sequence[int]]
Names = Sequence[str]


def build_tab(classifier: Classifier, cell_html: Callable[[int, int], str]) -> None:
    """Puts the tab's content into the Blocks that is being built.

    `cell_html(true, predicted)` gives HTML with the test images of one cell of the confusion matrix, two positions in
    `class_names`.
    """
    metrics, names, config = classifier.metrics, classifier.class_names, classifier.config
    counts = metrics.test.confusion_matrix
    gr.HTML(accuracy_html(metrics, names, config), apply_default_css=False)
    with gr.Column(elem_id="confusion-card"):
        js = script("address.js", "confusion_matrix.js")
        matrix = gr.HTML(matrix_html(counts, names), js_on_load=js, apply_default_css=False)
        area = gr.HTML(
            html_template=render("cell.html"),
            js_on_load=script("address.js", "cell.js"),
            elem_id="cell",
            apply_default_css=False,
        )
    gr.HTML(training_html(metrics, config, read_history(classifier.folder)), apply_default_css=False)

    def show(event: gr.EventData) -> dict[str, int | str]:
        cell = true, predicted = [getattr(event, name, None) for name in ("true", "predicted")]
        if not all(type(place) is int and 0 <= place < len(names) for place in cell):
            raise gr.Error("There is no such cell: select a number of the confusion matrix.", print_exception=False)
        status = f"{cell_text(counts[true], true, predicted, names)}: shown below the matrix."
        return {"true": true, "predicted": predicted, "status": status, "images": cell_html(true, predicted)}

    # "multiple": each call with its own event's data. "always_last" makes the later one with that of the first.
    matrix.cell(show, None, area, trigger_mode="multiple", api_visibility="private", show_progress="minimal")


# Above the matrix


def accuracy_html(metrics: Metrics, names: Names, config: Config) -> str:
    """Overall and per-class accuracy, and how they were measured."""
    times, of_100 = correct_of_100(metrics.test)
    return render(
        "accuracy.html",
        cifar10=is_cifar10(names, metrics),
        by_chance=f"{1 / len(names):.0%}" if len(names) <= 100 else "less than 1%",
        times=times,
        of_100=of_100,
        test=metrics.test,
        val=metrics.val,
        published=cifar10.PUBLISHED,
        best_and_worst=best_and_worst(metrics.test, names),
        classes=class_rows(metrics, names),
        many=len(names) > MANY_CLASSES,
        training=metrics.training,
        split_facts=split_facts(metrics.training, config),
    )


def correct_of_100(test: Scores) -> tuple[str, str]:
    """As ("about", "92"); "more than 99" where rounding would claim that none is wrong, "fewer than 1" likewise."""
    correct = round(100 * test.accuracy)
    if correct == 100 and test.correct < test.n:
        return "more than", "99"
    if correct == 0 and test.correct:
        return "fewer than", "1"
    return "about", f"{correct}"


def split_facts(training: Training, config: Config) -> dict[str, str]:
    """The identity of the split, and the numbers that were fitted on the validation images."""
    split = training.split
    facts = {
        "Train / validation / test": f"{split.train:,} / {split.val:,} / {split.test:,}",
        "Split seed": f"{split.seed}",
        "Split checksum (SHA-256)": split.sha256 or NOT_RECORDED,
        "Validation checksum (SHA-256)": split.val_sha256 or NOT_RECORDED,
        "Temperature": f"{config.temperature:.4g}",
    }
    return facts | ({} if config.threshold is None else {"OOD threshold (max logit)": f"{config.threshold:.4g}"})


def best_and_worst(test: SplitScores, names: Names) -> str:
    """Which classes it recognizes best and worst, of those that the test images have."""
    totals = [sum(row) for row in test.confusion_matrix]
    shares = {i: share for i, share in enumerate(test.per_class_accuracy) if totals[i]}
    best, worst = max(shares.values()), min(shares.values())
    counts = sorted({total for total in totals if total})
    each = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"

    def of(share: float) -> str:
        found = [names[i] for i in shares if shares[i] == share]
        return f"{listed(found[:3])}{' and others' if len(found) > 3 else ''} ({share:.1%})"

    found = f"Equal for every class: {best:.1%}." if best == worst else f"Best: {of(best)}. Worst: {of(worst)}."
    return f"{found} Each class has {each} test images."


def class_rows(metrics: Metrics, names: Names) -> list[tuple[str, float | None, float | None]]:
    """Name and accuracy on test and val of each class, None without images: best first, without test images last."""

    def share(split: SplitScores, i: int) -> float | None:
        return split.per_class_accuracy[i] if any(split.confusion_matrix[i]) else None

    rows = [(name, share(metrics.test, i), share(metrics.val, i)) for i, name in enumerate(names)]
    return sorted(rows, key=lambda row: 1 if row[1] is None else -row[1])


def listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# The matrix


def matrix_html(matrix: Matrix, names: Names) -> str:
    return render(
        "confusion_matrix.html",
        names=names,
        rows=confusion_rows(matrix, names),
        errors=frequent_errors(matrix, names),
        many=len(names) > MANY_CLASSES,
    )


def frequent_errors(matrix: Matrix, names: Names, most: int = 3) -> str:
    """The most frequent errors by count, the more frequent first."""
    cells = ((count, i, k) for i, row in enumerate(matrix) for k, count in enumerate(row) if i != k and count)
    found = sorted(cells, key=lambda cell: -cell[0])
    if not found:
        return "There is no error on the test images."
    shown = [cell_text(matrix[true], true, predicted, names) for _, true, predicted in found[:most]]
    return f"Most frequent {'error' if len(shown) == 1 else 'errors'}: {listed(shown)}."


class Cell(NamedTuple):
    """`shade` from 0 to 1; `tab_stop`: the one button that Tab reaches, from which arrow keys move on."""

    count: int
    correct: bool
    shade: float
    text: str
    tab_stop: bool


def confusion_rows(matrix: Matrix, names: Names) -> list[list[Cell]]:
    """Row: true class, column: predicted. Shaded by the square root of the row's share, so that rare errors are still
    seen beside a full diagonal. The tab stop is the first count above 0, if possible on the diagonal."""
    places = [(i, k) for i, row in enumerate(matrix) for k, count in enumerate(row) if count]
    stop = next((place for place in places if place[0] == place[1]), places[0])
    return [
        [
            Cell(count, i == k, math.sqrt(count / max(1, sum(row))), cell_text(row, i, k, names), (i, k) == stop)
            for k, count in enumerate(row)
        ]
        for i, row in enumerate(matrix)
    ]


def cell_text(row: Sequence[int], true: int, predicted: int, names: Names) -> str:
    return f"{row[predicted]:,} of {sum(row):,} {names[true]} images predicted as {names[predicted]}"


# Below the matrix


def training_html(metrics: Metrics, config: Config, history: list[dict[str, float]]) -> str:
    """Calibration, training curves, and the run with its hyperparameters."""
    training = metrics.training
    return render(
        "training.html",
        calibration=metrics.test.calibration,
        temperature=f"{config.temperature:.4g}",
        few=FEW_IMAGES,
        diagrams=reliability_diagrams(metrics.test),
        training=training,
        curves=training_curves(history, training.best_epoch),
        run=run_facts(training),
    )


def reliability_diagrams(test: SplitScores) -> list[Reliability]:
    """Before and after temperature scaling."""

    found, diagrams = test.calibration, []
    before, after = (found.ece_before, found.bins_before), (found.ece_after, found.bins_after)
    for when, (ece, bins) in (("Before", before), ("After", after)):
        used = [part for part in bins if part.n]
        over = sum(part.confidence > part.accuracy for part in used)
        title = f"{when} temperature scaling: ECE {ece:.2%}"
        gist = f"{title}; overconfident in {over} of {len(used)} bins, {test.n:,} images"
        diagrams.append(Reliability(title, f"Reliability diagram. {gist}", used))
    return diagrams


def training_curves(history: list[dict[str, float]], best_epoch: int) -> list[Curve]:
    """Accuracy and loss by epoch, training beside validation, and the learning rate."""
    columns = {name: [row[name] for row in history] for name in history[0]}
    epochs = columns["epoch"]

    def pair(name: str) -> list[Line]:
        return [Line("train", "training", columns[f"train_{name}"]), Line("val", "validation", columns[f"val_{name}"])]

    return [
        curve("Accuracy", epochs, pair("accuracy"), best_epoch, "{:.1%}".format, percent=True),
        curve("Loss", epochs, pair("loss"), best_epoch),
        curve("Learning rate", epochs, [Line("rate", "it", columns["learning_rate"])], best_epoch),
    ]


def run_facts(training: Training) -> dict[str, str]:
    """The run: recipe, seed, time, hardware, commit, and networks that took part."""
    peak = training.peak_memory_bytes
    memory = {"host": peak.host, "device": peak.device} if peak else {}
    networks = training.pretrained
    facts = {
        "Recipe": f"{training.recipe}, with overrides" if training.changes else training.recipe,
        "Seed": f"{training.seed}",
        "Epochs": f"{training.epochs:,} (selected: {training.best_epoch:,})",
        "Parameters": f"{training.parameters:,}",
        "Training time": duration(training.wall_seconds),
        "Throughput": f"{training.images_per_second:,.0f} images/s",
        "Hardware": training.device,
        "Precision": training.precision,
        "Peak memory": ", ".join(f"{n / 2**30:.1f} GiB ({where})" for where, n in memory.items() if n) or NOT_RECORDED,
        "Started": training.started.replace("T", " ").replace("+00:00", " UTC"),
        "Commit": (training.git_commit or NOT_RECORDED)[:12],
        "Resumed": {0: "never", 1: "once"}.get(len(training.resumed), f"{len(training.resumed):,} times"),
        "Initial weights": _network(networks.initial_weights if networks else None),
        "Teacher": _network(networks.teacher if networks else None),
    }
    return {name: text for name, text in facts.items() if text}


def _network(found: PretrainedNetwork | None) -> str:
    if found is None:
        return ""
    return (
        f"ResNet-{found.depth}, recipe {found.recipe}, {found.epochs:,} epochs, "
        f"{found.val_accuracy:.2%} validation accuracy"
    )


def duration(seconds: float) -> str:
    """As "1 h 18 min", "4 min 10 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
