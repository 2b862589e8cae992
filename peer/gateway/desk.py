"""What devices can ask of a gateway besides rounds: a place, the run's card, the model, who else is in a round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from ...protocol import devices
from ...protocol.edge_pb2 import SnapshotHead, SnapshotRequest
from ...protocol.errors import InvalidMessage
from ...protocol.identity import PeerId
from ...protocol.network import MAX_CHUNK_BYTES, Server
from ...protocol.wire import parse
from .book import Book

Snapshot = tuple[int, bytes, bytes]
"""Step, digest and encoded state."""


class Desk:
    """Serves `front`; whoever is in the book is admitted there."""

    def __init__(
        self,
        front: Server,
        book: Book,
        *,
        card: bytes,
        unix_time_s: Callable[[], float],
        snapshot: Callable[[], Awaitable[Snapshot]],
        roster: Callable[[int], bytes],
    ) -> None:
        self._book, self._card = book, card
        self._unix_time_s, self._snapshot_of_now, self._roster_of = unix_time_s, snapshot, roster
        front.set_gate(book.is_enrolled)
        front.serve(devices.ENROL, self._enrol, public=True)
        front.serve(devices.ROTATE, self._rotate, public=True)
        front.serve(devices.CARD, self._hand_card)
        front.serve(devices.ROSTER, self._roster)
        front.serve_stream(devices.SNAPSHOT, self._snapshot)

    async def _enrol(self, device: PeerId, request: bytes) -> bytes:
        self._book.enrol(request, device=device, now_s=self._unix_time_s())
        return self._card

    async def _rotate(self, device: PeerId, request: bytes) -> bytes:
        return self._book.rotate(request, device=device).encode()

    async def _hand_card(self, device: PeerId, request: bytes) -> bytes:
        return self._card

    async def _roster(self, device: PeerId, request: bytes) -> bytes:
        if len(request) != 4:
            raise InvalidMessage(f"{device} asks for the roster of a round in {len(request)} bytes: expected 4")
        return self._roster_of(int.from_bytes(request, "little"))

    async def _snapshot(self, device: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The present state from where the device's copy of it broke off, if it has one."""
        asked = parse(SnapshotRequest, await anext(chunks, b""), bytes_max=1024, what="a request for a snapshot")
        step, digest, state = await self._snapshot_of_now()
        offset = asked.offset if asked.digest == digest and asked.offset <= len(state) else 0
        yield SnapshotHead(step=step, digest=digest, length=len(state), offset=offset).SerializeToString()
        for start in range(offset, len(state), MAX_CHUNK_BYTES):
            yield state[start : start + MAX_CHUNK_BYTES]
