"""Long byte strings in pieces that are checked one by one, whoever sends them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .errors import ChecksumMismatch, InvalidMessage, MessageTooLarge

HASH_BYTES = 32


def n_chunks(total_bytes: int, size: int) -> int:
    """How many chunks of `size` bytes (the last may be shorter) make `total_bytes`."""
    return -(-total_bytes // size)


def chunk(data: bytes, size: int) -> list[memoryview]:
    """Cut `data` into views of `size` bytes; the last may be shorter. No copies."""
    view = memoryview(data)
    return [view[start : start + size] for start in range(0, len(data), size)]


def chunk_hashes(data: bytes, size: int) -> list[bytes]:
    """The SHA-256 of each chunk."""
    return [hashlib.sha256(piece).digest() for piece in chunk(data, size)]


class Reassembly:
    """Collects the chunks of one announced byte string, in any order, from any senders.

    Memory grows with what was accepted, not with what was announced.
    """

    def __init__(self, *, total_bytes: int, size: int, hashes: Sequence[bytes], bytes_max: int) -> None:
        """Args:
        total_bytes, hashes: as announced; not trusted.
        size: bytes of every chunk but the last.
        bytes_max: the most that this side is willing to take.
        Raises: MessageTooLarge, InvalidMessage.
        """
        if not 0 <= total_bytes <= bytes_max:
            raise MessageTooLarge(f"{total_bytes} bytes are announced, {bytes_max} are allowed: refuse them")
        if size < 1 or len(hashes) != n_chunks(total_bytes, size):
            raise InvalidMessage(f"{len(hashes)} hashes are announced for {total_bytes} bytes by {size}: refuse them")
        if any(len(digest) != HASH_BYTES for digest in hashes):
            raise InvalidMessage(f"an announced chunk hash has not {HASH_BYTES} bytes: refuse the announcement")
        self.total_bytes = total_bytes
        self._size = size
        self._hashes = list(hashes)
        self._pieces: dict[int, bytes] = {}

    def accept(self, index: int, data: bytes | memoryview) -> bool:
        """Take one chunk. True if it was new, False if we had it already.

        Raises: InvalidMessage (no such chunk, wrong length), ChecksumMismatch. What was accepted before stays.
        """
        if not 0 <= index < len(self._hashes):
            raise InvalidMessage(f"chunk {index} of {len(self._hashes)} does not exist: discard it")
        expected = min(self._size, self.total_bytes - index * self._size)
        if len(data) != expected:
            raise InvalidMessage(
                f"chunk {index} has {len(data)} bytes, expected {expected}: fetch it from another peer"
            )
        if hashlib.sha256(data).digest() != self._hashes[index]:
            raise ChecksumMismatch(f"chunk {index} is not the one that was announced: fetch it from another peer")
        if index in self._pieces:
            return False
        self._pieces[index] = bytes(data)
        return True

    def missing(self) -> list[int]:
        """The indices still to come, ascending."""
        return [index for index in range(len(self._hashes)) if index not in self._pieces]

    def result(self) -> bytes:
        """The whole byte string. ValueError while chunks are missing."""
        missing = self.missing()
        if missing:
            raise ValueError(f"{len(missing)} of {len(self._hashes)} chunks are missing")
        return b"".join(self._pieces[index] for index in range(len(self._hashes)))
