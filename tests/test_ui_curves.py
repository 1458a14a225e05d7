import math
import re

import pytest

from model.artifact import Bin
from ui.curves import Line, curve, epoch_ticks, nice_ticks, path, reliability, thinned, tick_labels


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
    values = [0.0] * 100_000
    assert len(curve("Loss", range(1, 100_001), [Line("val", "validation", values)], 9, "{:g}".format)) < 40_000


def test_a_line_goes_through_its_points():
    assert path([0, 1, 2], [5, 6, 7]) == "M0.0 5.0L1.0 6.0L2.0 7.0"


def test_a_single_epoch_is_drawn_as_a_dot():
    assert path([3], [4]) == "M3.0 4.0h0"


TWO = [Line("train", "training", [0.1, 0.2, 0.3]), Line("val", "validation", [0.2, 0.5, 0.4])]


def test_the_chart_draws_higher_values_higher_and_later_epochs_further_right():
    chart = curve("Accuracy", [1, 2, 3], TWO, 2, percent=True)
    line = re.search(r'<path class="val" d="([^"]+)"', chart).group(1)
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", line)[1:]]
    (x1, y1), (x2, y2), (x3, y3) = points
    assert x1 < x2 < x3
    assert y2 < y3 < y1
    best = re.search(r'<line class="best" x1="([\d.]+)"', chart).group(1)
    assert float(best) == x2


def test_the_chart_says_its_gist_to_a_screen_reader():
    label = 'aria-label="Accuracy by epoch, 1 to 3: training goes from 10% to 30%; validation goes from 20% to 40%; '
    assert label + 'the chosen epoch, 2, is marked"' in curve("Accuracy", [1, 2, 3], TWO, 2, "{:.0%}".format)


@pytest.mark.parametrize("best", [0, 4, 10**12])
def test_a_best_epoch_outside_the_run_is_not_marked(best):
    chart = curve("Accuracy", [1, 2, 3], TWO, best)
    assert 'class="best"' not in chart and "chosen" not in chart


BINS = [
    Bin(lower=0.0, upper=0.5, n=0, confidence=None, accuracy=None),
    Bin(lower=0.5, upper=0.75, n=29, confidence=0.6, accuracy=0.5),
    Bin(lower=0.75, upper=1.0, n=1200, confidence=0.9, accuracy=1.0),
]


def rectangles(chart: str) -> list[tuple[str, list[float]]]:
    found = re.findall(r'<rect class="([^"]+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', chart)
    return [(look, list(map(float, numbers))) for look, *numbers in found]


def test_a_bar_of_the_reliability_diagram_spans_its_bin_and_is_as_high_as_the_accuracy():
    chart = reliability("After", "gist", BINS)
    (few, (x1, y1, wide1, high1)), (full, (x2, y2, wide2, high2)) = rectangles(chart)
    assert high1 == pytest.approx(high2 / 2, abs=0.2)
    assert y1 + high1 == pytest.approx(y2 + high2, abs=0.2)
    assert wide1 == pytest.approx(wide2, abs=0.2) and x2 - x1 == pytest.approx(wide1 + 2, abs=0.2)
    assert (few, full) == ("kept few", "kept")


def test_the_mark_of_a_bar_lies_at_the_mean_confidence_and_its_count_stands_above():
    chart = reliability("After", "gist", BINS)
    _, (_, top, _, high) = rectangles(chart)[1]
    marks = [float(y) for y in re.findall(r'class="claimed" x1="[\d.]+" x2="[\d.]+" y1="([\d.]+)"', chart)]
    assert marks == pytest.approx([top + 0.4 * high, top + 0.1 * high], abs=0.2)
    assert re.findall(r'class="count"[^>]*>([\d,]+)<', chart) == ["29", "1,200"]
    assert 'role="img" aria-label="gist"' in chart
