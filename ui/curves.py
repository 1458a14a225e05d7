"""Charts as numbers: what lies where. `templates/charts.html` draws them as inline SVG: no script, no request, and they
follow the page's light or dark theme."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from model.artifact import Bin

MOST_EPOCHS = 2_000
"""Of a curve that is drawn in full; of a longer run every second, third, ... epoch is drawn, and the last."""

FEW_IMAGES = 30
"""A bar of fewer is drawn pale: its height is mostly chance."""


class Frame(NamedTuple):
    """The size of a chart and the room around what is drawn, in pixels."""

    width: int
    height: int
    top: int
    left: int = 46
    right: int = 10
    bottom: int = 42

    def x(self, share: float) -> float:
        """Where a share of the width lies, from the left."""
        return self.left + (self.width - self.left - self.right) * share

    def y(self, share: float) -> float:
        """Where a share of the height lies, from the bottom."""
        return self.height - self.bottom - (self.height - self.top - self.bottom) * share


CURVE = Frame(360, 240, top=12)
RELIABILITY = Frame(420, 300, top=56)  # with room for the counts above the bars


class Tick(NamedTuple):
    at: float
    label: str


class Line(NamedTuple):
    """One line of a chart: the CSS class that gives its look, its name in a sentence, a value per epoch."""

    look: str
    name: str
    values: Sequence[float]


class Curve(NamedTuple):
    """`paths` are (CSS class, `d` of an SVG path); `best` is where the selected epoch lies, None if it is not there."""

    title: str
    summary: str
    rows: list[Tick]
    columns: list[Tick]
    paths: list[tuple[str, str]]
    best: float | None
    frame: Frame = CURVE


class Bar(NamedTuple):
    """A bin: its bar from `left` to `right` up to `top`, the mark at its mean confidence, and its number of images."""

    left: float
    right: float
    top: float
    mark: float
    n: int
    few: bool


class Reliability(NamedTuple):
    title: str
    summary: str
    rows: list[Tick]
    columns: list[Tick]
    bars: list[Bar]
    frame: Frame = RELIABILITY


def curve(
    title: str,
    epochs: Sequence[float],
    lines: Sequence[Line],
    best_epoch: int,
    text: Callable[[float], str] = "{:.3g}".format,
    percent: bool = False,
) -> Curve:
    """One or two lines by epoch with the best epoch marked. `text` writes a value in the sentence for screen
    readers."""
    shown = thinned(len(epochs))
    epochs = [epochs[i] for i in shown]
    values = [[line.values[i] for i in shown] for line in lines]
    ticks = nice_ticks(min(map(min, values)), max(map(max, values)))
    first, last = min(epochs), max(epochs)

    def x(epoch: float) -> float:
        return CURVE.x((epoch - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return CURVE.y((value - ticks[0]) / (ticks[-1] - ticks[0]))

    marked = first <= best_epoch <= last
    gist = "; ".join(
        f"{line.name} goes from {text(of[0])} to {text(of[-1])}" for line, of in zip(lines, values, strict=True)
    )
    selected = f"; the selected epoch, {best_epoch}, is marked" if marked else ""
    return Curve(
        title,
        f"{title} by epoch, {first:g} to {last:g}: {gist}{selected}",
        [Tick(y(tick), label) for tick, label in zip(ticks, tick_labels(ticks, percent), strict=True)],
        [Tick(x(epoch), f"{epoch:g}") for epoch in epoch_ticks(first, last)],
        [
            (line.look, path([x(epoch) for epoch in epochs], [y(value) for value in of]))
            for line, of in zip(lines, values, strict=True)
        ],
        x(best_epoch) if marked else None,
    )


def reliability(title: str, summary: str, bins: Sequence[Bin]) -> Reliability:
    """One bar per bin that has images, as high as their accuracy."""
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    x, y = RELIABILITY.x, RELIABILITY.y
    return Reliability(
        title,
        summary,
        [Tick(y(tick), f"{tick:.0%}") for tick in ticks],
        [Tick(x(tick), f"{tick:.0%}") for tick in ticks],
        [
            Bar(x(part.lower) + 1, x(part.upper) - 1, y(part.accuracy), y(part.confidence), part.n, part.n < FEW_IMAGES)
            for part in bins
            if part.n
        ],
    )


def path(xs: Sequence[float], ys: Sequence[float]) -> str:
    """The `d` of an SVG path through the points."""
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
    return f"M{points}" + ("h0" if len(xs) == 1 else "")  # with round caps, a lone point is drawn as a dot


def thinned(count: int, most: int = MOST_EPOCHS) -> list[int]:
    """Positions of at most `most` + 1 of `count` values, equally far apart, the last always among them."""
    step = -(-count // most) or 1
    return sorted({*range(0, count, step), count - 1})


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` equally spaced round numbers (1, 2 or 5 times a power of ten apart) that enclose low and high."""
    size = max(abs(low), abs(high))
    if size < 1e-300:
        size = 1.0
    span = high - low if high - low > 1e-12 * size else size  # below that, floats cannot hold the steps
    exponent = math.floor(math.log10(span / most))
    for power in (exponent, exponent + 1, exponent + 2):
        for step in (factor * 10.0**power for factor in (1, 2, 5)):
            start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            stop = max(stop, start + 1)
            if stop - start < most:
                return [round(k * step, max(12, 2 - power)) for k in range(start, stop + 1)]
    raise AssertionError("three powers of ten hold a step for every span")


def tick_labels(ticks: Sequence[float], percent: bool) -> list[str]:
    """With as few digits as keep the labels apart."""
    if not percent:
        return [f"{tick:g}" for tick in ticks]
    digits = next((d for d in range(9) if len({f"{tick:.{d}%}" for tick in ticks}) == len(ticks)), 9)
    return [f"{tick:.{digits}%}" for tick in ticks]


def epoch_ticks(first: float, last: float) -> list[float]:
    """Round epoch numbers from first to last, whole ones."""
    if last - first < 1:
        return [first]
    return [tick for tick in nice_ticks(first, last, most=8) if first <= tick <= last and tick % 1 == 0]
