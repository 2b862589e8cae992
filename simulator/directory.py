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
from collections.abc import Collection

from ..protocol.network import Record
from ..protocol.records import CheckedRecord
from .draws import Draws, seed_of
from .shelf import Incarnation, Shelf, Version
from .wires import Wires

REPLICAS = 5
"""Nodes that hold a record: hivemind's default `num_replicas`."""

QUERY_BYTES = 300
"""A question to a node and its answer of nearer nodes; *assumed*."""


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
    ) -> None:
        """Args:
        spread_s: mean time until others see what was stored.
        stale: probability that a search is answered by a holder that still has the version before.
        """
        self._loop = loop
        self._wires = wires
        self._spread_s = spread_s
        self._stale = stale
        self._lives: dict[str, Incarnation] = {}
        """Of the nodes that are there now."""
        self._n_lives = self._n_left = 0
        self._n_hosts = self._mean_hops = 0
        self._seed = seed
        self._draws: dict[str, Draws] = {}
        """By host, so that those of one run do not depend on what others do meanwhile."""
        self._shelves: dict[str, Shelf] = {}
        """By key."""
        self._ring: list[tuple[int, str]] = []

    def enter(self, host: str) -> None:
        """A host's process has come up: it is a node of the DHT, with nothing on it."""
        self._n_lives += 1
        self._lives[host] = self._n_lives

    def leave(self, host: str) -> None:
        """It is gone, and all that it held."""
        del self._lives[host]
        self._n_left += 1

    def n_hops(self, host: str) -> int:
        """Nodes that a search by this host asks one after the other: about log2(n) / 2, and at least one."""
        n_hosts = len(self._wires.hosts)
        if n_hosts != self._n_hosts:
            self._n_hosts, self._mean_hops = n_hosts, round(math.log2(max(2, n_hosts)) / 2)
        return max(1, self._mean_hops + self._draws_of(host).below(3) - 1)

    def draw_delay_s(self, host: str) -> float:
        """How long a search by this host takes."""
        return self.draw_search(host)[0]

    def draw_search(self, host: str) -> tuple[float, int]:
        """(seconds, bytes sent) of finding the holders of a key."""
        others = len(self._wires.hosts) - 1
        if others < 1:
            return 0.0, 0
        n_hops, latency_s = min(self.n_hops(host), others), self._wires.common_latency_s
        if latency_s is not None:
            return 2 * n_hops * latency_s, n_hops * QUERY_BYTES  # whomever it asks
        asked = self._others(host, n_hops)
        return self._wires.round_trips_s(host, asked), n_hops * QUERY_BYTES

    def store(self, record: CheckedRecord, *, host: str) -> bool:
        """Keep a record if it is newer than its signer's last. Whether it was kept."""
        shelf = self._shelf(record.key)
        if shelf.has_newer(record):
            return False
        now_s = self._loop.time()
        version = Version(
            record=record,
            publisher=host,
            holders=self.holders(record.key),
            visible_at_s=now_s + self._draw_spread_s(host),
            withheld=dict.fromkeys(self._wires.cut_off_from(host), math.inf),
        )
        shelf.add(version, now_s)
        return True

    def find(self, key: str, *, host: str, now_unix_s: float) -> list[Record]:
        """What a host finds: of every signer the newest record that has reached it and has not expired."""
        shelf = self._shelves.get(key)
        if shelf is None:
            return []
        if shelf.n_left != self._n_left:
            shelf.n_left = self._n_left
            shelf.unsettle()
        now_s = self._loop.time()

        def is_settled(version: Version) -> bool:
            return not self._stale and version.is_visible_to_all(now_s) and self._is_held(version)

        return shelf.find(lambda versions: self._found(versions, host, now_s), is_settled, now_unix_s=now_unix_s)

    def _found(self, versions: list[Version], host: str, now: float) -> Version | None:
        """The newest of one signer's that the host sees; sometimes the one before."""
        newest = None
        for version in reversed(versions):
            if version.is_visible(host, now) and self._is_held(version):
                if newest is not None:
                    return version
                if not self._stale or version.publisher == host or self._draws_of(host).random() >= self._stale:
                    return version
                newest = version
        return newest

    def holders(self, key: str) -> tuple[tuple[str, Incarnation], ...]:
        """The living nodes that hold a key: those whose hashes follow its own."""
        hosts, shelf = self._wires.hosts, self._shelf(key)
        if len(self._ring) != len(hosts):
            self._ring = sorted((seed_of("node", host), host) for host in hosts)
        if shelf.n_nodes != len(hosts) or not self._live_as_before(shelf.nodes):
            shelf.n_nodes, shelf.nodes = len(hosts), self._nodes_after(shelf.place)
            shelf.holders = tuple([(host, life) for host, life in shelf.nodes if life is not None])
        return shelf.holders

    def _live_as_before(self, nodes: list[tuple[str, Incarnation | None]]) -> bool:
        for host, life in nodes:  # noqa: SIM110 - a third of the time of `all`
            if self._lives.get(host) != life:
                return False
        return True

    def _nodes_after(self, place: int) -> list[tuple[str, Incarnation | None]]:
        """The nodes that follow, and which lives they are in, until enough of them live."""
        start, n_living = bisect.bisect(self._ring, (place, "")), 0
        found: list[tuple[str, Incarnation | None]] = []
        for index in range(len(self._ring)):
            host = self._ring[(start + index) % len(self._ring)][1]
            incarnation = self._lives.get(host)
            found.append((host, incarnation))
            n_living += incarnation is not None
            if n_living == REPLICAS:
                break
        return found

    def _shelf(self, key: str) -> Shelf:
        found = self._shelves.get(key)
        if found is None:
            found = self._shelves[key] = Shelf(key)
        return found

    def heal(self, pairs: Collection[tuple[str, str]] | None = None) -> None:
        """These partitions (default: all) are over: what was withheld begins to spread."""
        seen_at_s = self._loop.time() + self._draw_spread_s("")
        for shelf in self._shelves.values():
            for version in shelf.versions():
                late = [host for host, when in version.withheld.items() if when == math.inf]
                if pairs is not None:
                    late = [host for host in late if (version.publisher, host) in pairs]
                version.withheld.update(dict.fromkeys(late, seen_at_s))

    def _is_held(self, version: Version) -> bool:
        for host, incarnation in version.holders:  # noqa: SIM110 - a third of the time of `any`
            if self._lives.get(host) == incarnation:
                return True
        return False

    def _others(self, host: str, n: int) -> list[str]:
        """As many, each drawn from all others."""
        hosts, draws = self._wires.hosts, self._draws_of(host)
        found: list[str] = []
        while len(found) < n:
            drawn = hosts[draws.below(len(hosts))]
            if drawn != host:
                found.append(drawn)
        return found

    def _draws_of(self, host: str) -> Draws:
        draws = self._draws.get(host)
        if draws is None:
            draws = self._draws[host] = Draws(seed_of("directory", self._seed, host))
        return draws

    def _draw_spread_s(self, host: str) -> float:
        return self._spread_s * (0.5 + self._draws_of(host).random())
