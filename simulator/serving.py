"""What a simulated peer serves, to whom, and what becomes of a handler's errors."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from ..protocol.errors import GossamerError, MessageTooLarge, NotAdmitted, RemoteFailure, UnknownMethod
from ..protocol.network import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, MAX_PUBLIC_BYTES, Gate, Handler, StreamHandler
from .fabric import HandlerFailure
from .messages import ANSWER, CHUNK, END, FAIL, STREAM, Kind, Message
from .port import Port

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Served:
    """One method: exactly one of the handlers is there."""

    handler: Handler | None = None
    stream_handler: StreamHandler | None = None
    public: bool = False


class Services:
    """The methods of one peer, and its gate."""

    def __init__(self, failures: list[HandlerFailure]) -> None:
        """Args: failures: takes those of handlers."""
        self._failures = failures
        self._served: dict[str, Served] = {}
        self.gate: Gate = lambda peer: False

    def add(self, method: str, served: Served) -> None:
        if method in self._served:
            raise ValueError(f"method {method!r} is served already")
        self._served[method] = served

    async def answer(self, port: Port, opening: Message) -> None:
        """Serve one request to its end. Raises what the session failed with, and CancelledError."""
        try:
            served, inside = self._admit(port, opening.kind)
            if served.handler is not None:
                _check_received(opening.payload, MAX_MESSAGE_BYTES if inside else MAX_PUBLIC_BYTES)
                answer = await served.handler(port.peer, opening.payload)
                check_size(answer, MAX_MESSAGE_BYTES, "the answer of", port.method)
                port.begin(Message(ANSWER, answer))
            elif served.stream_handler is not None:
                chunks = _received(port, MAX_CHUNK_BYTES if inside else MAX_PUBLIC_BYTES)
                await send_all(port, served.stream_handler(port.peer, chunks))
        except GossamerError as error:
            await port.send(Message(FAIL, " ".join(str(error).split()).encode(), code=error.code))
        except Exception as error:  # a bug in a handler: the caller learns that there is one, and no more
            log.exception("the handler of %r failed on a message of %s", port.method, port.peer)
            self._failures.append(HandlerFailure(port.method, port.host, _told(error)))
            text = f"failed while it served {port.method!r}: its log says why"
            await port.send(Message(FAIL, text.encode(), code=RemoteFailure.code))

    def _admit(self, port: Port, kind: Kind) -> tuple[Served, bool]:
        method, inside = port.method, self.gate(port.peer)
        served = self._served.get(method)
        if not inside and not (served and served.public):
            raise NotAdmitted(f"you ({port.peer}) are not admitted to {method!r}: show a ticket first")
        if served is None or (served.stream_handler is not None) != (kind is STREAM):
            raise UnknownMethod(f"no {kind.value} {method!r} is served here: do both run one version?")
        return served, inside


def _told(error: Exception) -> str:
    return "".join(traceback.format_exception(error)[-3:]).strip()


async def send_all(port: Port, chunks: AsyncIterator[bytes]) -> None:
    """Send every chunk and the end, and let the iterator clean up in any case."""
    try:
        async for chunk in chunks:
            check_size(chunk, MAX_CHUNK_BYTES, "a chunk of", port.method)
            await port.send(Message(CHUNK, bytes(chunk)))
        await port.send(Message(END))
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def check_size(message: bytes, bytes_max: int, what: str, method: str) -> None:
    """Raises MessageTooLarge before anything is sent."""
    if len(message) > bytes_max:
        raise MessageTooLarge(
            f"{what} {method!r} has {len(message)} bytes: at most {bytes_max} fit, cut it up or stream it"
        )


async def _received(port: Port, bytes_max: int) -> AsyncIterator[bytes]:
    while (message := await port.receive()).kind is not END:
        _check_received(message.payload, bytes_max)
        yield message.payload


def _check_received(message: bytes, bytes_max: int) -> None:
    if len(message) > bytes_max:
        raise MessageTooLarge(f"{len(message)} bytes are too many: {bytes_max} are allowed to you")
