"""Frames on a libp2p stream: one byte of kind, four of length, the payload.

A stream opens with OPEN (who is asked for what), carries CHUNKs both ways, each way ends with END, and FAIL takes the
place of the answer's END when something went wrong. A stream that just ends was given up by the other side.
"""

from __future__ import annotations

import asyncio
import struct
from enum import IntEnum

from ...protocol.errors import InvalidMessage, MessageTooLarge, PeerUnreachable
from ...protocol.network import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES
from ...protocol.transport.messages import METHOD_LENGTH_MAX
from ...protocol.transport_pb2 import Failure, Opening
from ...protocol.wire import parse

_HEADER = struct.Struct(">BI")
_SMALL_BYTES = 16 << 10


class Kind(IntEnum):
    OPEN = 1
    CHUNK = 2
    END = 3
    FAIL = 4


_BYTES_MAX = {
    Kind.OPEN: 4 * METHOD_LENGTH_MAX + 16,
    Kind.CHUNK: max(MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES),
    Kind.END: 0,
    Kind.FAIL: 8192,
}


async def write_frame(writer: asyncio.StreamWriter, kind: Kind, payload: bytes = b"") -> None:
    """Send one frame, waiting while the other side is slow. Raises PeerUnreachable."""
    header = _HEADER.pack(kind, len(payload))
    try:
        if len(payload) <= _SMALL_BYTES:
            writer.write(header + payload)
        else:  # joining would copy it once more
            writer.write(header)
            writer.write(payload)
        await writer.drain()
    except OSError:
        raise PeerUnreachable("the libp2p stream broke while it was written to") from None


async def read_frame(reader: asyncio.StreamReader) -> tuple[Kind, bytes]:
    """Raises PeerUnreachable when the stream ends, InvalidMessage and MessageTooLarge on nonsense."""
    try:
        code, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        kind = _kind(code)
        if length > _BYTES_MAX[kind]:
            raise MessageTooLarge(f"a frame announces {length} bytes: at most {_BYTES_MAX[kind]} are allowed")
        return kind, await reader.readexactly(length) if length else b""
    except (asyncio.IncompleteReadError, OSError):
        raise PeerUnreachable("the libp2p stream was given up by the other side") from None


def opening(method: str, *, streaming: bool) -> bytes:
    return Opening(method=method, streaming=streaming).SerializeToString()


def read_opening(payload: bytes) -> tuple[str, bool]:
    message = parse(Opening, payload, bytes_max=_BYTES_MAX[Kind.OPEN], what="a stream's opening")
    return message.method, message.streaming


def failure(code: str, message: str) -> bytes:
    return Failure(code=code, message=message).SerializeToString()


def read_failure(payload: bytes) -> tuple[str, str]:
    message = parse(Failure, payload, bytes_max=_BYTES_MAX[Kind.FAIL], what="a failure")
    return message.code, message.message


def _kind(code: int) -> Kind:
    try:
        return Kind(code)
    except ValueError:
        raise InvalidMessage(f"a frame has the unknown kind {code}: does the other side run our version?") from None
