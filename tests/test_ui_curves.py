import math

import pytest

from model.artifact import Bin
from tests.markup import find
from ui.curves import CURVE, RELIABILITY, Line, curve, epoch_ticks, nice_ticks, path, reliability, thinned, tick_labels
from ui.render import TEMPLATES


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.45, 0.9, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.11, 2.3, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (1, 300, [0.0, 100.0, 200.0, 300.0]),
        (0.0, 2e-14, [0.0, 5e-15, 1e-14, 1.5e-14, 2e-14]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected, abs=1e-20)


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.1, 0.3, 0.999, 12345.678])
@pytest.mark.parametrize("span", [0.0, 1e-6, 0.013, 0.1, 1.0, 7.7, 1e6])
def test_any_range_has_two_to_six_equally_spaced_ticks_around_it(low, span):
    ticks = nice_ticks(low, low + span)
    steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
    assert 2 <= len(ticks) <= 6
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert ticks[0] <= low + 1e-9 * steps[0] and low + span <= ticks[-1] + 1e-9 * steps[0]


@pytest.mark.parametrize(
    ("low", "high"), [(0.5, math.nextafter(0.5, 1)), (0.0, 5e-324), (-1e9, 1e9), (1e-13, 1e-13), (-2.0, -2.0)]
)
def test_ticks_of_values_that_hardly_differ_do_not_coincide(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] < ticks[-1] and len(set(ticks)) == len(ticks)


def test_tick_labels_have_as_few_digits_as_keep_them_apart():
    assert tick_labels([0.4, 0.6, 0.8], percent=True) == ["40%", "60%", "80%"]
    assert tick_labels([0.9, 0.902, 0.904], percent=True) == ["90.0%", "90.2%", "90.4%"]
    assert tick_labels([0.0, 0.05], percent=False) == ["0", "0.05"]


def test_epochs_are_marked_by_whole_numbers_inside_the_run():
    assert epoch_ticks(1, 26) == [5, 10, 15, 20, 25]
    assert epoch_ticks(1, 2) == [1, 2]
    assert epoch_ticks(1, 1) == [1]


def test_a_long_run_is_drawn_by_epochs_equally_far_apart_and_its_last():
    assert thinned(5, most=5) == [0, 1, 2, 3, 4]
    assert thinned(11, most=5) == [0, 3, 6, 9, 10]
    assert thinned(1) == [0]
    chart = curve("Loss", range(1, 100_001), [Line("val", "validation", [0.0] * 100_000)], 9)
    assert len(chart.paths[0][1]) < 40_000


def test_a_line_goes_through_its_points_and_a_single_one_is_a_dot():
    assert path([0, 1, 2], [5, 6, 7]) == "M0.0 5.0L1.0 6.0L2.0 7.0"
    assert path([3], [4]) == "M3.0 4.0h0"


TWO = [Line("train", "training", [0.1, 0.2, 0.3]), Line("val", "validation", [0.2, 0.5, 0.4])]


def test_a_curve_spans_its_frame_from_the_first_to_the_last_epoch_and_tick():
    chart = curve("Accuracy", [1, 2, 3], TWO, 2, percent=True)
    left, middle, right = CURVE.x(0), CURVE.x(0.5), CURVE.x(1)
    heights = [CURVE.y(share) for share in (0.25, 1, 0.75)]
    assert [(tick.label, tick.at) for tick in chart.rows][:: len(chart.rows) - 1] == [
        ("10%", CURVE.y(0)),
        ("50%", CURVE.y(1)),
    ]
    assert chart.columns == [(left, "1"), (middle, "2"), (right, "3")] and chart.best == middle
    assert [look for look, _ in chart.paths] == ["train", "val"]
    assert chart.paths[1][1] == path([left, middle, right], heights)


def test_the_gist_of_a_curve_is_in_words():
    assert curve("Accuracy", [1, 2, 3], TWO, 2, "{:.0%}".format).summary == (
        "Accuracy by epoch, 1 to 3: training goes from 10% to 30%; validation goes from 20% to 40%; "
        "the selected epoch, 2, is marked"
    )


@pytest.mark.parametrize("best", [0, 4, 10**12])
def test_a_best_epoch_outside_the_run_is_not_marked(best):
    chart = curve("Accuracy", [1, 2, 3], TWO, best)
    assert chart.best is None and "selected" not in chart.summary


def test_a_bar_spans_its_bin_up_to_the_accuracy_with_a_mark_at_the_mean_confidence():
    x, y = RELIABILITY.x, RELIABILITY.y
    chart = reliability(
        "After",
        "gist",
        [
            Bin(lower=0.0, upper=0.5, n=0, confidence=None, accuracy=None),
            Bin(lower=0.5, upper=0.75, n=29, confidence=0.6, accuracy=0.5),
            Bin(lower=0.75, upper=1.0, n=1200, confidence=0.9, accuracy=1.0),
        ],
    )
    assert chart.bars == [
        (x(0.5) + 1, x(0.75) - 1, y(0.5), y(0.6), 29, True),
        (x(0.75) + 1, x(1) - 1, y(1), y(0.9), 1200, False),
    ]
    assert x(0) < x(1) <= RELIABILITY.width and 0 < y(1) < y(0) < RELIABILITY.height


def test_the_diagram_is_drawn_as_its_numbers_say():
    chart = reliability("A", "gist", [Bin(lower=0.5, upper=1.0, n=29, confidence=0.6, accuracy=0.5)])
    html = TEMPLATES.get_template("charts.html").module.reliability(chart)
    (bar,), marks = find(html, "rect"), {line["class"]: line for line in find(html, "line") if "class" in line}
    assert bar.classes == ["correct", "few"] and float(bar["y"]) == pytest.approx(chart.bars[0].top, abs=0.1)
    assert float(bar["y"]) + float(bar["height"]) == pytest.approx(RELIABILITY.y(0), abs=0.1)
    assert float(marks["mean"]["y1"]) == pytest.approx(chart.bars[0].mark, abs=0.1)
    assert float(marks["diagonal"]["x2"]) == RELIABILITY.x(1) and float(marks["diagonal"]["y2"]) == RELIABILITY.y(1)
    assert find(html, "svg")[0]["aria-label"] == "gist" and find(html, "text", "count")[0].text == "29"
