"""Numbers as a person reads them."""

from __future__ import annotations


def count(value: float) -> str:
    """1030000 -> "1.03 M"."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= factor:
            return f"{_three_digits(value / min(factor, 1e3 if unit == 'k' else factor))} {unit}"
    return f"{value:,.0f}"


def size(n_bytes: float) -> str:
    """68000 -> "68 kB"; decimal units."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(n_bytes) >= factor:
            return f"{_three_digits(n_bytes / factor)} {unit}"
    return f"{n_bytes:.0f} B"


def duration(seconds: float) -> str:
    """0.0421 -> "42 ms", 112 -> "1 min 52 s"."""
    if seconds < 0.9995:
        return f"{_three_digits(seconds * 1e3) if seconds < 0.01 else f'{seconds * 1e3:.0f}'} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ratio(value: float) -> str:
    """87.6 -> "88", 3.21 -> "3.2"."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def plural(n: int, noun: str) -> str:
    """(1, "round") -> "1 round", (3, "round") -> "3 rounds"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def loss(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"
