"""What goes from one end of a session to the other."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from .connection import Connection

CALL_OVERHEAD_BYTES = 64
CHUNK_OVERHEAD_BYTES = 16


class Kind(enum.Enum):
    CALL = "call"
    STREAM = "stream"
    ANSWER = "answer"
    CHUNK = "chunk"
    END = "end"
    FAIL = "fail"


CALL, STREAM, ANSWER, CHUNK, END, FAIL = Kind
"""By themselves, since it takes a while to find them in an enumeration, several times for each message."""

OPENING: Final = (CALL, STREAM)
"""What a session begins with."""


class Sender(Protocol):
    """An end of a session."""

    def begins(self, message: Message, /) -> None:
        """Its first byte leaves."""

    def has_left(self, message: Message, /) -> None:
        """Its last byte has left."""


class Message:
    """One message of a session."""

    __slots__ = ("checksum", "code", "connection", "kind", "n_bytes", "payload", "sender")

    def __init__(self, kind: Kind, payload: bytes = b"", *, code: str = "") -> None:
        """Args: code: the error's class, of a FAIL."""
        self.kind = kind
        self.payload = payload
        self.code = code
        self.n_bytes = 0
        """On the wire, once it is sent."""
        self.checksum = 0
        """Of the payload as it is sent, for the trace."""
        self.sender: Sender | None = None
        """While it is sent; None again once it has left or was given up."""
        self.connection: Connection | None = None
        """In which it leaves, or waits for its turn."""

    @property
    def is_chunk(self) -> bool:
        """Whether it comes within a stream: a chunk, or its end."""
        return self.kind is CHUNK or self.kind is END

    def wire_bytes(self, method: str) -> int:
        if self.kind is CHUNK or self.kind is END:
            return len(self.payload) + CHUNK_OVERHEAD_BYTES
        return len(method) + len(self.code) + len(self.payload) + CALL_OVERHEAD_BYTES
