"""Small random generators: a world has one for every direction between two hosts, which may be millions."""

from __future__ import annotations

import hashlib

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_SCALE = 2.0**-53
_HALF_SCALE = 2.0**-32


class Draws:
    """SplitMix64 (Steele, Lea, Flood 2014), in 8 bytes of state."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def random(self) -> float:
        """Uniform in [0, 1)."""
        state = self._state = (self._state + _STEP) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((state ^ (state >> 31)) >> 11) * _SCALE

    def pair(self) -> tuple[float, float]:
        """Two of them, independent, in 32 bits each."""
        state = self._state = (self._state + _STEP) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
        return (state >> 32) * _HALF_SCALE, (state & 0xFFFFFFFF) * _HALF_SCALE


def seed_of(*names: object) -> int:
    """64 bits that follow from these names, whatever the process."""
    return int.from_bytes(hashlib.blake2b(repr(names).encode(), digest_size=8).digest(), "little")
