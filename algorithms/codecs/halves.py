"""Values of 16 bits, two in a unit: IEEE half precision, and bfloat16."""

from __future__ import annotations

from typing import Final

import numpy as np

from ..errors import BadPayload, BadVector
from ..method import F32
from .units import DECODED_ABS_MAX, U8, UnitCodec

FP16_MAX: Final = 65504.0


class Half(UnitCodec):
    """fp16. What is beyond its range is cut to the largest value it has, 65504."""

    unit_bytes = 4
    unit_elements = 2

    def encode(self, values: F32) -> U8:
        cut = np.clip(values, -FP16_MAX, FP16_MAX)
        # Clipping hides infinities; NaN stays.
        if not np.isfinite(values).all():
            raise BadVector("the vector holds NaN or infinity, which no average can hold: clip it")
        return cut.astype("<f2").view(np.uint8)

    def decode(self, units: U8) -> F32:
        halves = units.view("<u2")
        if len(halves) and int((halves & 0x7FFF).max()) >= 0x7C00:
            raise BadPayload("a value is NaN or infinite")
        return halves.view("<f2").astype(np.float32)


class UpperHalf(UnitCodec):
    """bf16: float32 without its lower half, rounded to nearest even."""

    unit_bytes = 4
    unit_elements = 2

    def encode(self, values: F32) -> U8:
        from ..kernels.narrow import to_upper_halves

        units = np.empty(2 * len(values), np.uint8)
        if not to_upper_halves(np.ascontiguousarray(values, np.float32), units):
            raise BadVector("the vector holds NaN, infinity or values too large for bf16: clip it")
        return units

    def decode(self, units: U8) -> F32:
        from ..kernels.narrow import from_upper_halves

        values = np.empty(len(units) // 2, np.float32)
        if from_upper_halves(np.ascontiguousarray(units), values) > _LARGEST:
            raise BadPayload("a value is NaN, infinite or above 2^101")
        return values


_LARGEST: Final = int(np.float32(DECODED_ABS_MAX).view(np.uint32)) >> 16
