"""Charts as inline SVG: no script, no request, and they follow the page's light or dark theme."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from model.artifact import Bin

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 42

MOST_EPOCHS = 2_000
"""Of a curve that is drawn in full; of a longer run every second, third, ... epoch is drawn, and the last."""

FEW_IMAGES = 30
"""A bar of fewer is drawn pale: its height is mostly chance."""


class Line(NamedTuple):
    """One line of a chart: the CSS class that gives its look, its name in a sentence, a value per epoch."""

    look: str
    name: str
    values: Sequence[float]


def curve(
    title: str,
    epochs: Sequence[float],
    lines: Sequence[Line],
    best_epoch: int,
    told: Callable[[float], str] = "{:.3g}".format,
    percent: bool = False,
) -> str:
    """`<figure>` of one or two lines by epoch with the best epoch marked, if it is among them. `told`
    writes a value in the sentence for screen readers."""
    shown = thinned(len(epochs))
    epochs = [epochs[i] for i in shown]
    lines = [line._replace(values=[line.values[i] for i in shown]) for line in lines]
    values = [value for line in lines for value in line.values]
    ticks = nice_ticks(min(values), max(values))
    first, last = min(epochs), max(epochs)

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((epoch - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    best = ""
    if first <= best_epoch <= last:
        at = f"{x(best_epoch):.1f}"
        best = f'<line class="best" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    drawn = "".join(
        f'<path class="{line.look}" d="{path([x(epoch) for epoch in epochs], [y(value) for value in line.values])}"/>'
        for line in lines
    )
    marks = "".join(
        f'<text x="{x(epoch):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{epoch:g}</text>'
        for epoch in epoch_ticks(first, last)
    )
    gist = "; ".join(f"{line.name} goes from {told(line.values[0])} to {told(line.values[-1])}" for line in lines)
    label = f"{title} by epoch, {first:g} to {last:g}: {gist}"
    label += f"; the chosen epoch, {best_epoch}, is marked" if best else ""
    inside = (
        _grid(ticks, y, tick_labels(ticks, percent), WIDTH)
        + f'{marks}<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 3}" text-anchor="middle">epoch</text>'
        + best
        + drawn
    )
    return _figure(title, label, inside, WIDTH, HEIGHT)


def _grid(ticks: Sequence[float], y: Callable[[float], float], labels: Sequence[str], width: int) -> str:
    return "".join(
        f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{label}</text>'
        for tick, label in zip(ticks, labels, strict=True)
    )


def _figure(title: str, label: str, inside: str, width: int, height: int) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label, quote=True)}">{inside}</svg></figure>'
    )


SIDE, HEAD = 420, 56  # of the reliability diagram: its width, and the room above it for the counts


def reliability(title: str, label: str, bins: Sequence[Bin]) -> str:
    """`<figure>` of one bar per bin, as high as the share that was right, a mark at the mean confidence, and the
    number of images above."""
    height = HEAD + (SIDE - LEFT - RIGHT) * 2 // 3 + BOTTOM

    def x(share: float) -> float:
        return LEFT + (SIDE - LEFT - RIGHT) * share

    def y(share: float) -> float:
        return height - BOTTOM - (height - HEAD - BOTTOM) * share

    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    below = "".join(
        f'<text x="{x(tick):.1f}" y="{height - BOTTOM + 18}" text-anchor="middle">{tick:.0%}</text>' for tick in ticks
    )
    inside = (
        _grid(ticks, y, tick_labels(ticks, percent=True), SIDE)
        + f'{below}<text x="{(LEFT + SIDE - RIGHT) / 2}" y="{height - 3}" text-anchor="middle">how sure it was</text>'
        + f'<text x="{LEFT - 8}" y="{HEAD - 14}" text-anchor="end">images</text>'
        + "".join(_bar(part, x, y) for part in bins if part.n)
        + f'<line class="honest" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>'
    )
    return _figure(title, label, inside, SIDE, height)


def _bar(part: Bin, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    left, right, top = x(part.lower) + 1, x(part.upper) - 1, y(part.accuracy)
    middle, claimed = (left + right) / 2, y(part.confidence)
    few = " few" if part.n < FEW_IMAGES else ""
    return (
        f'<rect class="kept{few}" x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 1):.1f}" '
        f'height="{y(0) - top:.1f}"/>'
        f'<line class="claimed" x1="{left:.1f}" x2="{right:.1f}" y1="{claimed:.1f}" y2="{claimed:.1f}"/>'
        f'<text class="count" transform="translate({middle + 4:.1f} {HEAD - 8}) rotate(-90)">{part.n:,}</text>'
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
