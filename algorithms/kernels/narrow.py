"""Floats in fewer bits: the upper half of a float32, and 8 linear bits with a scale for each block."""

from __future__ import annotations

import numpy as np

from .compiled import BOOL, F32_IN, F32_OUT, I8_IN, I8_OUT, INT, U8_IN, U8_OUT, Number, Vector, compiled


@compiled(BOOL, F32_IN, U8_OUT)
def to_upper_halves(values: Vector, halves: Vector) -> Number:
    """bfloat16, rounded to nearest even, two bytes each; False where a value is not finite, or rounds to infinity."""
    bits = values.view(np.uint32)
    out = halves.view(np.uint16)
    largest = np.uint32(0)
    for i in range(len(bits)):
        rounded = (bits[i] + np.uint32(0x7FFF) + ((bits[i] >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        out[i] = np.uint16(rounded)
        # Beside what it rounds to, since the rounding of some NaNs wraps around.
        largest = max(largest, (bits[i] & np.uint32(0x7FFFFFFF)), (rounded & np.uint32(0x7FFF)) << np.uint32(16))
    return largest < np.uint32(0x7F800000)


@compiled(INT, U8_IN, F32_OUT)
def from_upper_halves(halves: Vector, values: Vector) -> Number:
    """The float32 values. Returns the largest magnitude's 15 bits, those of NaN and infinity above all others."""
    given = halves.view(np.uint16)
    bits = values.view(np.uint32)
    largest = np.uint32(0)
    for i in range(len(given)):
        half = np.uint32(given[i])
        bits[i] = half << np.uint32(16)
        largest = max(largest, half & np.uint32(0x7FFF))
    return np.int64(largest)


@compiled(BOOL, F32_IN, INT, F32_OUT, I8_OUT)
def to_levels(values: Vector, block: Number, scales: Vector, levels: Vector) -> Number:
    """value = level * scale, -127 <= level <= 127, by blocks; False where a value is not finite.

    Args:
        values: float32 [n_blocks * block].
        scales: float32 [n_blocks]: each block's largest magnitude / 127.
    """
    scratch = np.empty(1, np.float32)
    peak_bits = scratch.view(np.uint32)
    sound = True
    for b in range(len(scales)):
        # Slices, since an index that might be negative keeps a loop from being vectorised.
        given, out = values[b * block : (b + 1) * block], levels[b * block : (b + 1) * block]
        bits = given.view(np.uint32)
        largest = np.uint32(0)
        for i in range(len(bits)):
            largest = max(largest, bits[i] & np.uint32(0x7FFFFFFF))
        sound = sound and bool(largest < np.uint32(0x7F800000))
        peak_bits[0] = largest
        scale = scratch[0] / np.float32(127)
        scales[b] = scale
        divisor = scale if scale > 0 else np.float32(1)
        for i in range(len(given)):
            # The division may round past 127 where the scale is subnormal.
            level = min(max(np.rint(given[i] / divisor), np.float32(-127)), np.float32(127))
            out[i] = np.int8(np.int32(level))
    return sound


@compiled(BOOL, I8_IN, INT, F32_IN, F32_OUT)
def from_levels(levels: Vector, block: Number, scales: Vector, values: Vector) -> Number:
    """The values; False where a level is -128, or a block whose scale is 0 holds anything but zeros."""
    sound = True
    for b in range(len(scales)):
        given, out = levels[b * block : (b + 1) * block], values[b * block : (b + 1) * block]
        scale = scales[b]
        least, most = np.int8(0), np.int8(0)
        for i in range(len(given)):
            level = given[i]
            out[i] = np.float32(level) * scale
            least, most = min(least, level), max(most, level)
        sound = sound and bool(least > -128 and (scale > 0 or least == most))
    return sound


@compiled(BOOL, I8_IN, INT, F32_IN)
def are_sound_levels(levels: Vector, block: Number, scales: Vector) -> Number:
    """What `from_levels` returns, without the values."""
    sound = True
    for b in range(len(scales)):
        given = levels[b * block : (b + 1) * block]
        least, most = np.int8(0), np.int8(0)
        for i in range(len(given)):
            least, most = min(least, given[i]), max(most, given[i])
        sound = sound and bool(least > -128 and (scales[b] > 0 or least == most))
    return sound
