"""Sums of squares that do not overflow and do not depend on how memory was cut."""

from __future__ import annotations

import numpy as np

from .compiled import F32_IN, FLOAT, Number, Vector, compiled

LANES = 16


@compiled(FLOAT, F32_IN)
def square_sum(values: Vector) -> Number:
    """The sum of squares in float64; not finite if an element is not."""
    partial = np.zeros(LANES, np.float64)
    n_whole = len(values) // LANES * LANES
    for start in range(0, n_whole, LANES):
        for lane in range(LANES):
            value = np.float64(values[start + lane])
            partial[lane] += value * value
    total = 0.0
    for lane in range(LANES):
        total += partial[lane]
    for i in range(n_whole, len(values)):
        value = np.float64(values[i])
        total += value * value
    return total
