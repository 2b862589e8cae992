"""Machines that carry the bytes of pairs that cannot connect otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .draws import seed_of
from .loop import VirtualLoop
from .paths import Path, Route

PathOf = Callable[[str, str], Path]
"""(source, target) -> the path of two hosts that connect directly."""


class _Led(NamedTuple):
    """A route from source to target over a relay."""

    route: Route
    source: str
    relay: str
    target: str


class Relays:
    """Which pairs go over which relay, and what befalls them with it. A pair keeps its relay, off or not."""

    def __init__(self, loop: VirtualLoop, *, seed: int, path_of: PathOf) -> None:
        self._loop = loop
        self._seed = seed
        self._path_of = path_of
        self._is_on: dict[str, bool] = {}
        self._led: dict[tuple[str, str], list[_Led]] = {}
        """By each pair of hosts that they run over."""

    def add(self, host: str) -> None:
        self._is_on[host] = True

    def choose(self, source: str, target: str) -> str | None:
        """That of a pair that needs one, always the same, another for other pairs; None if there is none."""
        candidates = [host for host in self._is_on if host not in (source, target)]
        if not candidates:
            return None
        first, second = sorted((source, target))
        return candidates[seed_of("relay", self._seed, first, second) % len(candidates)]

    def lead(self, route: Route, source: str, relay: str, target: str) -> None:
        """Let a route run over a relay from now on."""
        led = _Led(route, source, relay, target)
        for leg in ((source, relay), (relay, target)):
            self._led.setdefault(leg, []).append(led)
        self._join(led)
        if not self._is_on[relay]:
            route.cut(self._loop.now_s, (relay, relay))

    def over(self, source: str, target: str) -> list[Route]:
        """Routes that run from one of these hosts to the other and beyond, or came from elsewhere."""
        return [led.route for led in self._led.get((source, target), ())]

    def renew(self, source: str, target: str) -> None:
        """The path between these hosts has changed."""
        for led in self._led.get((source, target), ()):
            self._join(led)
            led.route.renew()

    def switch(self, host: str, *, is_on: bool) -> None:
        """A machine has come up or gone down: if it relays, so have the pairs that it relays for."""
        if host not in self._is_on:
            return
        self._is_on[host] = is_on
        now_s, cause = self._loop.now_s, (host, host)
        for led in [led for leg, all_led in self._led.items() if leg[0] == host for led in all_led]:
            if is_on:
                led.route.heal(now_s, cause)
            else:
                led.route.cut(now_s, cause)

    def _join(self, led: _Led) -> None:
        """Give it both paths, one after the other."""
        first, second = self._path_of(led.source, led.relay), self._path_of(led.relay, led.target)
        led.route.path = Path(
            latency_s=first.latency_s + second.latency_s,
            jitter_s=first.jitter_s + second.jitter_s,
            loss=1 - (1 - first.loss) * (1 - second.loss),
            bytes_per_s=min(first.bytes_per_s, second.bytes_per_s),
        )
