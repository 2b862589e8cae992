"""The fast cosine transforms of 2^n points, as additions and multiplications of whatever can be added and multiplied.

The same functions run on numpy rows and, traced once, become vector instructions (`lanes`): one text, one order of
operations, and since none of them is fused or reordered, the same bits on every machine and CPU.

    dct2   X[k] = sum over n of x[n] cos(pi (2n + 1) k / 2N)
    dct3   its transpose
    dct4   X[k] = sum over n of x[n] cos(pi (2n + 1) (2k + 1) / 4N), its own transpose

Each splits into two of half the length by butterflies and rotations, which are orthogonal but for a factor: errors do
not grow (Plonka & Tasche 2005, "Fast and numerically stable algorithms for discrete cosine transforms"). 64 points
take 705 operations, as a matrix 8,128.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Row = Any
"""A numpy array, or lanes of a vector that is being traced: anything with +, - and * float."""


def dct2(x: Sequence[Row]) -> list[Row]:
    n = len(x)
    if n == 1:
        return list(x)
    half = n // 2
    even = dct2([x[i] + x[n - 1 - i] for i in range(half)])
    odd = dct4([x[i] - x[n - 1 - i] for i in range(half)])
    return [row for pair in zip(even, odd, strict=True) for row in pair]


def dct3(x: Sequence[Row]) -> list[Row]:
    n = len(x)
    if n == 1:
        return list(x)
    even, odd = dct3(x[0::2]), dct4(x[1::2])
    sums = [a + b for a, b in zip(even, odd, strict=True)]
    differences = [a - b for a, b in zip(even, odd, strict=True)]
    return sums + differences[::-1]


def dct4(x: Sequence[Row]) -> list[Row]:
    n = len(x)
    if n == 1:
        return [x[0] * math.cos(math.pi / 4)]
    half = n // 2
    cosines = [math.cos(math.pi * (2 * i + 1) / (4 * n)) for i in range(half)]
    sines = [math.sin(math.pi * (2 * i + 1) / (4 * n)) for i in range(half)]
    p = dct2([x[i] * cosines[i] + x[n - 1 - i] * sines[i] for i in range(half)])
    # sin(pi (2i + 1) k / n) at k = half - j is (-1)^i cos(pi (2i + 1) j / n): a sine transform out of a cosine one.
    q = dct2([_alternate(i, x[i] * sines[i], x[n - 1 - i] * cosines[i]) for i in range(half)])
    inner = [row for k in range(1, half) for row in (p[k] + q[half - k], p[k] - q[half - k])]
    return [p[0], *inner, q[0]]


def orthonormal_dct2(x: Sequence[Row]) -> list[Row]:
    """The DCT-II that keeps the L2 norm."""
    return [row * scale for row, scale in zip(dct2(x), _scales(len(x)), strict=True)]


def orthonormal_dct3(x: Sequence[Row]) -> list[Row]:
    """The inverse of `orthonormal_dct2`."""
    return dct3([row * scale for row, scale in zip(x, _scales(len(x)), strict=True)])


def _alternate(i: int, a: Row, b: Row) -> Row:
    return b - a if i % 2 else a - b


def _scales(n: int) -> list[float]:
    return [math.sqrt(1 / n)] + [math.sqrt(2 / n)] * (n - 1)
