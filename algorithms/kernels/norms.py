"""Sizes of vectors: sums of squares that do not overflow and have one order, and largest magnitudes."""

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


@compiled(FLOAT, F32_IN)
def peak(values: Vector) -> Number:
    """The largest magnitude of finite values."""
    partial = np.zeros(LANES, np.float32)
    n_whole = len(values) // LANES * LANES
    for start in range(0, n_whole, LANES):
        for lane in range(LANES):
            magnitude = abs(values[start + lane])
            partial[lane] = magnitude if magnitude > partial[lane] else partial[lane]
    largest = np.float32(0)
    for lane in range(LANES):
        largest = max(largest, partial[lane])
    for i in range(n_whole, len(values)):
        largest = max(largest, abs(values[i]))
    return np.float64(largest)
