"""Integers only: 16-bit weights as two signed bytes, 7-bit activations, exact sums, rounding shifts.

Activations are uint8 from 0 to 127, so that pairs of 8-bit products cannot saturate on processors without VNNI.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]
Integers = npt.NDArray[Any]

WEIGHT_MAX: Final = 32_639
"""127 * 256 + 127: what two signed bytes hold without -128."""
ACTIVATION_MAX: Final = 127
LOGIT_MAX: Final = 2**17
"""In Q12 nats: 32 nats."""
LOGIT_BITS: Final = 12


def split(weights: I16) -> tuple[I8, I8]:
    """The two signed bytes of each weight: w = 256 hi + lo."""
    wide = weights.astype(np.int32)
    high = (wide + 128) >> 8
    return high.astype(np.int8), (wide - (high << 8)).astype(np.int8)


def clamp(weights: Integers) -> I16:
    """Cut to +-WEIGHT_MAX."""
    clamped: I16 = np.clip(weights, -WEIGHT_MAX, WEIGHT_MAX).astype(np.int16)
    return clamped


def requantise(accumulators: I64, multiplier: int, shift: int) -> U8:
    """ReLU and back to 7 bits: min(127, (max(acc, 0) * M + 2^(s-1)) >> s)."""
    scaled = (np.maximum(accumulators, 0) * multiplier + (1 << (shift - 1))) >> shift
    activations: U8 = np.minimum(scaled, ACTIVATION_MAX).astype(np.uint8)
    return activations


def to_logits(accumulators: I64, multiplier: int, shift: int) -> I64:
    """The last layer's sums in Q12 nats, clipped to +-2^17; the shift is arithmetic."""
    scaled = (accumulators * multiplier + (1 << (shift - 1))) >> shift
    logits: I64 = np.clip(scaled, -LOGIT_MAX, LOGIT_MAX)
    return logits


def displacement(update: int | I64, sums: I64) -> I64:
    """How far weights move against sums of votes: (U * S + 128) >> 8, an arithmetic shift."""
    moves: I64 = (update * sums + 128) >> 8
    return moves


def average(activations: U8) -> U8:
    """Mean over the second and third of four axes, rounded half up: [n, h, w, c] -> [n, c]."""
    n_pixels = activations.shape[1] * activations.shape[2]
    total: I64 = activations.sum(axis=(1, 2), dtype=np.int64)
    averages: U8 = ((2 * total + n_pixels) // (2 * n_pixels)).astype(np.uint8)
    return averages


def pixels_to_activations(pixels: U8) -> U8:
    """Bytes 0..255 to activations 0..127: (p + 1) >> 1, at most 127."""
    halved: U8 = np.minimum((pixels.astype(np.int16) + 1) >> 1, ACTIVATION_MAX).astype(np.uint8)
    return halved
