"""Pieces of a dense round's vector on their way here: slices of contributors, and parts that others reduced."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from ...protocol.errors import ChecksumMismatch, InvalidMessage, MessageTooLarge, StaleRound
from .decision import Item

U8 = npt.NDArray[np.uint8]


class Slice:
    """One contributor's bytes of one part, as far as they have come in."""

    def __init__(self, n_bytes: int) -> None:
        # Pages are only touched when bytes come in, so an announcement alone costs no memory.
        self.data: U8 = np.empty(n_bytes, np.uint8)
        self.n_bytes = 0

    @classmethod
    def whole(cls, data: U8) -> Slice:
        slice_ = cls(0)
        slice_.data, slice_.n_bytes = data, len(data)
        return slice_

    @property
    def complete(self) -> bool:
        return self.n_bytes == len(self.data)

    def take(self, offset: int, chunk: bytes) -> int:
        """Take bytes that begin at `offset`; what is here already stays. Returns where they end.

        Raises: MessageTooLarge beyond the end, StaleRound if bytes before them are missing.
        """
        end = offset + len(chunk)
        if end > len(self.data):
            raise MessageTooLarge(f"a slice longer than the {len(self.data)} bytes of its part: cut off")
        if offset > self.n_bytes:
            raise StaleRound("the beginning of that slice is not here any more: send it from the start")
        if end > self.n_bytes:
            self.data.data[self.n_bytes : end] = memoryview(chunk)[self.n_bytes - offset :]
            self.n_bytes = end
        return end


class ReducedPart:
    """A part that its reducer sends, written to where it belongs.

    Args:
        data: uint8 [n], this peer's place for it.
    """

    def __init__(self, data: U8) -> None:
        self._view = data.data
        self._n_bytes = 0
        self._hash = hashlib.sha256()

    def take(self, chunk: bytes) -> Item | None:
        """Take the next chunk; the part's name once its hash has come. Raises InvalidMessage, ChecksumMismatch."""
        if self._n_bytes == len(self._view) and chunk:
            if chunk != self._hash.digest():
                raise ChecksumMismatch("a reduced part that does not match its hash: refused")
            return Item(chunk, self._n_bytes)
        end = self._n_bytes + len(chunk)
        if end > len(self._view):
            raise InvalidMessage(f"a reduced part longer than its {len(self._view)} bytes: refused")
        self._view[self._n_bytes : end] = chunk
        self._hash.update(chunk)
        self._n_bytes = end
        return None
