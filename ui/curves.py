"""A line chart of two series as inline SVG: no script, no request, and it follows the page's light or dark theme."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 520, 272
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 46


def curve(
    title: str, epochs: Sequence[float], train: Sequence[float], val: Sequence[float], best_epoch: int, tick_format: str
) -> str:
    """`<figure>` of train and val by epoch with the best epoch marked. Values that are not finite leave a gap."""
    finite = [value for value in (*train, *val) if math.isfinite(value)]
    if not finite:
        return f"<figure><figcaption>{escape(title)}: no values were recorded.</figcaption></figure>"
    ticks = nice_ticks(min(finite), max(finite))
    first, last = min(epochs), max(epochs)

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((epoch - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick_format.format(tick)}</text>'
        for tick in ticks
    )
    marks = "".join(
        f'<text x="{x(epoch):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{epoch:g}</text>'
        for epoch in epoch_ticks(first, last)
    )
    best = f'<line class="best" x1="{x(best_epoch):.1f}" x2="{x(best_epoch):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    lines = "".join(
        f'<path class="{name}" d="{path([x(epoch) for epoch in epochs], [y(value) for value in values])}"/>'
        for name, values in (("train", train), ("val", val))
    )
    told = escape(f"{title} by epoch: validation ends at {val[-1]:.3g}, training at {train[-1]:.3g}", quote=True)
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{told}">{grid}{marks}'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 2}" text-anchor="middle">epoch</text>'
        f"{best}{lines}</svg></figure>"
    )


def path(xs: Sequence[float], ys: Sequence[float]) -> str:
    """The `d` of an SVG path through the points; one that is not finite starts a new stroke after it."""
    strokes, pen_down = [], False
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            strokes.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = math.isfinite(x) and math.isfinite(y)
    return "".join(strokes) + ("h0" if len(strokes) == 1 else "")  # with round caps, a lone point is drawn as a dot


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` equally spaced round numbers (1, 2 or 5 times a power of ten apart) that enclose low and high."""
    span = high - low or abs(high) or 1.0
    exponent = math.floor(math.log10(span / most))
    for step in (factor * 10.0**power for power in (exponent, exponent + 1, exponent + 2) for factor in (1, 2, 5)):
        start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        stop = max(stop, start + 1)
        if stop - start < most:
            return [round(k * step, 12) for k in range(start, stop + 1)]
    raise AssertionError("three powers of ten hold a step for every span")


def epoch_ticks(first: float, last: float) -> list[float]:
    """Round epoch numbers from first to last, whole ones."""
    if last - first < 1:
        return [first]
    return [tick for tick in nice_ticks(first, last, most=8) if first <= tick <= last and tick % 1 == 0]
