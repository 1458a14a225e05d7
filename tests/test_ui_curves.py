import math
import re

import pytest

from ui.curves import curve, epoch_ticks, nice_ticks, path


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.45, 0.9, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.11, 2.3, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (1, 300, [0.0, 100.0, 200.0, 300.0]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.1, 0.3, 0.999, 12345.678])
@pytest.mark.parametrize("span", [0.0, 1e-6, 0.013, 0.1, 1.0, 7.7, 1e6])
def test_any_range_has_two_to_six_equally_spaced_ticks_around_it(low, span):
    ticks = nice_ticks(low, low + span)
    steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
    assert 2 <= len(ticks) <= 6
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert ticks[0] <= low + 1e-9 * steps[0] and low + span <= ticks[-1] + 1e-9 * steps[0]


def test_epochs_are_marked_by_whole_numbers_inside_the_run():
    assert epoch_ticks(1, 26) == [5, 10, 15, 20, 25]
    assert epoch_ticks(1, 2) == [1, 2]
    assert epoch_ticks(1, 1) == [1]


def test_a_value_that_is_not_finite_leaves_a_gap_in_the_line():
    assert path([0, 1, 2, 3, 4], [5, 6, math.nan, 7, 8]) == "M0.0 5.0L1.0 6.0M3.0 7.0L4.0 8.0"


def test_a_single_epoch_is_drawn_as_a_dot():
    assert path([3], [4]) == "M3.0 4.0h0"


def test_the_chart_draws_higher_values_higher_and_later_epochs_further_right():
    chart = curve("Accuracy", [1, 2, 3], [0.1, 0.2, 0.3], [0.2, 0.5, 0.4], 2, "{:.0%}")
    line = re.search(r'<path class="val" d="([^"]+)"', chart).group(1)
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", line)[1:]]
    (x1, y1), (x2, y2), (x3, y3) = points
    assert x1 < x2 < x3
    assert y2 < y3 < y1
    best = re.search(r'<line class="best" x1="([\d.]+)"', chart).group(1)
    assert float(best) == x2


def test_values_that_are_all_missing_are_told_instead_of_drawn():
    assert "no values were recorded" in curve("Loss", [1, 2], [math.nan] * 2, [math.nan] * 2, 1, "{:g}")
