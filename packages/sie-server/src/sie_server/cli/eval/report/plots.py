"""Geometry of the report's plots. Across, everything is a percentage of the width; down, in pixels.

A plot therefore fits every screen, and its text keeps its size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sie_server.cli.eval.changes import excerpt
from sie_server.cli.eval.figures import Changes, Distribution, Results

_T = TypeVar("_T")
HEIGHT = 260
BARS_HEIGHT = 190
SPREAD_HEIGHT = 150
# Beyond this, a bar stands for several queries.
_MOST_BARS = 300
_TICKS = 5
_LABEL = 140


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis. minor: without its label on a small screen."""

    at: float
    label: str
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """A model: x from p50 to p95 of its latency, y with its interval."""

    letter: str
    color: int
    x: float
    x95: float
    y: float
    low: float
    high: float
    label: str


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """Quality against latency, which is on a logarithmic axis. base: y of the first stage."""

    points: Sequence[Point]
    base: float
    across: Sequence[Tick]
    down: Sequence[Tick]


@dataclass(frozen=True, slots=True)
class Bar:
    """A difference: a rectangle, and what it says."""

    x: float
    width: float
    y: float
    height: float
    gain: bool
    label: str


@dataclass(frozen=True, slots=True)
class Bars:
    """Differences per query, the largest gain first. zero: y of no difference."""

    bars: Sequence[Bar]
    zero: float
    down: Sequence[Tick]
    grouped: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """A range of scores: how high the bar of relevant documents is, and how low that of the others."""

    x: float
    width: float
    up: float
    down: float
    label: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Scores of relevant documents, above, and of the others, below."""

    letter: str
    name: str
    bins: Sequence[Bin]
    across: Sequence[Tick]
    relevant: int
    others: int


def tradeoff(results: Results) -> Tradeoff | None:
    """Quality against latency; None if no model has a latency."""
    measure = results.measures[0]
    rows = [row for row in results.models if row.speed is not None and row.speed.p50_ms > 0]
    if not rows:
        return None
    base = results.rows[0].means[measure].value
    means = [row.means[measure] for row in rows]
    lows = [mean.value if mean.low is None else mean.low for mean in means]
    highs = [mean.value if mean.high is None else mean.high for mean in means]
    bottom, top = _padded(min(base, *lows), max(base, *highs))
    speeds = [row.speed for row in rows if row.speed is not None]
    left = math.log10(min(speed.p50_ms for speed in speeds)) - 0.15
    right = max(math.log10(max(speed.p95_ms for speed in speeds)) + 0.15, left + 0.6)

    def x(milliseconds: float) -> float:
        return round(100 * (math.log10(milliseconds) - left) / (right - left), 2)

    def y(value: float) -> float:
        return round(HEIGHT * (1 - (value - bottom) / (top - bottom)), 1)

    points = [
        Point(
            letter=row.letter,
            color=_color(results, row.letter),
            x=x(speed.p50_ms),
            x95=x(speed.p95_ms),
            y=y(mean.value),
            low=y(low),
            high=y(high),
            label=f"{row.name}: {results.titles[measure]} {mean.value:.3f} ({low:.3f} to {high:.3f}), "
            f"p50 {speed.p50_ms:,.1f} ms, p95 {speed.p95_ms:,.1f} ms",
        )
        for row, speed, mean, low, high in zip(rows, speeds, means, lows, highs, strict=True)
    ]
    places = _decades(10**left, 10**right)
    crowded = len(places) > _TICKS
    across = [Tick(x(value), _milliseconds(value), minor=crowded and at % 2 == 1) for at, value in enumerate(places)]
    return Tradeoff(points, y(base), across, [Tick(y(value), f"{value:g}") for value in _round(bottom, top)])


def bars(results: Results, changes: Changes) -> Bars:
    """The difference of every query, the largest gain first."""
    before, after = results.row(changes.before), results.row(changes.after)
    measure = changes.measure
    texts = [text for _, text in results.queries]
    triples = sorted(
        zip(before.values[measure], after.values[measure], texts, strict=True),
        key=lambda triple: triple[1] - triple[0],
        reverse=True,
    )
    groups = list(_groups(triples, _MOST_BARS))
    heights = [sum(new - old for old, new, _ in group) / len(group) for group in groups]
    top, bottom = max(0.0, *heights), min(0.0, *heights)
    if top == bottom:
        top, bottom = 1.0, -1.0

    def y(value: float) -> float:
        return round(BARS_HEIGHT * (top - value) / (top - bottom), 1)

    width = 100 / len(groups)
    drawn = []
    first = 1
    for place, (group, height) in enumerate(zip(groups, heights, strict=True)):
        if len(group) == 1:
            old, new, text = group[0]
            label = f"{new - old:+.3f} ({old:.3f} → {new:.3f}) {excerpt(text, _LABEL)}"
        else:
            label = f"{height:+.3f} on average: queries {first:,} to {first + len(group) - 1:,} in this order"
        first += len(group)
        drawn.append(
            Bar(
                x=round(place * width, 3),
                width=round(width, 3),
                y=y(max(height, 0)),
                height=round(abs(y(height) - y(0)), 1),
                gain=height > 0,
                label=label,
            )
        )
    down = [Tick(y(value), f"{value:+g}" if value else "0") for value in _round(bottom, top)]
    return Bars(drawn, y(0), down, len(groups) < len(triples))


def spreads(results: Results) -> list[Spread]:
    """The distribution of the scores of each ranking that has scores."""
    return [_spread(row.letter, row.name, row.distribution) for row in results.rows if row.distribution is not None]


def _spread(letter: str, name: str, found: Distribution) -> Spread:
    half = SPREAD_HEIGHT / 2
    relevant, others = sum(found.relevant), sum(found.others)
    shares = [(r / max(1, relevant), o / max(1, others)) for r, o in zip(found.relevant, found.others, strict=True)]
    most = max(max(pair) for pair in shares)
    step = (found.high - found.low) / len(shares)
    width = 100 / len(shares)
    bins = [
        Bin(
            x=round(at * width, 2),
            width=round(width, 2),
            up=round(half * up / most, 1),
            down=round(half * down / most, 1),
            label=f"score {found.low + at * step:.4g} to {found.low + (at + 1) * step:.4g}: {up:.1%} of the relevant, "
            f"{down:.1%} of the others",
        )
        for at, (up, down) in enumerate(shares)
    ]
    across = [
        Tick(round(100 * (value - found.low) / (found.high - found.low), 2), f"{value:g}")
        for value in _round(found.low, found.high)
    ]
    return Spread(letter, name, bins, across, relevant, others)


def _color(results: Results, letter: str) -> int:
    return [row.letter for row in results.models].index(letter) % 6


def _padded(low: float, high: float) -> tuple[float, float]:
    space = 0.08 * (high - low) or 0.05
    return low - space, high + space


def _round(low: float, high: float) -> list[float]:
    """About five round numbers from `low` to `high`."""
    raw = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [round(step * at, 10) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from `low` to `high`, or only the powers if there are many."""
    powers = [10.0**at for at in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    every = [factor * power for power in powers for factor in (1, 2, 5) if low <= factor * power <= high]
    return every if len(every) <= 2 * _TICKS - 2 else [power for power in powers if low <= power <= high]


def _milliseconds(value: float) -> str:
    return f"{value / 1e3:g} s" if value >= 1000 else f"{value:g} ms"


def _groups(items: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    """At most `most` runs of items, of nearly equal lengths."""
    count = min(most, len(items))
    for at in range(count):
        yield items[len(items) * at // count : len(items) * (at + 1) // count]
