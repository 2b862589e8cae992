"""Exact samples of the discrete Gaussian, P(x) ~ exp(-x^2 / (2 variance)) on the integers.

Canonne, Kamath and Steinke 2020 (arXiv:2004.00010, algorithms 1 to 3): integers only, since floating-point noise leaks
through its low bits (Mironov 2012).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from .errors import BadCoordinate

I64 = npt.NDArray[np.int64]

VARIANCE_MAX: Final = 2**80
_CHUNK_BYTES: Final = 4096


class DiscreteGaussian:
    """A stream of samples.

    Args:
        seed: 32 fresh secret bytes; who knows them can take the noise away.
    Raises: BadCoordinate.
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise BadCoordinate(f"a seed has 32 bytes, not {len(seed)}")
        self._cipher = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()
        self._buffer = b""

    def draw(self, n: int, variance: int) -> I64:
        """int64 [n].

        Args:
            variance: of the continuous Gaussian with the same formula, an integer from 1 to 2^80.
        """
        if not 1 <= variance <= VARIANCE_MAX:
            raise BadCoordinate(f"a variance of {variance} is outside 1 to 2^80")
        return np.array([self._gaussian(variance) for _ in range(n)], np.int64)

    def _gaussian(self, variance: int) -> int:
        scale = math.isqrt(variance) + 1
        while True:
            candidate = self._laplace(scale)
            # exp(-(|y| - variance / scale)^2 / (2 variance)), as an exact fraction.
            numerator = (abs(candidate) * scale - variance) ** 2
            if self._is_below_exp(numerator, 2 * variance * scale * scale):
                return candidate

    def _laplace(self, scale: int) -> int:
        while True:
            rest = self._below(scale)
            if not self._is_below_exp(rest, scale):
                continue
            whole = 0
            while self._is_below_exp(1, 1):
                whole += 1
            magnitude, is_negative = rest + scale * whole, self._below(2) == 1
            if not (is_negative and magnitude == 0):
                return -magnitude if is_negative else magnitude

    def _is_below_exp(self, numerator: int, denominator: int) -> bool:
        """True with probability exp(-numerator / denominator)."""
        whole, numerator = divmod(numerator, denominator)
        return all(self._exp_of_fraction(1, 1) for _ in range(whole)) and self._exp_of_fraction(numerator, denominator)

    def _exp_of_fraction(self, numerator: int, denominator: int) -> bool:
        """True with probability exp(-numerator / denominator) for a fraction of at most 1."""
        k = 1
        while self._below(denominator * k) < numerator:
            k += 1
        return k % 2 == 1

    def _below(self, n: int) -> int:
        """Uniform in [0, n), by rejection."""
        n_bytes = (n.bit_length() + 7) // 8
        excess = 8 * n_bytes - n.bit_length()
        while True:
            value = int.from_bytes(self._take(n_bytes), "little") >> excess
            if value < n:
                return value

    def _take(self, n_bytes: int) -> bytes:
        while len(self._buffer) < n_bytes:
            self._buffer += self._cipher.update(bytes(_CHUNK_BYTES))
        taken, self._buffer = self._buffer[:n_bytes], self._buffer[n_bytes:]
        return taken
