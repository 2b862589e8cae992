"""State downloads in 16 or 8 bits that all replicas agree on to the bit.

A newcomer's copy must equal the group's, so a lossy download alone would leave it diverged for good. Therefore the
decision of a round that has a copy taken for newcomers has every replica round its own state to what the copy says
(`[group] snapshot_codec`). Parameters travel in that codec. What the optimizer holds needs more range than precision (a
second moment that becomes 0 makes a huge step): with fp16 it travels in bf16, with int8 in the dynamic tree. Integers
and short tensors stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..algorithms.codecs import Codec
from ..protocol.state import Array, Spec, decode_state, encode_state, state_bytes
from .codecs import CODECS

EXACT: Final = "fp32"
_RANGED: Final = {"fp16": "bf16", "bf16": "bf16", "int8": "dynamic8", "dynamic8": "dynamic8"}
_PARAMETERS: Final = "model/"
_SHORT: Final = 256
"""Shorter tensors are not worth a loss."""

Specs = Mapping[str, Spec]


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """The codec of one run's copies.

    Args:
        codec: one of fp16, bf16, int8, dynamic8.
        specs: name -> (dtype, shape) of the state.
    """

    codec: str
    specs: Specs

    def encode(self, arrays: Mapping[str, Array]) -> bytes:
        """The state as newcomers download it. Raises BadTensor for what is not finite or too large for the codec."""
        packed: dict[str, Array] = dict(arrays)
        for name in arrays:
            if (codec := self._codec_of(name)) is not None:
                flat = np.ascontiguousarray(arrays[name], np.float32).reshape(-1)
                packed[name] = np.frombuffer(codec.encode(flat), np.uint8)
        return encode_state(packed)

    def decode(self, data: bytes) -> dict[str, Array]:
        """What `encode` leaves of a state. Raises BadTensor unless the bytes can be of such a state."""
        arrays = decode_state(data, self._packed())
        for name in arrays:
            if (codec := self._codec_of(name)) is not None:
                shape = self.specs[name][1]
                arrays[name] = codec.decode(arrays[name].tobytes(), int(np.prod(shape))).reshape(shape)
        return arrays

    def encoded_bytes(self) -> int:
        """The exact length of an encoded state."""
        return state_bytes(self._packed())

    def _packed(self) -> dict[str, Spec]:
        specs: dict[str, Spec] = dict(self.specs)
        for name, (_, shape) in self.specs.items():
            if (codec := self._codec_of(name)) is not None:
                specs[name] = (np.uint8, (codec.encoded_bytes(int(np.prod(shape))),))
        return specs

    def _codec_of(self, name: str) -> Codec | None:
        dtype, shape = self.specs[name]
        if np.dtype(dtype) != np.float32 or int(np.prod(shape)) < _SHORT:
            return None
        return CODECS[self.codec if name.startswith(_PARAMETERS) else _RANGED[self.codec]]


def rounding_of(codec: str, specs: Specs) -> Rounding | None:
    """None where copies are exact."""
    return None if codec == EXACT else Rounding(codec=codec, specs=specs)
