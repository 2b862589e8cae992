"""Packing of single bits, eight to a byte, least significant first. numpy alone: devices use it too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]


def bytes_of_bits(n: int) -> int:
    """Length of `n` packed bits."""
    return (n + 7) // 8


def pack_bits(bits: Bool) -> bytes:
    """Pack booleans, padded with zeros to whole bytes."""
    return np.packbits(bits, bitorder="little").tobytes()


def unpack_bits(packed: bytes, n: int) -> Bool:
    """The `n` booleans again.

    Raises: ValueError if the length is not theirs, or a padding bit is set.
    """
    if len(packed) != bytes_of_bits(n):
        raise ValueError(f"{len(packed)} bytes cannot hold {n} bits")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
    if bits[n:].any():
        raise ValueError("padding bits are set")
    return bits[:n].astype(np.bool_)
