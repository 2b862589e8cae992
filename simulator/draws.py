"""Small random generators: a world has one for every direction between two hosts, which may be millions."""

from __future__ import annotations

import hashlib

_MASK = (1 << 64) - 1
_FACTOR = 0xD1342543DE82EF95
_STEP = 0x9E3779B97F4A7C15
_SCALE = 2.0**-32


class Draws:
    """A 64-bit congruential generator (factor: Steele and Vigna 2022, arXiv:2001.05304) in 8 bytes of state."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def random(self) -> float:
        """Uniform in [0, 1), in steps of 2^-32."""
        return self.pair()[0]

    def below(self, n: int) -> int:
        """One of 0 to n - 1, for n far below 2^32."""
        return int(self.pair()[0] * n)

    def pair(self) -> tuple[float, float]:
        """Two of them, independent: the state's upper half, which is its best, and both halves together."""
        state = self._state = (self._state * _FACTOR + _STEP) & _MASK
        upper = state >> 32
        return upper * _SCALE, ((state ^ upper) & 0xFFFFFFFF) * _SCALE


def mixed(a: int, b: int) -> int:
    """64 bits that follow from two seeds, in this order. Seeds that differ at random make states that do."""
    return (a * _FACTOR + b) & _MASK


def seed_of(*names: object) -> int:
    """64 bits that follow from these names, whatever the process."""
    return int.from_bytes(hashlib.blake2b(repr(names).encode(), digest_size=8).digest(), "little")
