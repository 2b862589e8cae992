"""How something grows, drawn as an SVG: curves over two logarithmic axes."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from gossamer.peer.report.theme import GREY, SERIES

Curve = list[tuple[float, float]]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 16, 48
LABEL_HEIGHT = 18
STEPS = (1, 2, 5)


def drawn(curves: Mapping[str, Sequence[tuple[float, float]]], *, x_title: str, y_title: str) -> str:
    """An SVG of its own, legible on light and on dark. Args: curves: by label, points (x, y) above zero."""
    points = [point for curve in curves.values() for point in curve]
    x_axis = _Axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_axis = _Axis([y for _, y in points], HEIGHT - BOTTOM, TOP + LABEL_HEIGHT * len(curves))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif"',
        ' font-size="13">',
        "<style>text { fill: #333 } @media (prefers-color-scheme: dark) { text { fill: #ddd } }</style>",
    ]
    for x in x_axis.ticks():
        parts.append(_line(x_axis.at(x), HEIGHT - BOTTOM, x_axis.at(x), HEIGHT - BOTTOM + 5))
        parts.append(_text(x_axis.at(x), HEIGHT - BOTTOM + 20, f"{x:,.0f}", "middle"))
    for y in y_axis.ticks():
        parts.append(_line(LEFT, y_axis.at(y), WIDTH - RIGHT, y_axis.at(y)))
        parts.append(_text(LEFT - 8, y_axis.at(y) + 4, _short(y), "end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "middle"))
    parts.append(_text(WIDTH - RIGHT, TOP, y_title, "end"))
    for number, ((label, curve), color) in enumerate(zip(curves.items(), SERIES, strict=False)):
        path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in curve)
        height = TOP + LABEL_HEIGHT * number
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="3.5" fill="{color}"/>' for x, y in curve]
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + 22}" y1="{height - 4}" y2="{height - 4}" stroke="{color}"/>')
        parts.append(_text(LEFT + 28, height, label, "start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis:
    """Logarithms between two places."""

    def __init__(self, values: Sequence[float], low_at: float, high_at: float) -> None:
        self._low, self._high = min(values) / 1.15, max(values) * 1.15
        self._low_at, self._high_at = low_at, high_at

    def at(self, value: float) -> float:
        share = math.log(value / self._low) / math.log(self._high / self._low)
        return self._low_at + share * (self._high_at - self._low_at)

    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self._low)), math.ceil(math.log10(self._high)) + 1)
        every = [step * 10.0**decade for decade in decades for step in STEPS]
        return [value for value in every if self._low <= value <= self._high]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{GREY}" stroke-opacity="0.35"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
