"""Charts: where ticks, lines and bars lie, and what a screen reader hears of them."""

import math

import pytest

from model.artifact import Bin
from tests.markup import find
from ui.curves import CURVE, RELIABILITY, Line, Reliability, curve, epoch_ticks, nice_ticks, tick_labels
from ui.render import TEMPLATES


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.45, 0.9, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0.11, 2.3, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (1, 300, [0.0, 100.0, 200.0, 300.0]),
        (0.0, 2e-14, [0.0, 5e-15, 1e-14, 1.5e-14, 2e-14]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected, abs=1e-20)


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.999, 12345.678])
@pytest.mark.parametrize("span", [0.0, 1e-6, 0.013, 7.7, 1e6])
def test_any_range_has_two_to_six_equally_spaced_ticks_around_it(low, span):
    ticks = nice_ticks(low, low + span)
    steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
    assert 2 <= len(ticks) <= 6
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert ticks[0] <= low + 1e-9 * steps[0] and low + span <= ticks[-1] + 1e-9 * steps[0]


@pytest.mark.parametrize(
    ("low", "high"), [(0.5, math.nextafter(0.5, 1)), (0.0, 5e-324), (-1e9, 1e9), (1e9 - 2e-3, 1e9)]
)
def test_ticks_of_values_that_hardly_differ_do_not_coincide(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] < ticks[-1] and len(set(ticks)) == len(ticks)


def test_tick_labels_have_as_few_digits_as_keep_them_apart_and_epochs_are_whole():
    assert tick_labels([0.4, 0.6, 0.8], percent=True) == ["40%", "60%", "80%"]
    assert tick_labels([0.9, 0.902, 0.904], percent=True) == ["90.0%", "90.2%", "90.4%"]
    assert tick_labels([0.0, 0.05], percent=False) == ["0", "0.05"]
    assert [epoch_ticks(1, last) for last in (26, 2, 1)] == [[5, 10, 15, 20, 25], [1, 2], [1]]


TWO = [Line("train", "training", [0.1, 0.2, 0.3]), Line("val", "validation", [0.2, 0.5, 0.4])]


def test_a_curve_spans_its_frame_from_the_first_to_the_last_epoch_and_tick():
    chart = curve("Accuracy", [1, 2, 3], TWO, 2, "{:.0%}".format, percent=True)
    assert (chart.rows[0], chart.rows[-1]) == ((0, "10%"), (1, "50%"))
    assert chart.columns == [(0, "1"), (0.5, "2"), (1, "3")] and chart.best == 0.5
    points = [f"{CURVE.x(x):.1f} {CURVE.y(y):.1f}" for x, y in ((0, 0.25), (0.5, 1), (1, 0.75))]
    assert [look for look, _ in chart.paths] == ["train", "val"] and chart.paths[1][1] == f"M{'L'.join(points)}"
    assert chart.summary == (
        "Accuracy by epoch, 1 to 3: training goes from 10% to 30%; validation goes from 20% to 40%; "
        "the selected epoch, 2, is marked"
    )
    html = TEMPLATES.get_template("charts.html").module.curve(chart)
    assert find(html, "svg")[0]["aria-label"] == chart.summary
    assert float(find(html, "line", "best")[0]["x1"]) == pytest.approx(CURVE.x(0.5), abs=0.1)


def test_a_single_epoch_is_a_dot_and_a_long_run_is_drawn_by_some_epochs_and_its_last():
    (dot,) = [path for _, path in curve("Loss", [1], [Line("val", "validation", [0.4])], 1).paths]
    assert dot.endswith("h0") and dot.count(" ") == 1
    values = [0.0] * 99_999 + [1.0]
    (path,) = [path for _, path in curve("Loss", range(1, 100_001), [Line("val", "validation", values)], 9).paths]
    assert len(path) < 40_000 and path.endswith(f"{CURVE.x(1):.1f} {CURVE.y(1):.1f}")


@pytest.mark.parametrize("best", [0, 4, 10**12])
def test_a_best_epoch_outside_the_run_is_not_marked(best):
    chart = curve("Accuracy", [1, 2, 3], TWO, best)
    assert chart.best is None and "selected" not in chart.summary
    assert not find(TEMPLATES.get_template("charts.html").module.curve(chart), "line", "best")


def test_a_bar_spans_its_bin_up_to_the_accuracy_with_a_mark_at_the_mean_confidence():
    x, y = RELIABILITY.x, RELIABILITY.y
    bins = [
        Bin(lower=0.5, upper=0.75, n=29, confidence=0.6, accuracy=0.5),
        Bin(lower=0.75, upper=1.0, n=1200, confidence=0.9, accuracy=1.0),
    ]
    html = TEMPLATES.get_template("charts.html").module.reliability(Reliability("After", "gist", bins), 30)
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
    assert find(html, "svg")[0]["aria-label"] == "gist" and x(0) < x(1) <= 420 and 0 < y(1) < y(0) < 300
