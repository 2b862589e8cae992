"""Threefry-2x32-13: random bits as a function of a key and a counter, nothing else.

Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3": 13 rounds are the
fewest that pass all of its statistical tests (secrets it must not keep). Like `butterflies`, the text runs on numpy
arrays (of uint32) and is traced into vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Word = Any
"""A numpy array of uint32, or lanes of a vector that is being traced: anything with + modulo 2^32 and ^."""

ROUNDS = 13
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def threefry(key: tuple[Word, Word], counter: tuple[Word, Word], rounds: int = ROUNDS) -> tuple[Word, Word]:
    """Two words of random bits for each counter."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ like(key[0], _PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for i in range(rounds):
        x = x + y
        y = rotated(y, _ROTATIONS[i % 8]) ^ x
        if i % 4 == 3:
            group = i // 4 + 1
            x = x + keys[group % 3]
            y = y + keys[(group + 1) % 3] + like(y, group)
    return x, y


def rotated(word: Word, distance: int) -> Word:
    """The bits moved to the left, around the corner."""
    if isinstance(word, np.ndarray):
        return (word << np.uint32(distance)) | (word >> np.uint32(32 - distance))
    return word.rotated(distance)


def like(word: Word, value: int) -> Word:
    """A constant of the word's kind."""
    return np.uint32(value) if isinstance(word, np.ndarray) else word.constant(value)
