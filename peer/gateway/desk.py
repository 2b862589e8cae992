"""What devices can ask of a gateway besides rounds: a place, the run's card, the model, who else is in a round."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...protocol import devices
from ...protocol.errors import InvalidMessage
from ...protocol.identity import PeerId
from ...protocol.network import Server
from .book import Book
from .snapshots import Snapshot, Snapshots
from .streams import few_streams


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
        self._unix_time_s, self._roster_of = unix_time_s, roster
        front.set_gate(book.is_enrolled)
        front.serve(devices.ENROL, self._enrol, public=True)
        front.serve(devices.ROTATE, self._rotate, public=True)
        front.serve(devices.CARD, self._hand_card)
        front.serve(devices.ROSTER, self._roster)
        front.serve_stream(devices.SNAPSHOT, few_streams(Snapshots(snapshot).serve))

    async def _enrol(self, device: PeerId, request: bytes) -> bytes:
        self._book.enrol(request, device=device, now_s=self._unix_time_s())
        return self._card

    async def _rotate(self, device: PeerId, request: bytes) -> bytes:
        return self._book.rotate(request, device=device, now_s=self._unix_time_s()).encode()

    async def _hand_card(self, device: PeerId, request: bytes) -> bytes:
        return self._card

    async def _roster(self, device: PeerId, request: bytes) -> bytes:
        if len(request) != 4:
            raise InvalidMessage(f"{device} asks for the roster of a round in {len(request)} bytes: expected 4")
        return self._roster_of(int.from_bytes(request, "little"))
