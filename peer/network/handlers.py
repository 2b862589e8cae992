"""What this peer serves, to whom, and how errors cross the wire. Shared by gRPC and libp2p."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from ...protocol.errors import GossamerError, MessageTooLarge, NotAdmitted, UnknownMethod
from ...protocol.identity import PeerId
from ...protocol.network import (
    MAX_CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PUBLIC_BYTES,
    Gate,
    Handler,
    StreamHandler,
    Traffic,
)
from ...protocol.transport.messages import (
    CHUNK_OVERHEAD_BYTES,
    ERROR_LENGTH_MAX,
    METHOD_LENGTH_MAX,
    check_chunk,
    check_message,
    message_bytes,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Served:
    """One entry of the method table."""

    method: str
    handler: Handler | None = None
    stream_handler: StreamHandler | None = None
    public: bool = False


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A request that may be read: who sent it, what answers it, and how long its messages may be."""

    peer: PeerId
    served: Served
    bytes_max: int


class MethodTable:
    """Methods and gate. `admit` comes before anything of a request is read."""

    def __init__(self, traffic: Traffic) -> None:
        self._served: dict[str, Served] = {}
        self._gate: Gate = lambda peer: False
        self._traffic = traffic

    def add(self, served: Served) -> None:
        if not 0 < len(served.method) <= METHOD_LENGTH_MAX:
            raise ValueError(f"a method's name has 1..{METHOD_LENGTH_MAX} characters: {served.method!r}")
        if served.method in self._served:
            raise ValueError(f"method {served.method!r} is served already")
        self._served[served.method] = served

    def set_gate(self, gate: Gate) -> None:
        self._gate = gate

    def admit(self, peer: PeerId, method: str, *, streaming: bool) -> Admitted:
        """Raises NotAdmitted, UnknownMethod."""
        served = self._served.get(method)
        inside = self._gate(peer)
        if not inside and not (served and served.public):
            raise NotAdmitted(f"you ({peer}) are not admitted to {method[:METHOD_LENGTH_MAX]!r}: show a ticket first")
        if served is None or (served.stream_handler is not None) != streaming:
            kind = "stream" if streaming else "method"
            raise UnknownMethod(f"no {kind} {method[:METHOD_LENGTH_MAX]!r} is served here: do both run one version?")
        longest = MAX_CHUNK_BYTES if streaming else MAX_MESSAGE_BYTES
        return Admitted(peer=peer, served=served, bytes_max=longest if inside else MAX_PUBLIC_BYTES)

    async def answer(self, admitted: Admitted, request: bytes) -> bytes:
        """Run the handler of a call. Raises whatever it raises, and MessageTooLarge."""
        served = admitted.served
        self._traffic.received[served.method] += message_bytes(served.method, request)
        _check_received(admitted, request)
        assert served.handler is not None
        response = await served.handler(admitted.peer, request)
        check_message(response, served.method, "answer")
        self._traffic.sent[served.method] += message_bytes(served.method, response)
        return response

    async def answer_stream(self, admitted: Admitted, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Run the handler of a stream; closing this iterator closes the handler's."""
        served = admitted.served
        assert served.stream_handler is not None
        answer = served.stream_handler(admitted.peer, self._checked(admitted, chunks))
        try:
            async for chunk in answer:
                check_chunk(chunk, served.method)
                self._traffic.sent[served.method] += len(chunk) + CHUNK_OVERHEAD_BYTES
                yield chunk
        finally:
            await close_iterator(answer)

    async def _checked(self, admitted: Admitted, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        method = admitted.served.method
        async for chunk in chunks:
            self._traffic.received[method] += len(chunk) + CHUNK_OVERHEAD_BYTES
            _check_received(admitted, chunk)
            yield chunk


async def close_iterator(iterator: AsyncIterator[bytes]) -> None:
    """Run the clean-up of an iterator that is not read to its end, if it has any."""
    if isinstance(iterator, AsyncGenerator):
        await iterator.aclose()


def failure_of(error: Exception, method: str, peer: PeerId) -> tuple[str, str]:
    """Code and message that tell `peer` why its request failed. A bug's text stays here, in the log."""
    if isinstance(error, GossamerError):
        return error.code, " ".join(str(error).split())[:ERROR_LENGTH_MAX]
    log.error("the handler of %r failed on a message of %s", method, peer, exc_info=error)
    return "remote-failure", f"failed while it served {method!r}: its log says why"


def _check_received(admitted: Admitted, message: bytes) -> None:
    if len(message) > admitted.bytes_max:
        raise MessageTooLarge(
            f"{len(message)} bytes for {admitted.served.method!r} are too many: {admitted.bytes_max} are allowed to you"
        )
