"""One tensor as ternary numbers: its scaler, its codes, four or five to a byte, and sums of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from .errors import BadPayload
from .method import F32

PACKINGS: Final = {"2bit": 4, "base3": 5}
"""Codes in a byte."""
SCALER_MIN: Final = 2.0**-100
"""Smaller scalers count as 0: their inverse would not be a float32."""
CLIP_RMS: Final = 2.5
_UNIFORM_STEPS: Final = 2.0**23


def scaler_of(values: F32) -> tuple[float, float]:
    """(the largest magnitude after clipping, the bound of clipping), which is 2.5 rms about zero."""
    from .kernels.norms import peak, square_sum

    if len(values) == 0:
        return 0.0, 0.0
    bound = np.float32(CLIP_RMS * np.sqrt(square_sum(values) / len(values)))
    scaler = min(np.float32(peak(values)), bound)
    return (float(scaler) if scaler >= SCALER_MIN else 0.0), float(bound)


def encode(values: F32, *, bound: float, scaler: float, packing: str, key: tuple[int, int], stream: int) -> bytes:
    """Codes whose expectation, times the scaler, is the clipped value.

    Args:
        bound: magnitudes above count as this; at most `scaler`.
        key, stream: what the random bits are a function of, besides an element's place: 32-bit words.
    """
    from .kernels.ternary import encode as kernel

    packed = np.zeros(packed_bytes(len(values), packing), np.uint8)
    factor = np.float32(_UNIFORM_STEPS) / np.float32(scaler) if scaler > 0 else np.float32(0)
    seed, step, place = (np.uint32(word) for word in (*key, stream))
    kernel(values, seed, step, place, np.float32(bound), factor, packing == "base3", packed)
    return packed.tobytes()


def packed_bytes(n: int, packing: str) -> int:
    """Length of `n` packed codes."""
    return -(-n // PACKINGS[packing])


def check(packed: npt.NDArray[np.uint8], n: int, packing: str) -> None:
    """Raise BadPayload unless `encode` can have written these bytes, of the right number, for `n` values."""
    if packing == "2bit":
        wrong = bool((packed & (packed >> 1) & 0x55).any())
        beyond = 4 ** (n % 4) if n % 4 else 256
    else:
        wrong = bool((packed > 242).any())
        beyond = 3 ** (n % 5) if n % 5 else 243
    if wrong:
        raise BadPayload("a byte stands for no ternary numbers")
    if n and packed[-1] >= beyond:
        raise BadPayload("padding behind the ternary numbers is not zero")


def add(total: F32, rows: Sequence[npt.NDArray[np.uint8]], *, scaler: float, packing: str) -> None:
    """total += scaler * (the sum of the rows, added as integers), in place."""
    from .kernels.ternary import add as kernel

    kernel(np.concatenate(rows), len(rows), np.float32(scaler), _table(packing), PACKINGS[packing], total)


@functools.lru_cache(maxsize=2)
def _table(packing: str) -> npt.NDArray[np.uint64]:
    """What each byte stands for: signed bytes, padded to 8 and seen as a word."""
    per_byte = PACKINGS[packing]
    radix = 4 if packing == "2bit" else 3
    codes = np.arange(256).reshape(256, 1) // radix ** np.arange(per_byte).reshape(1, per_byte) % radix
    table = np.zeros((256, 8), np.int8)
    table[:, :per_byte] = np.array([0, 1, -1, 0], np.int8)[codes]
    return table.reshape(-1).view(np.uint64)
