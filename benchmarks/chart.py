"""Bars with the least and the most of their rounds, as SVG that needs nothing to be drawn."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from rounds import Summary

_ROW, _LEFT, _WIDTH, _RIGHT, _TOP = 26, 190, 420, 90, 40
_OURS, _OTHER, _INK = "#2f6fde", "#b8bec9", "#333"


def write(file: Path, title: str, unit: str, bars: Mapping[str, Summary]) -> None:
    """One bar per name; those of names that begin with "sie" stand out."""
    most = max(bar.high for bar in bars.values())
    scale = _WIDTH / most
    width, height = _LEFT + _WIDTH + _RIGHT, _TOP + _ROW * len(bars) + 14
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="15" fill="{_INK}">{escape(title)}, {escape(unit)}</text>',
    ]
    for row, (name, bar) in enumerate(bars.items()):
        y = _TOP + row * _ROW
        middle, end = y + 9, _LEFT + bar.high * scale
        colour = _OURS if name.startswith("sie") else _OTHER
        lines += [
            f'<text x="{_LEFT - 8}" y="{y + 13}" font-size="12" text-anchor="end" fill="{_INK}">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{bar.median * scale:.1f}" height="18" rx="2" fill="{colour}"/>',
            f'<path d="M{_LEFT + bar.low * scale:.1f} {middle}H{end:.1f}" stroke="{_INK}"/>',
            f'<text x="{end + 6:.1f}" y="{y + 13}" font-size="12" fill="{_INK}">{bar.median:.4g}</text>',
        ]
    file.write_text("\n".join([*lines, "</svg>", ""]))
