"""Codecs of vectors that travel, and are reduced, in pieces: units of a few bytes that stand each for itself.

A unit holds `unit_elements` values in `unit_bytes` bytes, and can be decoded without any other. So whoever reduces a
part of a vector needs nothing but the units of that part. All numbers are little-endian.

    name      unit                                   |error| of a value, but for float32's own rounding
    fp32      4 bytes, 1 value                       0
    fp16      4 bytes, 2 values                      2^-11 of the value, 2^-25 below 2^-14; beyond +-65504 it is cut
    bf16      4 bytes, 2 values                      2^-8 of the value, 2^-134 below 2^-126
    int8      260 bytes, a scale and 256 values      A / 254, A the largest magnitude of the 256
    dynamic8  260 bytes, a scale and 256 values      .45 / 64 A in the first decade, a fifth of that in each further one
                                                     (see `dynamic_tree`)

Halves go in pairs, so that a number that must stay exact, like a count, fits any unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from ..method import F32

U8 = npt.NDArray[np.uint8]

DECODED_ABS_MAX: Final = 2.0**101
"""What is larger is refused: gradients are at most 2^100, and the sum of a group must stay finite."""


class UnitCodec(ABC):
    """Float32 values to units and back."""

    unit_bytes: ClassVar[int]
    unit_elements: ClassVar[int]

    @abstractmethod
    def encode(self, values: F32) -> U8:
        """The units of a float32 [n_units * unit_elements]. Raises BadVector for NaN and infinity."""

    @abstractmethod
    def decode(self, units: U8) -> F32:
        """A fresh float32 [n_units * unit_elements].

        Raises: BadPayload for NaN, infinity, magnitudes above `DECODED_ABS_MAX`, and what `encode` cannot have written.
        """

    def n_units(self, dim: int) -> int:
        """Units that hold so many values."""
        return -(-dim // self.unit_elements)
