"""The modelled DHT: signed records that take time to store, to spread and to find, and vanish with who holds them.

As Kademlia does it: a search asks ever nearer nodes, about half the bits of log2(n) of them one after the other; a
record lies on the few nodes whose names' hashes follow its key's; those that search ask one of them, which may not
have heard of the newest version yet. Records expire; when all holders are gone before, so is the record, until its
publisher stores it again.
"""

from __future__ import annotations

import asyncio
import bisect
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from ..protocol.identity import PeerId
from ..protocol.network import Record
from ..protocol.records import CheckedRecord, newer
from .draws import seed_of
from .wires import Wires

REPLICAS = 5
"""Nodes that hold a record: hivemind's default `num_replicas`."""

QUERY_BYTES = 300
"""A question to a node and its answer of nearer nodes; *assumed*."""

Incarnation = int


@dataclass(eq=False, kw_only=True)
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
        if viewer == self.publisher:
            return True
        return now_s >= self.visible_at_s and (not self.withheld or now_s >= self.withheld.get(viewer, 0.0))


class Directory:
    """All records of a simulated world. Whoever stores one has checked it, as a DHT's nodes do."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wires: Wires,
        *,
        seed: int,
        spread_s: float,
        stale: float = 0.0,
        lives: Callable[[str], Incarnation | None] = lambda host: 0,
    ) -> None:
        """Args:
        spread_s: mean time until others see what was stored.
        stale: probability that a search is answered by a holder that still has the version before.
        lives: which incarnation of a host's process runs now; None: none.
        """
        self._loop = loop
        self._wires = wires
        self._spread_s = spread_s
        self._stale = stale
        self._lives = lives
        self._random = random.Random(f"directory {seed}")
        self._versions: dict[str, dict[PeerId, list[Version]]] = {}
        self._signers: dict[str, list[PeerId]] = {}
        """Of each key, in order."""
        self._ring: list[tuple[int, str]] = []

    def n_hops(self) -> int:
        """Nodes that a search asks one after the other: about log2(n) / 2, and at least one."""
        return max(1, round(math.log2(max(2, len(self._wires.hosts))) / 2) + self._random.randint(-1, 1))

    def draw_delay_s(self, host: str) -> float:
        """How long a search by this host takes."""
        return self.draw_search(host)[0]

    def draw_search(self, host: str) -> tuple[float, int]:
        """(seconds, bytes sent) of finding the holders of a key."""
        others = len(self._wires.hosts) - 1
        if others < 1:
            return 0.0, 0
        n_hops = min(self.n_hops(), others)
        return sum(self._wires.round_trip_s(host, self._other(host)) for _ in range(n_hops)), n_hops * QUERY_BYTES

    def store(self, record: CheckedRecord, *, host: str) -> bool:
        """Keep a record if it is newer than its signer's last. Whether it was kept."""
        key = record.key
        signers = self._versions.setdefault(key, {})
        if record.signer not in signers:
            bisect.insort(self._signers.setdefault(key, []), record.signer)
        versions = signers.setdefault(record.signer, [])
        if versions and not newer(record, versions[-1].record):
            return False
        now = self._loop.time()
        withheld = dict.fromkeys(self._wires.cut_off_from(host), math.inf)
        versions.append(
            Version(
                record=record,
                publisher=host,
                holders=self.holders(key),
                visible_at_s=now + self._draw_spread_s(),
                withheld=withheld,
            )
        )
        self._forget_replaced(versions, now)
        return True

    def find(self, key: str, *, host: str, now_unix_s: float) -> list[Record]:
        """What a host finds: of every signer the newest record that has reached it and has not expired."""
        now = self._loop.time()
        found: list[Record] = []
        versions_of = self._versions.get(key, {})
        for signer in self._signers.get(key, ()):
            versions = versions_of[signer]
            version: Version | None = versions[-1]
            if self._stale or not (versions[-1].is_visible(host, now) and self._is_held(versions[-1])):
                version = self._found(versions, host, now)
            if version is not None and version.record.expires_at_s > now_unix_s:
                found.append(version.record)
        return found

    def _found(self, versions: list[Version], host: str, now: float) -> Version | None:
        """The newest of one signer's that the host sees; sometimes the one before."""
        newest = None
        for version in reversed(versions):
            if version.is_visible(host, now) and self._is_held(version):
                if newest is not None:
                    return version
                if not self._stale or version.publisher == host or self._random.random() >= self._stale:
                    return version
                newest = version
        return newest

    def holders(self, key: str) -> tuple[tuple[str, Incarnation], ...]:
        """The living nodes that hold a key: those whose hashes follow its own."""
        hosts = self._wires.hosts
        if len(self._ring) != len(hosts):
            self._ring = sorted((seed_of("node", host), host) for host in hosts)
        start = bisect.bisect(self._ring, (seed_of("key", key), ""))
        found: list[tuple[str, Incarnation]] = []
        for index in range(len(self._ring)):
            host = self._ring[(start + index) % len(self._ring)][1]
            incarnation = self._lives(host)
            if incarnation is not None:
                found.append((host, incarnation))
            if len(found) == REPLICAS:
                break
        return tuple(found)

    def heal(self, pairs: list[tuple[str, str]] | None = None) -> None:
        """These partitions (default: all) are over: what was withheld begins to spread."""
        seen_at_s = self._loop.time() + self._draw_spread_s()
        for signers in self._versions.values():
            for versions in signers.values():
                for version in versions:
                    late = [host for host, when in version.withheld.items() if when == math.inf]
                    if pairs is not None:
                        late = [host for host in late if (version.publisher, host) in pairs]
                    version.withheld.update(dict.fromkeys(late, seen_at_s))

    def _is_held(self, version: Version) -> bool:
        for host, incarnation in version.holders:  # noqa: SIM110 - a third of the time of `any`
            if self._lives(host) == incarnation:
                return True
        return False

    def _other(self, host: str) -> str:
        hosts = self._wires.hosts
        while (other := hosts[self._random.randrange(len(hosts))]) == host:
            pass
        return other

    def _draw_spread_s(self) -> float:
        return self._spread_s * self._random.uniform(0.5, 1.5)

    def _forget_replaced(self, versions: list[Version], now: float) -> None:
        """Drop what everybody sees a newer version of, but for the one before, which a stale answer may still show."""
        for index in range(len(versions) - 1, 1, -1):
            version = versions[index]
            if all(now >= max(version.visible_at_s, when) for when in (*version.withheld.values(), 0.0)):
                del versions[: index - 1]
                return
