"""Tensors of a size that carry one number, over and over: made once, encoded once, and checked by comparing.

They are common property: whoever is given one leaves it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from ..peer.pipeline.activations import Buffer, Codec, Compression, Parcel
from ..protocol.tensors_pb2 import TensorHeader

_REMEMBERED = 4096
Key = tuple[float, torch.Size, torch.dtype, Compression]


@lru_cache(maxsize=_REMEMBERED)
def constant(number: float, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The one tensor of this kind that is `number` everywhere."""
    one = torch.full((1,) * len(shape), number, dtype=dtype)
    made = one.expand(shape)
    made.__dict__["number"] = float(one)
    return made


def number_of(tensor: Tensor) -> float | None:
    """What a constant is everywhere; None: it is none."""
    number: float | None = tensor.__dict__.get("number")
    return number


def mean_of(tensor: Tensor) -> float:
    number = number_of(tensor)
    return number if number is not None else float(tensor.to(torch.float32).mean())


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    parcel: Parcel
    decoded: Tensor

    def is_like(self, header: TensorHeader, payload: Buffer) -> bool:
        return self.parcel.header == header and self.parcel.payload == payload


@dataclass(eq=False)
class Remembered:
    """What constants are as bytes, and the other way round: for all daemons of a simulated world."""

    by_number: dict[Key, _Encoded] = field(default_factory=dict)
    by_hash: dict[bytes, _Encoded] = field(default_factory=dict)

    def add(self, key: Key, encoded: _Encoded) -> None:
        if len(self.by_number) >= _REMEMBERED:  # by their hashes they are no more
            self.by_number.clear()
            self.by_hash.clear()
        self.by_number[key] = self.by_hash[encoded.parcel.header.blake3] = encoded


class SizedCodec(Codec):
    """The usual codec, for tensors that are mostly constants."""

    def __init__(self, compression: Compression, remembered: Remembered) -> None:
        super().__init__(compression)
        self._remembered = remembered

    def encode(self, tensor: Tensor) -> Parcel:
        number = number_of(tensor)
        if number is None:
            return super().encode(tensor)
        key = number, tensor.shape, tensor.dtype, self.compression
        known = self._remembered.by_number.get(key)
        if known is None:
            parcel = super().encode(tensor)
            decoded = super().decode(parcel.header, parcel.payload)
            decoded = constant(float(decoded.reshape(-1)[0]), tuple(decoded.shape), decoded.dtype)
            known = _Encoded(parcel=parcel, decoded=decoded)
            self._remembered.add(key, known)
        return known.parcel

    def receive(self, header: TensorHeader, payload: Buffer) -> Parcel:
        """As `decode`."""
        known = self._remembered.by_hash.get(header.blake3)
        if known is None or not known.is_like(header, payload):
            return super().receive(header, payload)
        return known.parcel

    def decode(self, header: TensorHeader, payload: Buffer) -> Tensor:
        """Bytes that are not those of a constant are hashed and read as usual."""
        known = self._remembered.by_hash.get(header.blake3)
        if known is None or not known.is_like(header, payload):
            return super().decode(header, payload)
        return known.decoded
