"""12-bit numbers to bytes and back, and values to steps of their tile's scale and back."""

from __future__ import annotations

import numpy as np

from .compiled import (
    F32_IN,
    F32_OUT,
    F64_IN,
    F64_OUT,
    I8_IN,
    I8_OUT,
    I64_IN,
    I64_OUT,
    INT,
    NOTHING,
    U8_IN,
    U8_OUT,
    Vector,
    compiled,
)


@compiled(NOTHING, I64_IN, U8_OUT)
def pack_12_bit(numbers: Vector, packed: Vector) -> None:
    n = len(numbers)
    for i in range(n // 2):
        first, second = numbers[2 * i], numbers[2 * i + 1]
        packed[3 * i] = first & 0xFF
        packed[3 * i + 1] = (first >> 8) | ((second & 0xF) << 4)
        packed[3 * i + 2] = second >> 4
    if n % 2:
        packed[3 * (n // 2)] = numbers[n - 1] & 0xFF
        packed[3 * (n // 2) + 1] = numbers[n - 1] >> 8


@compiled(NOTHING, U8_IN, I64_OUT)
def unpack_12_bit(packed: Vector, numbers: Vector) -> None:
    n = len(numbers)
    for i in range(n // 2):
        low, middle, high = np.int64(packed[3 * i]), np.int64(packed[3 * i + 1]), np.int64(packed[3 * i + 2])
        numbers[2 * i] = low | (middle & 0xF) << 8
        numbers[2 * i + 1] = middle >> 4 | high << 4
    if n % 2:
        numbers[n - 1] = np.int64(packed[3 * (n // 2)]) | (np.int64(packed[3 * (n // 2) + 1]) & 0xF) << 8


ASCENDING, OUTSIDE, NOT_ASCENDING = 0, 1, 2


@compiled(INT, U8_IN, I64_IN, I64_IN)
def order_of_12_bit(packed: Vector, counts: Vector, bounds: Vector) -> int:
    """What is wrong with packed numbers, of which `counts[t]` belong to group t and must ascend below `bounds[t]`."""
    at = 0
    for group in range(len(counts)):
        before = np.int64(-1)
        for i in range(at, at + counts[group]):
            first = 3 * (i // 2) + i % 2
            low, high = np.int64(packed[first]), np.int64(packed[first + 1])
            number = low >> 4 | high << 4 if i % 2 else low | (high & 0xF) << 8
            if number >= bounds[group]:
                return OUTSIDE
            if number <= before:
                return NOT_ASCENDING
            before = number
        at += counts[group]
    return ASCENDING


@compiled(NOTHING, F32_IN, I64_IN, F64_OUT)
def peaks(values: Vector, counts: Vector, largest: Vector) -> None:
    """The largest magnitude of each tile's values; `counts[t]` of them belong to tile t."""
    at = 0
    for tile in range(len(counts)):
        peak = np.float32(0)
        for i in range(at, at + counts[tile]):
            peak = max(peak, abs(values[i]))
        largest[tile] = peak
        at += counts[tile]


@compiled(NOTHING, F32_IN, I64_IN, F64_IN, I8_OUT)
def to_steps(values: Vector, counts: Vector, scales: Vector, steps: Vector) -> None:
    """The nearest multiple of the tile's scale, within [-127, 127]; ties to even."""
    at = 0
    for tile in range(len(counts)):
        scale = scales[tile]
        for i in range(at, at + counts[tile]):
            step = np.rint(values[i] / scale) if scale > 0 else 0.0
            steps[i] = np.int8(max(-127.0, min(127.0, step)))
        at += counts[tile]


@compiled(NOTHING, I8_IN, I64_IN, F64_IN, F32_OUT)
def from_steps(steps: Vector, counts: Vector, scales: Vector, values: Vector) -> None:
    at = 0
    for tile in range(len(counts)):
        scale = scales[tile]
        for i in range(at, at + counts[tile]):
            values[i] = np.float32(steps[i] * scale)
        at += counts[tile]
