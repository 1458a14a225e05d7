"""The Evaluation tab: each number of the artifact as it is shown, and the charts."""

import json
import math
from collections import Counter
from dataclasses import replace

import gradio as gr
import pytest
from pydantic import TypeAdapter

from model import Classifier
from model.artifact import HISTORY_COLUMNS, Bin, Metrics, Scores, SplitScores, Training, read_config
from model.hub import BUNDLED
from tests.markup import elements, find, text
from ui import accuracy
from ui.curves import CURVE, RELIABILITY, Line, Reliability, curve, epoch_ticks, nice_ticks, tick_labels
from ui.render import TEMPLATES

NAMES = ["cat", "dog"]
CHARTS = TEMPLATES.get_template("charts.html").module


def parse(kind: type, value: dict):
    """As it stands in a file of the artifact."""
    return TypeAdapter(kind).validate_json(json.dumps(value))


def scores(matrix: list[list[int]], low: float = 0, high: float = 1, loss: float = 0.5) -> SplitScores:
    """Those of a confusion matrix."""
    n, hits = sum(map(sum, matrix)), [row[i] for i, row in enumerate(matrix)]
    empty = {"lower": 0, "upper": 0.5, "n": 0, "confidence": None, "accuracy": None}
    bins = [empty, {"lower": 0.5, "upper": 1, "n": n, "confidence": 0.95, "accuracy": 0.9}]
    calibration = {"ece_before": 0.05, "ece_after": 0.0123, "loss_after": 0.2, "bins_before": bins, "bins_after": bins}
    found = {"n": n, "correct": sum(hits), "accuracy": sum(hits) / n, "accuracy_interval": [low, high], "loss": loss}
    found["per_class_accuracy"] = [hit / max(1, sum(row)) for hit, row in zip(hits, matrix, strict=True)]
    return parse(SplitScores, found | {"confusion_matrix": matrix, "calibration": calibration})


TRAINING = {
    "recipe": "default",
    "hyperparameters": {"learning_rate": 0.1, "nesterov": True, "max_steps": None, "betas": [0.9, 0.99]},
    "seed": 3,
    "epochs": 26,
    "best_epoch": 25,
    "selected_by": "highest val accuracy",
    "wall_seconds": 4700.0,
    "images_per_second": 1250.4,
    "device": "CPU: some",
    "precision": "32-true",
    "versions": {"torch": "2.11.0"},
    "git_commit": None,
    "started": "2026-01-01T00:00:00+00:00",
    "split": {"train": 45000, "val": 50, "test": 1100, "seed": 7, "sha256": "ab"},
    "parameters": 464154,
}
TEACHER = {"recipe": "record", "seed": 1, "depth": 56, "epochs": 1920, "parameters": 9, "val_accuracy": 0.95}
TEACHER["sha256"] = "ab"
PART = {"started": "2026-01-02T03:04:05+00:00", "device": "GPU: other", "precision": "bf16-mixed"}
PART |= {"versions": {"torch": "2.12", "numpy": "2.4"}, "git_commit": None}

METRICS = Metrics(
    format_version=1,
    val=scores([[14, 6], [3, 27]], 0.692, 0.9023),
    test=scores([[600, 0], [100, 400]], 0.8906, 0.9247, 0.25),
    training=parse(Training, TRAINING),
)
CONFIG = replace(read_config(BUNDLED / "config.json"), temperature=1.2345678, threshold=None)
HISTORY = [dict.fromkeys(HISTORY_COLUMNS, 1.0)]


def upper(metrics: Metrics = METRICS, names=NAMES) -> str:
    return accuracy.accuracy_html(metrics, names, CONFIG)


def lower(metrics: Metrics = METRICS, **training) -> str:
    return accuracy.training_html(replace(metrics, training=parse(Training, TRAINING | training)), CONFIG, HISTORY)


def rows(html: str) -> list[list[str]]:
    """The text of each cell, by row."""
    found = []
    for element in elements(html):
        if element.tag == "tr":
            found.append([])
        elif element.tag in ("th", "td"):
            found[-1].append(element.text)
    return found


# Above the matrix


def test_each_split_that_was_measured_has_accuracy_interval_number_and_loss():
    measured = [
        ["Test", "90.91%", "89.06% to 92.47%", "1,000 of 1,100", "0.250"],
        ["Validation", "82.00%", "69.20% to 90.23%", "41 of 50", "0.500"],
    ]
    assert rows(upper())[1:4] == [*measured, ["Class", "", "Test", "Validation"]]  # nothing published beside these
    flipped = Scores(n=1100, correct=1001, accuracy=0.91, accuracy_interval=(0.8916, 0.9255), loss=0.2)
    assert rows(upper(replace(METRICS, test=replace(METRICS.test, flip_tta=flipped))))[1:5] == [
        *measured,
        ["Test-time augmentation (horizontal flip)"],
        ["Test", "91.00%", "89.16% to 92.55%", "1,001 of 1,100", "0.200"],
    ]
    bundled = Classifier.load()
    html = upper(bundled.metrics, bundled.class_names)
    first = rows(html).index(["Published results (as reported)"]) + 1
    assert [row[:3] for row in rows(html)[first : first + 3]] == [
        ["He et al. 2015 (ResNet-32)", "92.49%", "not stated"],
        ["Course report", "86.77%", "not stated"],
        ["Course report (validation)", "87.16%", "not stated"],
    ]
    times = round(bundled.metrics.test.correct / 100)
    assert f"On unseen CIFAR-10 images it is right about {times} times in 100." in text(html) and "CIFAR" not in upper()


@pytest.mark.parametrize(
    ("correct", "n", "expected"),
    [(9228, 10000, "about 92"), (9999, 10000, "more than 99"), (10, 10, "about 100"), (1, 1000, "fewer than 1")],
)
def test_a_share_of_100_images_is_rounded_without_claiming_all_or_none(correct, n, expected):
    test = Scores(n=n, correct=correct, accuracy=correct / n, accuracy_interval=(0, 1), loss=0.5)
    assert " ".join(accuracy.correct_of_100(test)) == expected


def test_split_selection_and_what_was_fitted_are_described_with_their_numbers():
    shown = text(upper())
    assert "Trained on 45,000 images. Another 50 were held out for validation." in shown
    assert "epoch 25 of 26, selected by highest validation accuracy." in shown
    assert "reads the 1,100 test images once, after that choice" in shown
    facts = {
        "Train / validation / test": "45,000 / 50 / 1,100",
        "Split seed": "7",
        "Split checksum (SHA-256)": "ab",
        "Validation checksum (SHA-256)": "not recorded",
        "Temperature": "1.235",
    }
    assert accuracy.split_facts(METRICS.training, CONFIG) == facts
    with_threshold = accuracy.split_facts(METRICS.training, replace(CONFIG, threshold=0.0))
    assert with_threshold == facts | {"OOD threshold (max logit)": "0"}


def test_classes_are_listed_best_first_and_those_without_images_last():
    test = scores([[0, 0, 0, 0], [0, 400, 100, 0], [0, 0, 600, 0], [0, 500, 0, 0]])
    val = scores([[1, 0, 0, 1], [0, 7, 3, 0], [0, 1, 9, 0], [0, 0, 0, 1]])
    html = upper(replace(METRICS, test=test, val=val), ["cow", "cat", "dog", "emu"])
    listed = [("dog", "100.0%", "90.0%"), ("cat", "80.0%", "70.0%"), ("emu", "0.0%", "100.0%")]
    assert rows(html)[-4:] == [[name, "", *shares] for name, *shares in (*listed, ("cow", "no images", "50.0%"))]
    assert find(html, "span")[1]["style"] == "--share: 0.8000; --val: 0.7000"
    assert "Best: dog (100.0%). Worst: emu (0.0%). Each class has 500 to 600 test images." in text(html)
    equal = accuracy.best_and_worst(scores([[2, 1], [1, 2]]), NAMES)
    assert equal == "Equal for every class: 66.7%. Each class has 3 test images."


# The matrix


def test_the_confusion_matrix_is_a_table_of_buttons_in_one_tab_stop_and_names_errors():
    html = accuracy.matrix_html([[1600, 0], [100, 400]], NAMES)
    assert rows(html) == [["true \\ predicted", "cat", "dog"], ["cat", "1,600", "0"], ["dog", "100", "400"]]
    assert [head["scope"] for head in find(html, "th")] == ["col", "col", "row", "row"]
    assert [cell.classes for cell in find(html, "td")[1:]] == [["hit"], ["none"], ["miss"], ["hit"]]
    shades = [float(cell["style"].removeprefix("--shade: ")) for cell in find(html, "td") if "style" in cell]
    assert shades == pytest.approx([1, math.sqrt(0.2), math.sqrt(0.8)], abs=1e-3)  # root of the share of the row
    assert [(button["tabindex"], button["aria-label"]) for button in find(html, "button")] == [
        ("0", "1,600 of 1,600 cat images predicted as cat: show them"),
        ("-1", "100 of 500 dog images predicted as cat: show them"),
        ("-1", "400 of 500 dog images predicted as dog: show them"),
    ]
    for odd in ([[0, 3], [0, 5]], [[0, 3], [2, 0]], [[0, 0], [5, 1]]):
        stops = [cell for row in accuracy.confusion_rows(odd, NAMES) for cell in row if cell.tab_stop]
        assert len(stops) == 1 and stops[0].count > 0
    assert "Most frequent error: 100 of 500 dog images predicted as cat." in text(html)
    assert "There is no error on the test images." in text(accuracy.matrix_html([[5, 0], [0, 4]], NAMES))
    assert accuracy.frequent_errors([[5, 3, 1], [1, 9, 2], [2, 0, 9]], ["cat", "dog", "emu"]) == (
        "Most frequent errors: 3 of 9 cat images predicted as dog, 2 of 12 dog images predicted as emu and "
        "2 of 11 emu images predicted as cat."
    )


def test_a_cell_brings_its_images_and_what_is_none_an_error():
    with gr.Blocks() as page:
        accuracy.build_tab(Classifier.load(), lambda true, predicted: f"images of {true} as {predicted}")
    (event,) = page.fns.values()
    answer = event.fn(gr.EventData(None, {"true": 3, "predicted": 5}))
    assert (answer["true"], answer["predicted"], answer["images"]) == (3, 5, "images of 3 as 5")
    assert answer["status"].endswith("cat images predicted as dog: shown below the matrix.")
    for wrong in ({"true": 1}, *({"true": 1, "predicted": k} for k in (10, -1, True, 1.0, "1", {}, math.nan))):
        with pytest.raises(gr.Error, match="There is no such cell"):
            event.fn(gr.EventData(None, wrong))


@pytest.mark.parametrize("count", [2, 21, 100])
def test_a_network_of_2_to_100_classes_is_shown(count):
    matrix = [[2 if i == j else int(j == (i + 1) % count) for j in range(count)] for i in range(count)]
    metrics, names = replace(METRICS, val=scores(matrix), test=scores(matrix)), [f"class {i}" for i in range(count)]
    html = upper(metrics, names) + accuracy.matrix_html(matrix, names)
    found = Counter((element.tag, *element.classes) for element in elements(html))
    assert found["button",] == 2 * count and found["td", "bar"] == count and found["table", "many"] == (count > 20)
    assert len(html) < 2_000_000


# Below the matrix


def test_the_reliability_diagrams_state_ece_and_overconfidence():
    html = lower()
    titles = [f"{when} temperature scaling: ECE {ece}" for when, ece in (("Before", "5.00%"), ("After", "1.23%"))]
    assert [caption.text for caption in find(html, "figcaption")[:2]] == titles
    gist = f"Reliability diagram. {titles[1]}; overconfident in 1 of 1 bins, 1,100 images"
    assert find(html, "svg")[1]["aria-label"] == gist
    assert rows(html)[1] == ["50% to 100%", "1,100", "95.0%", "90.0%"] and "(ECE) from 5.00% to 1.23%." in text(html)
    few = replace(METRICS, test=scores([[9, 1], [0, 10]]))
    assert find(lower(few), "rect", "few") and not find(html, "rect", "few")


def test_the_run_is_listed_with_what_is_recorded_of_it():
    facts = {
        "Recipe": "default",
        "Seed": "3",
        "Epochs": "26 (selected: 25)",
        "Parameters": "464,154",
        "Training time": "1 h 18 min",
        "Throughput": "1,250 images/s",
        "Hardware": "CPU: some",
        "Precision": "32-true",
        "Peak memory": "not recorded",
        "Started": "2026-01-01 00:00:00 UTC",
        "Commit": "not recorded",
        "Resumed": "never",
    }
    assert accuracy.run_facts(METRICS.training) == facts
    more = {
        "changes": ["--cutout 8"],
        "git_commit": "0123456789abcdef",
        "peak_memory_bytes": {"host": 2**30, "device": 2**31},
        "resumed": [PART, PART],
        "pretrained": {"teacher": TEACHER},
    }
    assert accuracy.run_facts(parse(Training, TRAINING | more)) == facts | {
        "Recipe": "default, with overrides",
        "Peak memory": "1.0 GiB (host), 2.0 GiB (device)",
        "Commit": "0123456789ab",
        "Resumed": "2 times",
        "Teacher": "ResNet-56, recipe record, 1,920 epochs, 95.00% validation accuracy",
    }
    more = {"resumed": [PART], "pretrained": {"initial_weights": TEACHER}}
    found = accuracy.run_facts(parse(Training, TRAINING | more))
    assert found["Resumed"] == "once" and found["Initial weights"].startswith("ResNet-56") and "Teacher" not in found
    durations = [accuracy.duration(seconds) for seconds in (0.4, 59.6, 250)]
    assert durations == ["0 s", "1 min 0 s", "4 min 10 s"]


def test_overrides_resumed_sessions_and_hyperparameters_stand_below_the_run():
    assert "Overrides" not in lower() and "Resumed sessions" not in lower()
    html = lower(changes=["--cutout 8", "--no-nesterov"], resumed=[PART])
    assert [code.text for code in find(html, "code")] == ["--cutout 8", "--no-nesterov"]
    session = "2026-01-02T03:04:05+00:00: GPU: other, bf16-mixed, commit not recorded; torch 2.12, numpy 2.4"
    assert [one.text for one in find(html, "li")] == [session]
    values = {term.text: value.text for term, value in zip(find(html, "dt"), find(html, "dd"), strict=True)}
    shown = {"learning_rate": "0.1", "nesterov": "true", "max_steps": "null", "betas": "[0.9, 0.99]", "torch": "2.11.0"}
    assert shown.items() <= values.items()


# The charts


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.999, 12345.678, 1e9])
@pytest.mark.parametrize("span", [0.0, 1e-13, 0.013, 7.7, 1e6])
def test_any_range_has_two_to_six_equally_spaced_ticks_around_it(low, span):
    ticks = nice_ticks(low, low + span)
    steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
    assert 2 <= len(ticks) <= 6 and steps[0] > 0
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-5)
    assert ticks[0] <= low + 1e-6 * steps[0] and low + span <= ticks[-1] + 1e-6 * steps[0]


def test_ticks_are_round_their_labels_differ_and_epochs_are_whole():
    assert nice_ticks(0.45, 0.9) == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9] and nice_ticks(1, 300) == [0, 100, 200, 300]
    assert tick_labels([0.4, 0.6, 0.8], percent=True) == ["40%", "60%", "80%"]
    assert tick_labels([0.9, 0.902, 0.904], percent=True) == ["90.0%", "90.2%", "90.4%"]
    assert tick_labels([0.0, 0.05], percent=False) == ["0", "0.05"]
    assert [epoch_ticks(1, last) for last in (26, 2, 1)] == [[5, 10, 15, 20, 25], [1, 2], [1]]


def test_a_curve_spans_its_frame_from_the_first_to_the_last_epoch_and_tick():
    lines = [Line("train", "training", [0.1, 0.2, 0.3]), Line("val", "validation", [0.2, 0.5, 0.4])]
    chart = curve("Accuracy", [1, 2, 3], lines, 2, "{:.0%}".format, percent=True)
    assert (chart.rows[0], chart.rows[-1]) == ((0, "10%"), (1, "50%"))
    assert chart.columns == [(0, "1"), (0.5, "2"), (1, "3")] and chart.best == 0.5
    points = [f"{CURVE.x(x):.1f} {CURVE.y(y):.1f}" for x, y in ((0, 0.25), (0.5, 1), (1, 0.75))]
    assert [look for look, _ in chart.paths] == ["train", "val"] and chart.paths[1][1] == f"M{'L'.join(points)}"
    gist = "training goes from 10% to 30%; validation goes from 20% to 40%"
    html = CHARTS.curve(chart)
    assert find(html, "svg")[0]["aria-label"] == f"Accuracy by epoch, 1 to 3: {gist}; the selected epoch, 2, is marked"
    assert float(find(html, "line", "best")[0]["x1"]) == pytest.approx(CURVE.x(0.5), abs=0.1)
    for best in (0, 4):
        chart = curve("Accuracy", [1, 2, 3], lines, best)
        assert "selected" not in chart.summary and not find(CHARTS.curve(chart), "line", "best")


def test_a_single_epoch_is_a_dot_and_a_long_run_is_drawn_by_some_epochs_and_its_last():
    (dot,) = [path for _, path in curve("Loss", [1], [Line("val", "validation", [0.4])], 1).paths]
    assert dot.endswith("h0") and dot.count(" ") == 1
    values = [0.0] * 99_999 + [1.0]
    (path,) = [path for _, path in curve("Loss", range(1, 100_001), [Line("val", "validation", values)], 9).paths]
    assert len(path) < 40_000 and path.endswith(f"{CURVE.x(1):.1f} {CURVE.y(1):.1f}")


def test_a_bar_spans_its_bin_up_to_the_accuracy_with_a_mark_at_the_mean_confidence():
    x, y = RELIABILITY.x, RELIABILITY.y
    bins = [(0.5, 0.75, 29, 0.6, 0.5), (0.75, 1.0, 1200, 0.9, 1.0)]
    bins = [Bin(**dict(zip(("lower", "upper", "n", "confidence", "accuracy"), one, strict=True))) for one in bins]
    html = CHARTS.reliability(Reliability("After", "gist", bins), 30)
    bars = [[float(bar[name]) for name in ("x", "y", "width", "height")] for bar in find(html, "rect")]
    assert bars == [
        pytest.approx([x(0.5) + 1, y(0.5), x(0.75) - x(0.5) - 2, y(0) - y(0.5)], abs=0.1),
        pytest.approx([x(0.75) + 1, y(1), x(1) - x(0.75) - 2, y(0) - y(1)], abs=0.1),
    ]
    assert ["few" in bar.classes for bar in find(html, "rect")] == [True, False]
    assert [float(mark["y1"]) for mark in find(html, "line", "mean")] == pytest.approx([y(0.6), y(0.9)], abs=0.1)
    (diagonal,) = find(html, "line", "diagonal")
    assert [float(diagonal[name]) for name in ("x1", "y1", "x2", "y2")] == [x(0), y(0), x(1), y(1)]
    assert [count.text for count in find(html, "text", "count")] == ["29", "1,200"]
