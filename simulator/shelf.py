"""What the modelled DHT keeps under one key: of every signer the newest record, and those that it replaces.

Each search asks for all of it, and next to all of it has long been seen by everybody. So that is kept as a list to hand
out, and only what is new, or was withheld from somebody, is looked at for each search.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..protocol.identity import PeerId
from ..protocol.network import Record
from ..protocol.records import CheckedRecord, newer
from .draws import seed_of

Incarnation = int
"""Of all that a node of the DHT ever was, each has another."""


@dataclass(eq=False, kw_only=True, slots=True)
class Version:
    """A record that somebody stored."""

    record: CheckedRecord
    publisher: str
    holders: tuple[tuple[str, Incarnation], ...]
    visible_at_s: float
    """When it has spread to all holders."""
    withheld: dict[str, float]
    """Hosts that were cut off when it was stored -> when they see it; inf until the partition heals."""

    def is_visible(self, viewer: str, now_s: float) -> bool:
        return viewer == self.publisher or (now_s >= self.visible_at_s and now_s >= self.withheld.get(viewer, 0.0))

    def is_visible_to_all(self, now_s: float) -> bool:
        return now_s >= self.visible_at_s and (not self.withheld or now_s >= max(self.withheld.values()))


Look = Callable[[list[Version]], Version | None]
"""Which of one signer's versions, oldest first, a host finds."""


class Shelf:
    """All under one key."""

    __slots__ = (
        *("_first_expiry_s", "_newest", "_signers", "_unsettled", "_versions"),
        *("holders", "n_left", "n_nodes", "nodes", "place"),
    )

    def __init__(self, key: str) -> None:
        self.place = seed_of("key", key)
        """On the ring of nodes."""
        self.nodes: list[tuple[str, Incarnation | None]] = []
        """Those that follow `place`, as they were when `holders` was worked out."""
        self.n_nodes = 0
        """That there were then, altogether."""
        self.holders: tuple[tuple[str, Incarnation], ...] = ()
        self.n_left = 0
        """Nodes that had left when it was last searched."""
        self._signers: list[PeerId] = []
        """In order, as those that follow."""
        self._versions: list[list[Version]] = []
        self._newest: list[CheckedRecord] = []
        self._unsettled: dict[PeerId, None] = {}
        """Whose newest record may not be what everybody finds."""
        self._first_expiry_s = math.inf
        """No record is over before."""

    def has_newer(self, record: CheckedRecord) -> bool:
        """Whether a record comes too late."""
        index = self._index(record.signer)
        return index is not None and not newer(record, self._newest[index])

    def add(self, version: Version, now_s: float) -> None:
        """A version that is newer than its signer's others."""
        record = version.record
        index = self._index(record.signer)
        if index is None:
            index = bisect.bisect_left(self._signers, record.signer)
            self._signers.insert(index, record.signer)
            self._versions.insert(index, [])
            self._newest.insert(index, record)
        self._versions[index].append(version)
        self._newest[index] = record
        self._unsettled[record.signer] = None
        self._first_expiry_s = min(self._first_expiry_s, record.expires_at_s)
        _forget_replaced(self._versions[index], now_s)

    def unsettle(self) -> None:
        """Nodes are gone: what they held must be looked at again."""
        self._unsettled = dict.fromkeys(self._signers)

    def find(self, look: Look, is_settled: Callable[[Version], bool], *, now_unix_s: float) -> list[Record]:
        """What a host finds, of every signer one record that has not expired, in the signers' order.

        Args:
            is_settled: whether a signer's newest version is found by everybody, until nodes are gone.
        """
        found: list[Record | None] = [*self._newest]
        for signer in sorted(self._unsettled):
            index = bisect.bisect_left(self._signers, signer)
            versions = self._versions[index]
            if is_settled(versions[-1]):
                del self._unsettled[signer]
                continue
            seen = look(versions)
            found[index] = None if seen is None else seen.record
        if not self._unsettled and now_unix_s < self._first_expiry_s:
            return found  # type: ignore[return-value]  # each is there
        self._first_expiry_s = min((record.expires_at_s for record in self._newest), default=math.inf)
        return [record for record in found if record is not None and record.expires_at_s > now_unix_s]

    def versions(self) -> Iterator[Version]:
        for versions in self._versions:
            yield from versions

    def _index(self, signer: PeerId) -> int | None:
        index = bisect.bisect_left(self._signers, signer)
        return index if index < len(self._signers) and self._signers[index] == signer else None


def _forget_replaced(versions: list[Version], now_s: float) -> None:
    """Drop what everybody sees a newer version of, but for the one before, which a stale answer may still show."""
    for index in range(len(versions) - 1, 1, -1):
        if versions[index].is_visible_to_all(now_s):
            del versions[: index - 1]
            return
