"""What every codec of float32 vectors can do."""

from __future__ import annotations

from typing import Protocol

from ..method import F32


class Codec(Protocol):
    """Makes bytes of a vector and a vector of bytes; the length in bytes follows from the number of elements."""

    def encode(self, values: F32) -> bytes:
        """The bytes of a float32 [n]. Raises ValueError or a typed error for what the codec cannot hold."""

    def decode(self, payload: bytes, n: int) -> F32:
        """A fresh float32 [n]. Raises a typed error unless `encode` can have written this for `n` elements."""

    def encoded_bytes(self, n: int) -> int:
        """The exact length for `n` elements."""
