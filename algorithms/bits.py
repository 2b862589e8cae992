"""Packing of small integers: 12-bit numbers two to three bytes, single bits eight to one. Least significant first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


def bytes_of_12_bit(n: int) -> int:
    """Length of `n` packed 12-bit numbers."""
    return (3 * n + 1) // 2


def pack_12_bit(numbers: npt.NDArray[Any]) -> bytes:
    """Pack integers in [0, 4096); an odd one out takes two bytes whose last four bits are zero."""
    pairs = np.zeros((len(numbers) + 1) // 2 * 2, np.uint16)
    pairs[: len(numbers)] = numbers
    first, second = pairs[0::2], pairs[1::2]
    packed = np.empty((len(first), 3), np.uint8)
    packed[:, 0] = first & 0xFF
    packed[:, 1] = (first >> 8) | ((second & 0xF) << 4)
    packed[:, 2] = second >> 4
    return packed.tobytes()[: bytes_of_12_bit(len(numbers))]


def unpack_12_bit(packed: bytes, n: int) -> npt.NDArray[np.int64]:
    """The `n` numbers again.

    Raises: ValueError if the length is not theirs, or a padding bit is set.
    """
    if len(packed) != bytes_of_12_bit(n):
        raise ValueError(f"{len(packed)} bytes cannot hold {n} 12-bit numbers")
    triples = np.frombuffer(packed + b"\0" * (-len(packed) % 3), np.uint8).reshape(-1, 3).astype(np.int64)
    numbers = np.empty((len(triples), 2), np.int64)
    numbers[:, 0] = triples[:, 0] | (triples[:, 1] & 0xF) << 8
    numbers[:, 1] = triples[:, 1] >> 4 | triples[:, 2] << 4
    flat = numbers.reshape(-1)
    if flat[n:].any():
        raise ValueError("padding bits of the indices are set")
    return flat[:n]


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
