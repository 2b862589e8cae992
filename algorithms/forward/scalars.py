"""How K loss differences travel.

fp32   f32 [K], little-endian                             4 K bytes
int8   f32 scale = max|d| / 127, then i8 [K]              K + 4
sign   f32 mean of |d|, then K bits, 1 for negative       K / 8 + 4

A payload from outside is exactly as long as its kind says and holds only finite numbers.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import BadPayload
from ..single_bits import bytes_of_bits, pack_bits, unpack_bits

F32 = npt.NDArray[np.float32]

VALUE_KINDS: Final = ("fp32", "int8", "sign")
DIFFERENCE_ABS_MAX: Final = 1e30
"""Far above any loss, far enough below float32's limit for sums over a round."""


def scalars_bytes(n: int, value: str) -> int:
    """Length of `n` encoded differences."""
    return {"fp32": 4 * n, "int8": 4 + n, "sign": 4 + bytes_of_bits(n)}[value]


def encode_scalars(differences: F32, value: str) -> bytes:
    """Encode float32 [K].

    Raises: BadPayload if one is not finite: the device's loss overflowed.
    """
    _refuse_unusable(differences)
    if value == "fp32":
        return differences.astype("<f4").tobytes()
    magnitude = np.abs(differences)
    if value == "int8":
        scale = np.float32(magnitude.max() / np.float32(127)) if len(differences) else np.float32(0)
        steps = np.rint(differences / scale) if scale > 0 else np.zeros_like(differences)
        return struct.pack("<f", scale) + np.clip(steps, -127, 127).astype(np.int8).tobytes()
    return struct.pack("<f", magnitude.mean(dtype=np.float64)) + pack_bits(differences < 0)


def decode_scalars(payload: bytes, n: int, value: str) -> F32:
    """The `n` differences again, float32 [n].

    Raises: BadPayload for anything that `encode_scalars` could not have made.
    """
    if len(payload) != scalars_bytes(n, value):
        raise BadPayload(f"{len(payload)} bytes cannot hold {n} {value} scalars: expected {scalars_bytes(n, value)}")
    if value == "fp32":
        differences = np.frombuffer(payload, "<f4").astype(np.float32)
        _refuse_unusable(differences)
        return differences
    scale = np.float32(struct.unpack_from("<f", payload)[0])
    if not 0 <= scale <= DIFFERENCE_ABS_MAX:
        raise BadPayload(f"the scale {scale} of the scalars is not a number from 0 to {DIFFERENCE_ABS_MAX:g}")
    if value == "int8":
        return np.frombuffer(payload, np.int8, offset=4).astype(np.float32) * scale
    try:
        negative = unpack_bits(payload[4:], n)
    except ValueError as error:
        raise BadPayload(f"the signs of the scalars: {error}") from error
    return np.where(negative, -scale, scale).astype(np.float32)


def _refuse_unusable(differences: F32) -> None:
    # NaN fails the comparison, so the test is written to be true only for good values.
    if not np.all(np.abs(differences) <= DIFFERENCE_ABS_MAX):
        raise BadPayload(f"the loss differences hold NaN, infinity or values above {DIFFERENCE_ABS_MAX:g}")
