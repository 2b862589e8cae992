"""Two bits a value: four levels for each group of values, each level the mean of what fell to it (arXiv:2508.15706).

The bins are 1.5 standard deviations wide, the inner two meeting at the mean; the outer ones take all that lies beyond.

    levels    4 float32 for each group
    codes     2 bits a value, least significant first
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from .errors import BadPayload
from .method import F32

I64 = npt.NDArray[np.int64]

N_LEVELS: Final = 4
RANGE_SIGMAS: Final = 6.0


def bytes_of_four_levels(n_values: int, n_groups: int) -> int:
    return 4 * N_LEVELS * n_groups + math.ceil(n_values / 4)


def encode_four_levels(values: F32, counts: I64) -> bytes:
    """Encode groups that stand behind each other.

    Args:
        values: finite float32 [n].
        counts: int64 [n_groups], how many values each group has.
    """
    levels = np.zeros((len(counts), N_LEVELS), np.float32)
    codes = np.zeros(-(-len(values) // 4) * 4, np.uint8)
    for group, (first, last) in enumerate(_edges(counts)):
        part = values[first:last].astype(np.float64)
        if len(part):
            codes[first:last] = code = _bins(part)
            totals = np.bincount(code, weights=part, minlength=N_LEVELS)
            levels[group] = totals / np.maximum(1, np.bincount(code, minlength=N_LEVELS))
    quads = codes.reshape(-1, 4)
    packed = quads[:, 0] | quads[:, 1] << 2 | quads[:, 2] << 4 | quads[:, 3] << 6
    return levels.astype("<f4").tobytes() + packed.astype(np.uint8).tobytes()


def decode_four_levels(encoded: bytes, counts: I64, *, abs_max: float) -> F32:
    """The values, float32 [sum of counts]. `encoded` has the right length.

    Raises: BadPayload for a level that is not finite or beyond `abs_max`, or padding bits that are set.
    """
    n_values = int(counts.sum())
    levels = np.frombuffer(encoded, "<f4", N_LEVELS * len(counts)).astype(np.float32).reshape(-1, N_LEVELS)
    # NaN makes the comparison false.
    if not float(np.abs(levels).max(initial=0.0)) <= abs_max:
        raise BadPayload(f"a level is NaN, infinite or above {abs_max:g}")
    packed = np.frombuffer(encoded, np.uint8, offset=4 * N_LEVELS * len(counts))
    codes = np.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], axis=1).reshape(-1)
    if codes[n_values:].any():
        raise BadPayload("padding bits of the values are set")
    return levels[np.repeat(np.arange(len(counts)), counts), codes[:n_values]]


def _edges(counts: I64) -> list[tuple[int, int]]:
    ends = np.cumsum(counts)
    return list(zip((ends - counts).tolist(), ends.tolist(), strict=True))


def _bins(values: npt.NDArray[np.float64]) -> I64:
    """The bin of each value, int64 [n] in 0..3."""
    mean, width = values.mean(), RANGE_SIGMAS / N_LEVELS * values.std()
    if width == 0:
        return np.zeros(len(values), np.int64)
    bins: I64 = np.clip(np.floor((values - mean) / width) + N_LEVELS // 2, 0, N_LEVELS - 1).astype(np.int64)
    return bins
