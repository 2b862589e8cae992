"""What both ends of the gRPC data plane know: paths, keys, bounds, and what a message weighs."""

from __future__ import annotations

from ..errors import GossamerError, MessageTooLarge, error_from_wire
from ..identity import PeerId
from ..network import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES

HELLO_PATH = "/gossamer.Hello/1"
CALL_PREFIX = "/gossamer.Call/"
STREAM_PREFIX = "/gossamer.Stream/"
SESSION_KEY = "gossamer-session"
CODE_KEY = "gossamer-code"
TRANSPORT_BYTES_MAX = 2 << 20

METHOD_LENGTH_MAX = 128
ERROR_LENGTH_MAX = 1000

CALL_OVERHEAD_BYTES = 64
"""What a message costs besides its method's name and its bytes: frames, headers, session (measured, rounded)."""
CHUNK_OVERHEAD_BYTES = 16


def message_bytes(method: str, message: bytes) -> int:
    """What one message of a call weighs on the wire."""
    return len(method) + len(message) + CALL_OVERHEAD_BYTES


def check_message(message: bytes, method: str, what: str) -> None:
    """Raises MessageTooLarge before anything is sent."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"the {what} of {method!r} has {len(message)} bytes: at most {MAX_MESSAGE_BYTES} fit, stream it instead"
        )


def check_chunk(chunk: bytes, method: str) -> None:
    """Raises MessageTooLarge before anything is sent."""
    if len(chunk) > MAX_CHUNK_BYTES:
        raise MessageTooLarge(f"a chunk of {method!r} has {len(chunk)} bytes: at most {MAX_CHUNK_BYTES} fit, cut it up")


def raised_by(peer: PeerId, code: str, message: str) -> GossamerError:
    """The error that `peer` reported."""
    return error_from_wire(code, f"{peer}: {message[:ERROR_LENGTH_MAX]}")
