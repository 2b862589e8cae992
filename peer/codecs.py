"""Codecs of whole float32 vectors by name. What peers average densely is coded in units: see `algorithms.codecs`.

fp32, fp16, bf16 and int8 (linear, a scale for each 256 values) are those that tensors travel in anyway; dynamic8 is
the dynamic tree. Whatever goes wrong is a BadTensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..algorithms.codecs import Codec, DynamicTree
from ..algorithms.errors import BadPayload, BadVector
from ..protocol.errors import BadTensor
from ..protocol.tensors import decode_floats, encode_floats, payload_bytes
from ..protocol.tensors_pb2 import BF16, FP16, FP32, INT8_FP32, TensorCodec

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PlainCodec:
    """A float codec of `protocol.tensors`, without a tensor's header."""

    codec: TensorCodec

    def encode(self, values: F32) -> bytes:
        """Raises BadTensor for NaN, infinities, and what is too large for the codec."""
        return encode_floats(values, self.codec)

    def decode(self, payload: bytes, n: int) -> F32:
        """Raises BadTensor unless `encode` can have written this for `n` elements."""
        return decode_floats(payload, self.codec, n)

    def encoded_bytes(self, n: int) -> int:
        return payload_bytes(self.codec, n)


class DynamicCodec:
    """The dynamic tree, with the errors of the protocol."""

    def __init__(self) -> None:
        self._tree = DynamicTree()

    def encode(self, values: F32) -> bytes:
        """Raises BadTensor for NaN and infinities."""
        try:
            return self._tree.encode(values)
        except BadVector as error:
            raise BadTensor(str(error)) from error

    def decode(self, payload: bytes, n: int) -> F32:
        """Raises BadTensor unless `encode` can have written this for `n` elements."""
        try:
            return self._tree.decode(payload, n)
        except BadPayload as error:
            raise BadTensor(str(error)) from error

    def encoded_bytes(self, n: int) -> int:
        return self._tree.encoded_bytes(n)


CODECS: Final[Mapping[str, Codec]] = {
    "fp32": PlainCodec(FP32),
    "fp16": PlainCodec(FP16),
    "bf16": PlainCodec(BF16),
    "int8": PlainCodec(INT8_FP32),
    "dynamic8": DynamicCodec(),
}
