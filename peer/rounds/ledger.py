"""The newest committed rounds, kept so that peers that missed them can catch up instead of downloading the state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import InvalidMessage
from .decision import Certificate, Decision
from .roster import Roster
from .transfer import Data

ROUNDS_MAX = 64
BYTES_MAX = 64 << 20
ROUNDS_MIN = 2
ITEM_FRAME_BYTES = 8
"""What a message adds to an item."""


@dataclass(frozen=True, kw_only=True)
class Committed:
    """A decision with its proof, and the roster that decided."""

    decision: Decision
    encoded: bytes
    certificate: Certificate
    roster: Roster

    def to_wire(self) -> pb.Commit:
        return pb.Commit(decision=self.encoded, certificate=self.certificate.to_wire())


def verified(message: pb.Commit, roster: Roster, lineage: bytes, round_index: int) -> Committed:
    """Check a commit from outside against the roster of its round. Raises InvalidMessage, BadSignature."""
    certificate = Certificate.from_wire(message.certificate)
    certificate.verify(roster, message.decision)
    decision = Decision.decode(message.decision, roster)
    stated = {decision.lineage, certificate.lineage}, {decision.round_index, certificate.round_index}
    if stated != ({lineage}, {round_index}):
        raise InvalidMessage(f"a commit of another round or lineage than round {round_index}: discarded")
    return Committed(decision=decision, encoded=message.decision, certificate=certificate, roster=roster)


class Ledger:
    """The last committed rounds with their payloads: at most 64 rounds or 64 MB, at least 2 rounds."""

    def __init__(self) -> None:
        self._entries: deque[tuple[Committed, dict[bytes, Data]]] = deque()
        self._bytes = 0

    def append(self, committed: Committed, items: Mapping[bytes, Data]) -> None:
        self._entries.append((committed, dict(items)))
        self._bytes += sum(len(item) for item in items.values())
        while len(self._entries) > ROUNDS_MIN and (self._bytes > BYTES_MAX or len(self._entries) > ROUNDS_MAX):
            _, dropped = self._entries.popleft()
            self._bytes -= sum(len(item) for item in dropped.values())

    @property
    def first_round(self) -> int | None:
        """The oldest round still kept."""
        return self._entries[0][0].decision.round_index if self._entries else None

    def since(self, round_index: int, limit: int) -> list[Committed]:
        """Committed rounds from `round_index` on, oldest first."""
        rounds = [committed for committed, _ in self._entries if committed.decision.round_index >= round_index]
        return rounds[:limit]

    def payloads(self, rounds: Iterable[Committed], *, bytes_max: int) -> Iterator[bytes]:
        """The items of kept rounds, in order, until they would no longer fit."""
        for item in (item for committed in rounds for item in committed.decision.items):
            data = self.item(item.hash)
            bytes_max -= item.length + ITEM_FRAME_BYTES
            if data is None or bytes_max < 0:
                return
            yield bytes(data)

    def base_of(self, round_index: int) -> bytes | None:
        """Digest of the state before a kept round."""
        for committed, _ in self._entries:
            if committed.decision.round_index == round_index:
                return committed.decision.base
        return None

    def item(self, item_hash: bytes) -> Data | None:
        for _, items in reversed(self._entries):
            if item_hash in items:
                return items[item_hash]
        return None

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0
