"""The Accuracy tab: what metrics.json and history.csv of the artifact say, as HTML. Nothing is computed or typed here.

Every string of the artifact is escaped: an artifact may come from anybody.
"""

import json
import math
from collections.abc import Iterable
from html import escape

import gradio as gr

from model import Classifier
from model.artifact import read_history
from ui.curves import curve


def build_tab(classifier: Classifier) -> None:
    """Puts the tab's content into the Blocks that is being built."""
    history = read_history(classifier.folder)
    gr.HTML(report(classifier.metrics, classifier.class_names, history), apply_default_css=False)


def report(metrics: dict, names: list[str], history: list[dict[str, float]]) -> str:
    """The whole tab, from metrics.json, the class names in label order and the rows of history.csv."""
    training = metrics["training"]
    confusion = confusion_table(metrics["test"]["confusion_matrix"], names)
    cards = (
        _card("Summary", summary_table(metrics) + flip_sentence(metrics) + chosen_sentence(metrics)),
        _card("Accuracy of each class", per_class_table(metrics, names)),
        _card("Confusion matrix", f"<p>{CONFUSION_NOTE}</p>{confusion}", "wide"),
        _card("Training curves", curves(history, training["best_epoch"]), "wide"),
        _card("How it was trained", training_lists(training), "wide"),
    )
    return f'<div class="report">{"".join(cards)}</div>'


CONFUSION_NOTE = (
    "Rows are the true classes of the test images, columns what the network said. "
    "A stronger colour means more images; the diagonal is what it got right."
)


def _card(title: str, body: str, width: str = "") -> str:
    return f'<section class="card {width}"><h2>{title}</h2>{body}</section>'


def summary_table(metrics: dict) -> str:
    """Accuracy on val and test with the number of images and the 95% interval."""
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td class="strong">{metrics[key]["accuracy"]:.2%}</td>'
        f"<td>{_interval(metrics[key])}</td><td>{metrics[key]['correct']:,} of {metrics[key]['n']:,}</td>"
        f"<td>{metrics[key]['loss']:.3f}</td></tr>"
        for key, name in (("test", "Test"), ("val", "Validation"))
    )
    return (
        '<div class="scroll" role="region" aria-label="Summary" tabindex="0"><table id="summary"><thead><tr>'
        '<th scope="col">Images</th><th scope="col">Accuracy</th><th scope="col">95% interval</th>'
        f'<th scope="col">Correct</th><th scope="col">Loss</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _interval(split: dict) -> str:
    low, high = split["accuracy_interval"]
    return f"{low:.2%} to {high:.2%}"


def flip_sentence(metrics: dict) -> str:
    """`flip_tta`, apart from the table; nothing where the artifact lacks it."""
    told = [
        f"{name} {flip['accuracy']:.2%} ({_interval(flip)})"
        for name, flip in (("test", metrics["test"].get("flip_tta")), ("validation", metrics["val"].get("flip_tta")))
        if flip
    ]
    if not told:
        return ""
    return (
        f'<p id="flip">Mean of the image and its mirror image: {", ".join(told)}. '
        "All other numbers, and the predictions of this page, are of the single view.</p>"
    )


def chosen_sentence(metrics: dict) -> str:
    """How the published weights were selected, and on which images."""
    training = metrics["training"]
    split = training["split"]
    return (
        f"<p>The weights are those of epoch {training['best_epoch']} of {training['epochs']}, "
        f"selected by {escape(str(training['selected_by']))}. Of the official training set, {split['train']:,} images "
        f"were trained on and {split['val']:,} held out for that choice; the {split['test']:,} test images were read "
        "once, after it. The interval (Wilson) covers the chance of which images were drawn, not that of another "
        "training run.</p>"
    )


def per_class_table(metrics: dict, names: list[str]) -> str:
    """Test accuracy of each class as a bar, with the val accuracy beside it; label order."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f'<td class="bar"><span style="--share: {test:.4f}"></span></td>'
        f'<td class="strong">{test:.1%}</td><td>{val:.1%}</td></tr>'
        for name, test, val in zip(
            names, metrics["test"]["per_class_accuracy"], metrics["val"]["per_class_accuracy"], strict=True
        )
    )
    return (
        '<table id="per-class"><thead><tr><th scope="col">Class</th><td></td>'
        f'<th scope="col">Test</th><th scope="col">Validation</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def confusion_table(matrix: list[list[int]], names: list[str]) -> str:
    """Counts, row: true class, column: predicted. Shaded by the square root of the row's share, so that rare mistakes
    are still seen beside a full diagonal."""
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(_cells(row, true, names))}</tr>'
        for true, (name, row) in enumerate(zip(names, matrix, strict=True))
    )
    return (
        '<div class="scroll" role="region" aria-label="Confusion matrix" tabindex="0"><table id="confusion">'
        f'<thead><tr><td class="corner">true \\ said</td>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _cells(row: list[int], true: int, names: list[str]) -> Iterable[str]:
    total = sum(row) or 1
    for said, count in enumerate(row):
        shade = math.sqrt(count / total)
        mark = " class=" + ("hit" if said == true else "none" if count == 0 else "deep" if shade > 0.6 else "miss")
        told = escape(f"{count:,} of {total:,} {names[true]} images called {names[said]}", quote=True)
        yield f'<td{mark} style="--shade: {shade:.3f}" title="{told}">{count:,}</td>'


def curves(history: list[dict[str, float]], best_epoch: int) -> str:
    """Accuracy and loss by epoch, training beside validation, the chosen epoch marked."""

    def column(name: str) -> list[float]:
        return [row[name] for row in history]

    epochs = column("epoch")
    legend = (
        '<p class="legend"><span class="val">Validation</span><span class="train">Training</span>'
        f'<span class="best">Chosen epoch ({best_epoch})</span></p>'
    )
    pairs = (("Accuracy", "accuracy", "{:.0%}"), ("Loss", "loss", "{:g}"))
    charts = "".join(
        curve(title, epochs, column(f"train_{name}"), column(f"val_{name}"), best_epoch, ticks)
        for title, name, ticks in pairs
    )
    note = (
        "<p>Training values are means over an epoch in which the weights still change and the pictures are augmented, "
        "so they may lie below those of the validation images. The summary is computed anew by the exported network, "
        "in float32; a run in another precision may differ from it by a few images.</p>"
    )
    return f'{legend}<div class="charts">{charts}</div>{note}'


def training_lists(training: dict) -> str:
    """The run (recipe, seed, time, device, commit), its hyperparameters and its software versions."""
    run = {
        "Recipe": training["recipe"],
        "Seed": training["seed"],
        "Epochs": f"{training['epochs']} (best: {training['best_epoch']})",
        "Parameters": f"{training['parameters']:,}",
        "Time": duration(training["wall_seconds"]),
        "Speed": f"{training['images_per_second']:,.0f} images per second",
        "Device": training["device"],
        "Precision": training["precision"],
        "Started": training["started"].replace("T", " ").replace("+00:00", " UTC"),
        "Commit": (training["git_commit"] or "not recorded")[:12],
        "Split": f"{training['split']['train']:,} / {training['split']['val']:,} / {training['split']['test']:,}"
        f" (seed {training['split']['seed']})",
    }
    return (
        _definitions(run, "run")
        + f"<details open><summary>Hyperparameters</summary>{_definitions(training['hyperparameters'])}</details>"
        + f"<details><summary>Software versions</summary>{_definitions(training['versions'])}</details>"
    )


def _definitions(values: dict, name: str = "") -> str:
    rows = "".join(f"<div><dt>{escape(str(key))}</dt><dd>{_value(value)}</dd></div>" for key, value in values.items())
    return f'<dl class="facts"{f" id={name}" if name else ""}>{rows}</dl>'


def _value(value: object) -> str:
    return escape(value if isinstance(value, str) else "none" if value is None else json.dumps(value))


def duration(seconds: float) -> str:
    """As "1 h 18 min", "4 min 10 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
