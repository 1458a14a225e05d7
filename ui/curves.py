"""Charts as numbers: what lies where. `templates/charts.html` draws them as inline SVG: no script, no request, and they
follow the page's light or dark theme."""

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import NamedTuple

from model.artifact import Bin

MOST_EPOCHS = 2_000
"""Of a curve that is drawn in full; of a longer run every second, third, ... epoch is drawn, and the last."""


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


class Line(NamedTuple):
    """One line of a chart: the CSS class that gives its look, its name in a sentence, a value per epoch."""

    look: str
    name: str
    values: Sequence[float]


class Curve(NamedTuple):
    """`summary` is the gist in words. `rows` and `columns` are (share of the height or width, label) of each tick,
    `paths` (CSS class, `d` of an SVG path); `best` is the share of the selected epoch, None if it is not there."""

    title: str
    summary: str
    rows: list[tuple[float, str]]
    columns: list[tuple[float, str]]
    paths: list[tuple[str, str]]
    best: float | None
    frame: Frame = CURVE


class Reliability(NamedTuple):
    """A reliability diagram. `bins` are those that have images."""

    title: str
    summary: str
    bins: list[Bin]
    frame: Frame = RELIABILITY


def curve(
    title: str,
    epochs: Sequence[float],
    lines: Sequence[Line],
    best_epoch: int,
    text: Callable[[float], str] = "{:.3g}".format,
    percent: bool = False,
) -> Curve:
    """One or two lines by epoch with the best epoch marked. `text` writes a value in the summary."""
    first, last = epochs[0], epochs[-1]
    ticks = nice_ticks(min(min(line.values) for line in lines), max(max(line.values) for line in lines))

    def x(epoch: float) -> float:
        return (epoch - first) / (last - first) if last > first else 0.5

    def y(value: float) -> float:
        return (value - ticks[0]) / (ticks[-1] - ticks[0])

    def path(values: Sequence[float]) -> str:
        step = math.ceil(len(epochs) / MOST_EPOCHS)
        shown = sorted({*range(0, len(epochs), step), len(epochs) - 1})
        points = "L".join(f"{CURVE.x(x(epochs[i])):.1f} {CURVE.y(y(values[i])):.1f}" for i in shown)
        return f"M{points}" + ("h0" if len(shown) == 1 else "")  # with round caps, a lone point is drawn as a dot

    marked = first <= best_epoch <= last
    gist = "; ".join(f"{line.name} goes from {text(line.values[0])} to {text(line.values[-1])}" for line in lines)
    selected = f"; the selected epoch, {best_epoch}, is marked" if marked else ""
    return Curve(
        title,
        f"{title} by epoch, {first:g} to {last:g}: {gist}{selected}",
        rows=[(y(tick), label) for tick, label in zip(ticks, tick_labels(ticks, percent), strict=True)],
        columns=[(x(epoch), f"{epoch:g}") for epoch in epoch_ticks(first, last)],
        paths=[(line.look, path(line.values)) for line in lines],
        best=x(best_epoch) if marked else None,
    )


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` equally spaced round numbers (1, 2 or 5 times a power of ten apart) that enclose low and high."""
    span = max(high - low, 1e-9 * max(abs(low), abs(high)), 1e-9)  # floats can hold its steps
    step = 10.0 ** math.floor(math.log10(span / most))
    for factor in cycle((2, 2.5, 2)):
        start = math.floor(low / step + 1e-9)
        stop = max(math.ceil(high / step - 1e-9), start + 1)
        if stop - start < most:
            return [float(f"{k * step:.15g}") for k in range(start, stop + 1)]
        step *= factor


def tick_labels(ticks: Sequence[float], percent: bool) -> list[str]:
    """With as few digits as keep the labels apart."""
    if not percent:
        return [f"{tick:g}" for tick in ticks]
    digits = next((d for d in range(9) if len({f"{tick:.{d}%}" for tick in ticks}) == len(ticks)), 9)
    return [f"{tick:.{digits}%}" for tick in ticks]


def epoch_ticks(first: float, last: float) -> list[float]:
    """Round epoch numbers from first to last, whole ones."""
    return [tick for tick in nice_ticks(first, last, most=8) if first <= tick <= last and tick % 1 == 0]
