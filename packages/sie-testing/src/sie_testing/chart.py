"""Bar and line charts with the range of their rounds, as SVG, without dependencies."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
from pathlib import Path

from sie_server.cli.bench.figures import Summary

_ROW, _LEFT, _WIDTH, _RIGHT, _TOP = 26, 190, 420, 90, 40
_OURS, _OTHER, _INK = "#2f6fde", "#b8bec9", "#333"
_LINES = ("#2f6fde", "#d9632b", "#2a9461", "#8a4fc7", "#8a6d1f", "#c23b6f")
# Line charts: size of the plot, and margins for axes and names.
_INSIDE, _MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = (560, 300), 78, 24, 62, 54
_PREFIXES = {1e9: "G", 1e6: "M", 1e3: "k"}


def write(file: Path, title: str, unit: str, bars: Mapping[str, Summary]) -> None:
    """Draw one bar per name; names that begin with "sie" are highlighted."""
    most = max(bar.high for bar in bars.values())
    scale = _WIDTH / most
    width, height = _LEFT + _WIDTH + _RIGHT, _TOP + _ROW * len(bars) + 14
    lines = _begin(width, height, f"{title}, {unit}")
    for row, (name, bar) in enumerate(bars.items()):
        y = _TOP + row * _ROW
        middle, end = y + 9, _LEFT + bar.high * scale
        colour = _OURS if name.startswith("sie") else _OTHER
        lines += [
            _text(_LEFT - 8, y + 13, name, "end"),
            f'<rect x="{_LEFT}" y="{y}" width="{bar.median * scale:.1f}" height="18" rx="2" fill="{colour}"/>',
            f'<path d="M{_LEFT + bar.low * scale:.1f} {middle}H{end:.1f}" stroke="{_INK}"/>',
            _text(end + 6, y + 13, f"{bar.median:.4g}"),
        ]
    file.write_text("\n".join([*lines, "</svg>", ""]))


def lines(
    file: Path,
    title: str,
    axes: tuple[str, str],
    series: Mapping[str, Sequence[tuple[float, Summary]]],
    log: bool = False,
) -> None:
    """Draw one line per name through the medians of its points, with the range at each.

    axes: labels of x and y, with units. log: whether x is logarithmic; y is linear from zero.
    """
    points = [point for one in series.values() for point in one]
    place = math.log10 if log else float
    least, most = (extreme(place(x) for x, _ in points) for extreme in (min, max))
    xs, ys = _ticks_log(least, most) if log else _ticks(most), _ticks(max(y.high for _, y in points))
    least = least if log else 0.0
    inside_x, inside_y = _INSIDE
    bottom, top = _MARGIN_TOP + inside_y, _MARGIN_TOP
    right = _MARGIN_LEFT + inside_x

    def at_x(x: float) -> float:
        return _MARGIN_LEFT + inside_x * (place(x) - least) / ((most - least) or 1)

    def at_y(y: float) -> float:
        return bottom - inside_y * y / ys[-1]

    drawn = _begin(right + _MARGIN_RIGHT, bottom + _MARGIN_BOTTOM, title)
    for tick in ys:
        drawn.append(f'<path d="M{_MARGIN_LEFT} {at_y(tick):.1f}H{right}" stroke="#ddd"/>')
        drawn.append(_text(_MARGIN_LEFT - 8, at_y(tick) + 4, _short(tick), "end"))
    for tick in xs:
        drawn.append(f'<path d="M{at_x(tick):.1f} {bottom}v5" stroke="{_INK}"/>')
        drawn.append(_text(at_x(tick), bottom + 19, _short(tick), "middle"))
    drawn.append(f'<path d="M{_MARGIN_LEFT} {top}V{bottom}H{right}" fill="none" stroke="{_INK}"/>')
    drawn.append(_text(_MARGIN_LEFT + inside_x / 2, bottom + 42, axes[0], "middle"))
    drawn.append(f'<g transform="translate(18 {top + inside_y / 2}) rotate(-90)">{_text(0, 0, axes[1], "middle")}</g>')
    legend = float(_MARGIN_LEFT)
    for (name, one), colour in zip(series.items(), cycle(_LINES), strict=False):
        path = "L".join(f"{at_x(x):.1f} {at_y(y.median):.1f}" for x, y in one)
        drawn.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in one:
            spread = f"M{at_x(x):.1f} {at_y(y.low):.1f}V{at_y(y.high):.1f}"
            drawn.append(f'<path d="{spread}" stroke="{colour}"/>')
            drawn.append(f'<circle cx="{at_x(x):.1f}" cy="{at_y(y.median):.1f}" r="3" fill="{colour}"/>')
        drawn.append(f'<path d="M{legend:.1f} 44h18" stroke="{colour}" stroke-width="2"/>')
        drawn.append(_text(legend + 24, 48, name))
        legend += 44 + 7 * len(name)
    file.write_text("\n".join([*drawn, "</svg>", ""]))


def _begin(width: float, height: float, title: str) -> list[str]:
    size = f'width="{width:.0f}" height="{height:.0f}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
        f'<rect {size} fill="white"/>',
        f'<text x="12" y="24" font-size="15" fill="{_INK}">{escape(title)}</text>',
    ]


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="12" fill="{_INK}">{escape(text)}</text>'


def _ticks(most: float) -> list[float]:
    """Axis ticks from zero to at least `most`, in four to ten round steps."""
    rough = (most or 1) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * i for i in range(math.ceil((most or 1) / step - 1e-9) + 1)]


def _ticks_log(least: float, most: float) -> list[float]:
    """Powers of ten between two logarithms, or of two if there are too few."""
    tens, twos = (
        [float(base**power) for power in range(40) if least - 1e-9 <= math.log10(base**power) <= most + 1e-9]
        for base in (10, 2)
    )
    return tens if len(tens) > 3 else twos


def _short(value: float) -> str:
    for size, prefix in _PREFIXES.items():
        if value >= size and value % (size / 10) == 0:
            return f"{value / size:g}{prefix}"
    return f"{value:g}"
