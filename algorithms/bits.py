"""Packing of 12-bit numbers, two to three bytes, least significant first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


def bytes_of_12_bit(n: int) -> int:
    """Length of `n` packed 12-bit numbers."""
    return (3 * n + 1) // 2


def pack_12_bit(numbers: I64) -> bytes:
    """Pack integers in [0, 4096); an odd one out takes two bytes whose last four bits are zero."""
    from .kernels.pack import pack_12_bit as kernel

    packed = np.empty(bytes_of_12_bit(len(numbers)), np.uint8)
    kernel(numbers, packed)
    return packed.tobytes()


def check_12_bit(packed: bytes, counts: I64, bounds: I64) -> None:
    """See that packed numbers ascend strictly within each group, all of them below the group's bound.

    Args:
        counts: int64 [n_groups], how many numbers each group has.
        bounds: int64 [n_groups].

    Raises: ValueError if they do not, if the length is not theirs, or a padding bit is set.
    """
    from .kernels.pack import ASCENDING, OUTSIDE, order_of_12_bit

    n = int(counts.sum())
    if len(packed) != bytes_of_12_bit(n):
        raise ValueError(f"{len(packed)} bytes cannot hold {n} 12-bit numbers")
    if n % 2 and packed[-1] >> 4:
        raise ValueError("padding bits of the indices are set")
    found = order_of_12_bit(np.frombuffer(packed, np.uint8), counts, bounds)
    if found != ASCENDING:
        raise ValueError(
            "an index is outside its tile" if found == OUTSIDE else "the indices of a tile are not strictly ascending"
        )


def unpack_12_bit(packed: bytes, n: int) -> I64:
    """The `n` numbers again. `packed` has their length."""
    from .kernels.pack import unpack_12_bit as kernel

    numbers = np.empty(n, np.int64)
    kernel(np.frombuffer(packed, np.uint8), numbers)
    return numbers
