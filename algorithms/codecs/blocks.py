"""Values of 8 bits: a unit is a float32 scale and the 256 values that share it."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final

import numpy as np

from ..errors import BadPayload, BadVector
from ..method import F32
from .dynamic_tree import DynamicTree
from .units import DECODED_ABS_MAX, U8, UnitCodec

BLOCK: Final = 256
_SCALE_BYTES: Final = 4


class Blocks(UnitCodec):
    """Scales and bytes, interleaved."""

    unit_bytes = _SCALE_BYTES + BLOCK
    unit_elements = BLOCK
    scale_max: ClassVar[float]
    """Above it values might exceed `DECODED_ABS_MAX`."""

    def encode(self, values: F32) -> U8:
        scales, codes = self._split(np.ascontiguousarray(values, np.float32))
        units = np.empty((len(scales), self.unit_bytes), np.uint8)
        units[:, :_SCALE_BYTES] = scales.astype("<f4", copy=False).view(np.uint8).reshape(-1, _SCALE_BYTES)
        units[:, _SCALE_BYTES:] = codes.reshape(-1, BLOCK)
        return units.reshape(-1)

    def decode(self, units: U8) -> F32:
        rows = units.reshape(-1, self.unit_bytes)
        scales = rows[:, :_SCALE_BYTES].copy().view("<f4").reshape(-1).astype(np.float32, copy=False)
        # NaN makes the comparison false.
        if not float(scales.max(initial=0.0)) <= self.scale_max or np.signbit(scales).any():
            raise BadPayload(f"a scale is NaN, infinite, negative or above {self.scale_max:g}")
        return self._join(scales, np.ascontiguousarray(rows[:, _SCALE_BYTES:]).reshape(-1))

    @abstractmethod
    def _split(self, values: F32) -> tuple[F32, U8]:
        """Scales and codes of contiguous values."""

    @abstractmethod
    def _join(self, scales: F32, codes: U8) -> F32:
        """The values of scales that were checked."""


class LinearBlocks(Blocks):
    """int8: 255 levels from -127 to 127 times the scale, which is the block's largest magnitude / 127."""

    scale_max = DECODED_ABS_MAX / 128

    def _split(self, values: F32) -> tuple[F32, U8]:
        from ..kernels.narrow import to_levels

        scales = np.empty(len(values) // BLOCK, np.float32)
        levels = np.empty(len(values), np.int8)
        if not to_levels(values, BLOCK, scales, levels):
            raise BadVector("the vector holds NaN or infinity, which 8 bits cannot hold: clip it or send float32")
        return scales, levels.view(np.uint8)

    def _join(self, scales: F32, codes: U8) -> F32:
        from ..kernels.narrow import from_levels

        values = np.empty(len(codes), np.float32)
        if not from_levels(codes.view(np.int8), BLOCK, scales, values):
            raise BadPayload("a value of -128, or values in a block whose scale is 0")
        return values


class TreeBlocks(Blocks):
    """dynamic8: the dynamic tree, dense near zero."""

    scale_max = DECODED_ABS_MAX

    def __init__(self) -> None:
        self._tree = DynamicTree(BLOCK)

    def _split(self, values: F32) -> tuple[F32, U8]:
        encoded = np.frombuffer(self._tree.encode(values), np.uint8)
        n_scales = len(values) // BLOCK * _SCALE_BYTES
        return encoded[:n_scales].view("<f4"), encoded[n_scales:]

    def _join(self, scales: F32, codes: U8) -> F32:
        return self._tree.decode(scales.astype("<f4", copy=False).tobytes() + codes.tobytes(), len(codes))
