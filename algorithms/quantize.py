"""Coefficients as bytes: float32, 8 bit with a scale for each tile, four levels for each tensor, or only their signs.

8 bit: value = q * scale[tile] * 2^exponent with -127 <= q <= 127. Scales are float16, and the exponent, one for the
whole payload, puts the largest of them just below float16's maximum: coefficients are learning rates times gradients,
which float16 alone would flush to zero. A tile 2^39 times weaker than the strongest decodes to zeros.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .errors import BadPayload
from .four_levels import bytes_of_four_levels, decode_four_levels, encode_four_levels
from .method import F32
from .single_bits import bytes_of_bits, pack_bits, unpack_bits

I64 = npt.NDArray[np.int64]

VALUE_BITS: Final = (1, 2, 8, 32)
EXPONENT_MIN: Final = -180
"""The smallest float32 / 127 is about 2^-156, and 15 below that is its exponent."""
EXPONENT_MAX: Final = 60
VALUE_ABS_MAX: Final = 2.0**83
"""1e25. No decoded value is larger (65504 * 127 * 2^60 is just below): the sums of a group stay finite."""
_SCALE_MAX: Final = 65504.0


def bytes_of_values(n_values: int, n_tiles: int, value_bits: int) -> int:
    """Length of the encoded values and scales; for 2 bits `n_tiles` is the number of tensors."""
    if value_bits == 1:
        return bytes_of_bits(n_values)
    if value_bits == 2:
        return bytes_of_four_levels(n_values, n_tiles)
    return 2 * n_tiles + n_values if value_bits == 8 else 4 * n_values


def encode_values(values: F32, counts: I64, value_bits: int) -> tuple[int, bytes]:
    """The exponent (0 unless 8 bit) and the bytes.

    Args:
        values: finite float32 [n], tile by tile; not zero if 1 bit.
        counts: int64 [n_tiles], how many of each tile; for 2 bits of each tensor.
    """
    if value_bits == 1:
        return 0, pack_bits(values < 0)
    if value_bits == 2:
        return 0, encode_four_levels(np.clip(values, -VALUE_ABS_MAX, VALUE_ABS_MAX), counts)
    if value_bits == 32:
        return 0, np.clip(values, -VALUE_ABS_MAX, VALUE_ABS_MAX).astype("<f4").tobytes()
    from .kernels.pack import peaks, to_steps

    wanted = np.empty(len(counts))
    peaks(values, counts, wanted)
    wanted /= 127.0
    exponent = _exponent(float(wanted.max(initial=0.0)))
    relative = np.minimum(wanted * 2.0**-exponent, _SCALE_MAX).astype("<f2")
    steps = np.empty(len(values), np.int8)
    to_steps(values, counts, relative.astype(np.float64) * 2.0**exponent, steps)
    return exponent, relative.tobytes() + steps.tobytes()


def check_values(encoded: bytes, counts: I64, value_bits: int, exponent: int) -> None:
    """Raise what `decode_values` raises; with 8 bits without decoding anything."""
    if value_bits == 8:
        _read_steps(encoded, len(counts), exponent)
    else:
        decode_values(encoded, counts, value_bits, exponent)


def decode_values(encoded: bytes, counts: I64, value_bits: int, exponent: int) -> F32:
    """The values, float32 [sum of counts]; for 1 bit they are -1 and 1. `encoded` has the right length.

    Raises: BadPayload for NaN, infinity and whatever else `encode_values` cannot have written.
    """
    if value_bits != 8:
        if exponent != 0:
            raise BadPayload(f"exponent {exponent} without scales, expected 0")
        if value_bits == 2:
            return decode_four_levels(encoded, counts, abs_max=VALUE_ABS_MAX)
        return _decode_signs(encoded, int(counts.sum())) if value_bits == 1 else _decode_floats(encoded)
    from .kernels.pack import from_steps

    scales, steps = _read_steps(encoded, len(counts), exponent)
    values = np.empty(len(steps), np.float32)
    from_steps(steps, counts, scales, values)
    return values


def _read_steps(encoded: bytes, n_tiles: int, exponent: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    """Each tile's scale, and each value's steps of it."""
    if not EXPONENT_MIN <= exponent <= EXPONENT_MAX:
        raise BadPayload(f"exponent {exponent} is outside [{EXPONENT_MIN}, {EXPONENT_MAX}]")
    relative = np.frombuffer(encoded, "<f2", n_tiles)
    if not np.isfinite(relative).all() or np.signbit(relative).any():
        raise BadPayload("a scale is NaN, infinite or negative")
    steps = np.frombuffer(encoded, np.int8, offset=2 * n_tiles)
    if steps.min(initial=0) == -128:
        raise BadPayload("a value of -128 is outside [-127, 127]")
    return relative.astype(np.float64) * 2.0**exponent, steps


def _exponent(scale_max: float) -> int:
    if scale_max == 0:
        return 0
    return max(EXPONENT_MIN, min(EXPONENT_MAX, math.frexp(scale_max)[1] - 15))


def _decode_signs(encoded: bytes, n: int) -> F32:
    try:
        negative = unpack_bits(encoded, n)
    except ValueError as error:
        raise BadPayload(str(error)) from error
    return np.where(negative, np.float32(-1), np.float32(1))


def _decode_floats(encoded: bytes) -> F32:
    values: npt.NDArray[Any] = np.frombuffer(encoded, "<f4").astype(np.float32)
    # NaN makes the comparison false.
    if not float(np.abs(values).max(initial=0.0)) <= VALUE_ABS_MAX:
        raise BadPayload(f"a value is NaN, infinite or above {VALUE_ABS_MAX:g}")
    return values
