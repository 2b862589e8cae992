"""Eight bits a value, dense near zero: the dynamic tree (Dettmers 2016, arXiv:1511.04561), by blocks (2110.02861).

A block is divided by its largest magnitude A, which travels as float32. Of a value's 8 bits one is the sign; E zeros
after it stand for 10^-E, a one ends them, and the rest says in which of 2^(6-E) equal intervals of [.1, 1] it lies:
the middle is decoded. Besides there are 0 and +1.

Error bound, x = |value| / A:    |error| <= A * .45 / 64 * (1/5)^E    for 10^-(E+1) <= x <= 10^-E, E = 0 to 6
                                 |error| <= A * 4.5e-7                below
(and float32 rounding): .7 % of the block's largest value at worst, and between .7 % and 7 % of the value itself in the
first decade, twice that in each further one. Linear 8 bits err by up to A / 254 anywhere.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import BadPayload, BadVector
from ..method import F32

N_DECADES: Final = 7
BLOCK: Final = 2048


class DynamicTree:
    """A `Codec`: the scales of all blocks, float32, then a byte for each value.

    Args:
        block: values that share a scale; 0: all of a vector, as in the first of the two papers.
    """

    def __init__(self, block: int = BLOCK) -> None:
        if block < 0:
            raise ValueError(f"a block of {block} values: at least 1, or 0 for whole vectors")
        self._block = block

    def encode(self, values: F32) -> bytes:
        """Raises BadVector for NaN and infinity."""
        from ..kernels.dynamic import encode as kernel

        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        scales = _peaks(flat, self._block_of(len(flat)))
        if not np.isfinite(scales).all():
            raise BadVector("the vector holds NaN or infinity, which 8 bits cannot hold: clip it or send float32")
        codes = np.empty(len(flat), np.uint8)
        kernel(flat, self._block_of(len(flat)), scales, _table(), _midpoints(), _signed(), codes)
        return scales.astype("<f4").tobytes() + codes.tobytes()

    def decode(self, payload: bytes, n: int) -> F32:
        """Raises BadPayload for a wrong length, and for scales that are not finite or negative."""
        from ..kernels.dynamic import decode as kernel

        if len(payload) != self.encoded_bytes(n):
            raise BadPayload(f"{len(payload)} bytes for {n} values, expected {self.encoded_bytes(n)}")
        scales = np.frombuffer(payload, "<f4", self._n_blocks(n)).astype(np.float32)
        if not np.isfinite(scales).all() or np.signbit(scales).any():
            raise BadPayload("a scale is NaN, infinite or negative")
        codes = np.frombuffer(payload, np.uint8, offset=scales.nbytes)
        values = np.empty(n, np.float32)
        if not kernel(codes, self._block_of(n), scales, codebook(), values):
            raise BadPayload("a block whose scale is 0 holds values")
        return values

    def encoded_bytes(self, n: int) -> int:
        return 4 * self._n_blocks(n) + n

    def _block_of(self, n: int) -> int:
        return self._block or max(n, 1)

    def _n_blocks(self, n: int) -> int:
        return -(-n // self._block_of(n))


@functools.lru_cache(maxsize=1)
def codebook() -> F32:
    """What each byte stands for, float32 [256]: magnitudes 0 to 127, 128 for +1, and 129 on the negative ones."""
    positive = magnitudes()
    book: F32 = np.concatenate([positive, -positive[1:128]])
    return book


@functools.lru_cache(maxsize=1)
def magnitudes() -> F32:
    """0, the middles of all intervals, and 1: float32 [129], ascending."""
    middles = []
    for zeros in range(N_DECADES - 1, -1, -1):
        edges = np.linspace(0.1, 1.0, 2 ** (N_DECADES - 1 - zeros) + 1)
        middles.append(10.0**-zeros * (edges[:-1] + edges[1:]) / 2)
    return np.concatenate([[0.0], *middles, [1.0]]).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _midpoints() -> F32:
    """Between each magnitude and the next, float32 [129]; behind the last comes nothing."""
    values = magnitudes().astype(np.float64)
    return np.append((values[:-1] + values[1:]) / 2, np.inf).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _table() -> npt.NDArray[np.uint8]:
    """By the upper 16 bits of a float in [0, 1]: the magnitude that the smallest such float rounds to."""
    smallest = (np.arange(0x3F81, dtype=np.uint32) << 16).view(np.float32)
    return np.searchsorted(_midpoints(), smallest).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _signed() -> npt.NDArray[np.uint8]:
    """The code of each magnitude, then of each negative one: there is no -0, and -1 has the code next to it."""
    negative = np.minimum(np.arange(129), 127) + 128
    negative[0] = 0
    return np.concatenate([np.arange(129), negative]).astype(np.uint8)


def _peaks(values: F32, block: int) -> F32:
    """The largest magnitude of each block, float32 [n_blocks]; NaN where there is one."""
    n_whole = len(values) // block * block
    whole = values[:n_whole].reshape(-1, block)
    peaks = [np.maximum(whole.max(axis=1, initial=0.0), -whole.min(axis=1, initial=0.0))]
    if n_whole < len(values):
        rest = values[n_whole:]
        peaks.append(np.maximum(rest.max(keepdims=True), -rest.min(keepdims=True)))
    joined: F32 = np.concatenate(peaks) + np.float32(0)  # no -0
    return joined
