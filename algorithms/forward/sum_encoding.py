"""Scalars as integers mod 2^32, so that masks cancel exactly and the sum of all devices cannot overflow.

With n devices and |value| <= bound: q = round(value * 2^f), f the largest with n * bound * 2^f < 2^31. The sum of n
such integers stays within +-(2^31 - 1), so that the residue mod 2^32 names it. Error of a sum: at most n / 2^(f+1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import BadCoordinate

U32 = npt.NDArray[np.uint32]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SumEncoding:
    """Fixed by the run: all devices of a round encode alike.

    Raises: BadCoordinate if no fraction bit is left.
    """

    bound: float
    """Larger values are cut to +-bound: the only clipping there is, since nobody sees a single value."""
    n_devices: int
    """Most devices whose values are added up."""

    def __post_init__(self) -> None:
        if not (1e-12 <= self.bound <= 1e12 and 1 <= self.n_devices <= 2**16):
            raise BadCoordinate(f"a sum of {self.n_devices} values within +-{self.bound} cannot be encoded")

    @property
    def fraction_bits(self) -> int:
        """f, may be negative for large bounds."""
        # One less than the room, for the rounding of n values to whole steps.
        return math.floor(math.log2((2**31 - 1 - self.n_devices) / (self.n_devices * self.bound)))

    def encode(self, values: F32 | F64) -> U32:
        """Residues mod 2^32, uint32, of any shape.

        Raises: BadCoordinate if a value is not finite.
        """
        if not np.isfinite(values).all():
            raise BadCoordinate("a value that is not finite cannot be summed")
        clipped = np.clip(values.astype(np.float64), -self.bound, self.bound)
        return np.rint(np.ldexp(clipped, self.fraction_bits)).astype(np.int64).astype(np.uint32)

    def decode(self, total: U32) -> F64:
        """The sum of the values, from the sum of their residues mod 2^32."""
        summed: F64 = np.ldexp(total.view(np.int32).astype(np.float64), -self.fraction_bits)
        return summed
