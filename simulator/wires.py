"""The modelled internet: access lines, latencies, losses, partitions, relays.

Every host has one line up and one down, shared by all its transfers; the middle is not a bottleneck unless a path says
so. A message occupies both ends' lines while it is transferred, then travels for the latency of the path. Losses cost
time, not data: packets are sent again, as TCP does. Within one request messages therefore arrive once and in order;
requests overtake each other as their delays have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from .connection import Carriage, Connection
from .costs import NOTHING, CostModel
from .draws import mixed, seed_of
from .flows import Flows, padded
from .loop import VirtualLoop
from .messages import Message
from .nat import PUNCH_ROUND_TRIPS, Nat, Reach, reach
from .paths import Line, Path, Route
from .relays import Relays

PathRule = Callable[[str, str], Path]
"""(source, target) -> the path between two hosts for which nothing else was set."""


class Wires:
    """Moves bytes between hosts, which it knows by name."""

    def __init__(self, loop: VirtualLoop, *, seed: int, path: Path | PathRule, costs: CostModel = NOTHING) -> None:
        """Args:
        path: between hosts for which nothing else was set.
        costs: what a message occupies on a line.
        """
        self._costs = costs
        self._loop = loop
        self._seed = seed
        self._rule: PathRule = path if callable(path) else lambda source, target: path
        self._common = None if callable(path) else path
        """The path between any two hosts; None: they may differ."""
        self.flows = Flows(loop)
        """All that is transferred or computed at its time."""
        self._carriage = Carriage(self.flows, costs)
        self._hosts: list[str] = []
        self._up: dict[str, int] = {}
        self._down: dict[str, int] = {}
        self._nat: dict[str, Nat] = {}
        self._seeds: dict[str, int] = {}
        self.relays = Relays(loop, seed=seed, path_of=self._direct_path)
        self._stalls: dict[str, asyncio.Event] = {}
        """By host on whose lines nothing moves: set when something does."""
        self._routes: dict[str, dict[str, Route]] = {}
        """By source and target."""
        self._cuts: dict[tuple[str, str], None] = {}

    # ------------------------------------------------------------------------------------------------------- topology

    @property
    def hosts(self) -> list[str]:
        """In the order in which they were attached. Not to be changed."""
        return self._hosts

    def attach(self, host: str, line: Line, *, nat: Nat = Nat.OPEN, relay: bool = False) -> None:
        """Args: relay: carries the bytes of pairs that cannot connect otherwise. The first relays serve.

        Raises: ValueError if there is a host of this name.
        """
        if host in self._up:
            raise ValueError(f"there is a host {host!r} already: names are unique")
        self._hosts.append(host)
        self._routes[host] = {}
        contention = self._costs.wire.contention
        self._up[host] = self.flows.add_link(line.up_bytes_per_s, contention=contention)
        self._down[host] = self.flows.add_link(line.down_bytes_per_s, contention=contention)
        self._nat[host] = nat
        if nat is not Nat.OPEN:
            self._common = None
        self._seeds[host] = seed_of("host", self._seed, host)
        if relay:
            self.relays.add(host)
            self._routes = {
                source: {target: route for target, route in routes.items() if not route.is_blocked}
                for source, routes in self._routes.items()
            }

    def line(self, host: str) -> Line:
        return Line(
            up_bytes_per_s=self.flows.speed(self._up[host]), down_bytes_per_s=self.flows.speed(self._down[host])
        )

    def set_line(self, host: str, line: Line) -> None:
        """Change a host's speed; transfers under way go on at the new one."""
        self.flows.set_speed(self._up[host], line.up_bytes_per_s)
        self.flows.set_speed(self._down[host], line.down_bytes_per_s)
        if host in self._stalls and self._moves(host):
            self._stalls.pop(host).set()

    async def moving(self, host: str) -> None:
        """Wait until something moves on both of a host's lines."""
        while not self._moves(host):
            await self._stalls.setdefault(host, asyncio.Event()).wait()

    def route(self, source: str, target: str) -> Route:
        """What messages from one host to another meet."""
        routes = self._routes[source]
        found = routes.get(target)
        if found is None:
            found = routes[target] = self._new_route(source, target)
        return found

    def path(self, source: str, target: str) -> Path:
        return self.route(source, target).path

    def set_path(self, source: str, target: str, path: Path) -> None:
        """Set one direction, for messages whose transfer ends from now on."""
        self._common = None
        route = self.route(source, target)
        route.path = replace(path)
        route.renew()
        self.relays.renew(source, target)

    def reach(self, a: str, b: str) -> Reach:
        """How two hosts are connected."""
        return reach(self._seed, a, self._nat[a], b, self._nat[b])

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """Lose everything from any of these to any of those, what is on its way included, until it heals."""
        ends, now_s = list(targets), self._loop.time()
        for source in sources:
            for target in ends:
                self._cuts[source, target] = None
                for route in (self.route(source, target), *self.relays.over(source, target)):
                    route.cut(now_s, (source, target))

    def heal(self, pairs: Iterable[tuple[str, str]] | None = None) -> None:
        """End these cuts, or all."""
        for pair in list(self._cuts) if pairs is None else pairs:
            self._cuts.pop(pair, None)
            for route in (self.route(*pair), *self.relays.over(*pair)):
                route.heal(self._loop.now_s, pair)

    def cut_off_from(self, source: str) -> list[str]:
        """Hosts that nothing reaches from there."""
        return [target for target in self._hosts if (source, target) in self._cuts] if self._cuts else []

    # ------------------------------------------------------------------------------------------------------- transport

    @property
    def n_bytes(self) -> float:
        """Put on lines so far."""
        return self._carriage.n_bytes

    def send(self, route: Route, message: Message, *, is_caller: bool) -> None:
        """Send a message of one end of a session: the one that opened the connection, or the other. A peer asks
        another over a connection of its own, so two peers that ask each other have two."""
        connection = route.requests if is_caller else route.answers
        if connection is None:
            message.connection = Connection(self._carriage, route, message, is_caller=is_caller)
        else:
            message.connection = connection
            connection.put(message)

    @property
    def common_latency_s(self) -> float | None:
        """Of the path between any two hosts; None: paths may differ."""
        return None if self._common is None else self._common.latency_s

    def round_trips_s(self, host: str, others: Iterable[str]) -> float:
        """Latency there and back to all of these other hosts, one after the other, without jitter."""
        seconds, latency_s = 0.0, self._latency_s
        for other in others:
            seconds += latency_s(host, other) + latency_s(other, host)
        return seconds

    # ------------------------------------------------------------------------------------------------------- the rest

    def _latency_s(self, source: str, target: str) -> float:
        """Without a route for each pair that only searches: those of many hosts ask whoever comes."""
        found = self._routes[source].get(target)
        if found is not None:
            return found.path.latency_s
        is_open = self._nat[source] is Nat.OPEN or self._nat[target] is Nat.OPEN
        if is_open or self.reach(source, target) is not Reach.RELAYED:
            return self._rule(source, target).latency_s
        return self.path(source, target).latency_s

    def _direct_path(self, source: str, target: str) -> Path:
        found = self._routes[source].get(target)
        return self._rule(source, target) if found is None else found.path

    def _moves(self, host: str) -> bool:
        return self.flows.speed(self._up[host]) > 0 and self.flows.speed(self._down[host]) > 0

    def _new_route(self, source: str, target: str) -> Route:
        seed = mixed(self._seeds[source], self._seeds[target])
        route = Route(self._rule(source, target), seed, (self._up[source], self._down[target], -1, -1, -1))
        if self._nat[source] is not Nat.OPEN and self._nat[target] is not Nat.OPEN:
            self._lead_through_nats(route, source, target)
        return route

    def _lead_through_nats(self, route: Route, source: str, target: str) -> None:
        how = self.reach(source, target)
        if how is Reach.RELAYED:
            self._lead_over_relay(route, source, target)
        elif how is Reach.PUNCHED:
            there, back = route.path, self._rule(target, source)
            route.connect_s = PUNCH_ROUND_TRIPS * (there.latency_s + back.latency_s)

    def _lead_over_relay(self, route: Route, source: str, target: str) -> None:
        relay = self.relays.choose(source, target)
        if relay is None:
            route.is_blocked = True
            return
        route.links = padded((self._up[source], self._down[relay], self._up[relay], self._down[target]))
        self.relays.lead(route, source, relay, target)
        for leg in ((source, relay), (relay, target)):
            if leg in self._cuts:
                route.cut(self._loop.now_s, leg)
