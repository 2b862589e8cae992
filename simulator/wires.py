"""The modelled internet: access lines, latencies, losses, partitions.

Every host has one line up and one down, shared by all its transfers; the middle is never the bottleneck. A message
occupies both ends' lines while it is transferred, then travels for the latency of the path. Losses cost time, not
data: packets are sent again, as TCP does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .flows import Flows
from .sharing import Flow, Link

PACKET_BYTES = 1400
RETRANSMIT_S = 0.2
"""Least time until a sender notices that the last packet of a message was lost; doubles each time."""

_RETRANSMITS_MAX = 8


@dataclass(frozen=True, kw_only=True)
class Line:
    """A host's access to the internet, in bytes per second. 0 stalls it; inf is no limit."""

    up_bytes_per_s: float = 12.5e6
    down_bytes_per_s: float = 12.5e6

    def __post_init__(self) -> None:
        for name, value in (("up_bytes_per_s", self.up_bytes_per_s), ("down_bytes_per_s", self.down_bytes_per_s)):
            if not value >= 0:
                raise ValueError(f"{name} is {value}: expected a number of bytes per second, 0 or more")


@dataclass(frozen=True, kw_only=True)
class Path:
    """One direction between two hosts."""

    latency_s: float = 0.02
    jitter_s: float = 0.005
    """Each message takes up to this much longer, uniformly."""
    loss: float = 0.0
    """Probability that a packet is lost."""

    def __post_init__(self) -> None:
        if not (self.latency_s >= 0 and self.jitter_s >= 0 and 0 <= self.loss < 1):
            raise ValueError(f"{self} is impossible: times are 0 or more seconds, loss is at least 0 and below 1")


class Wires:
    """Moves bytes between hosts, which it knows by name."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, seed: int, path: Path) -> None:
        """Args: path: between hosts for which nothing else was set."""
        self._seed = seed
        self._default = path
        self._flows = Flows(loop)
        self._up: dict[str, Link] = {}
        self._down: dict[str, Link] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        self._random: dict[tuple[str, str], random.Random] = {}
        self._cuts: dict[tuple[str, str], None] = {}

    # ------------------------------------------------------------------------------------------------------- topology

    @property
    def hosts(self) -> list[str]:
        return list(self._up)

    def attach(self, host: str, line: Line) -> None:
        self._up[host] = Link(name=f"{host} up", bytes_per_s=line.up_bytes_per_s)
        self._down[host] = Link(name=f"{host} down", bytes_per_s=line.down_bytes_per_s)

    def line(self, host: str) -> Line:
        return Line(up_bytes_per_s=self._up[host].bytes_per_s, down_bytes_per_s=self._down[host].bytes_per_s)

    def set_line(self, host: str, line: Line) -> None:
        """Change a host's speed; transfers under way go on at the new one."""
        self._up[host].bytes_per_s = line.up_bytes_per_s
        self._down[host].bytes_per_s = line.down_bytes_per_s
        self._flows.touch(self._up[host])
        self._flows.touch(self._down[host])

    def path(self, source: str, target: str) -> Path:
        return self._paths.get((source, target), self._default)

    def set_path(self, source: str, target: str, path: Path) -> None:
        """Set one direction, for messages whose transfer ends from now on."""
        self._paths[source, target] = replace(path)

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """Lose everything from any of these to any of those, what is on its way included, until `heal`."""
        ends = list(targets)
        self._cuts.update({(source, target): None for source in sources for target in ends})

    def heal(self) -> None:
        self._cuts.clear()

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cuts

    # ------------------------------------------------------------------------------------------------------- transport

    def start(self, source: str, target: str, n_bytes: int) -> Flow | None:
        """Begin to send; None within a host, where it takes no time."""
        if source == target:
            return None
        sent = n_bytes / (1 - self.path(source, target).loss)
        return self._flows.start((self._up[source], self._down[target]), sent)

    def stop(self, flow: Flow) -> None:
        self._flows.stop(flow)

    def draw_delay_s(self, source: str, target: str, n_bytes: int) -> float:
        """How long after its transfer a message arrives: latency, jitter, and the time that losses cost."""
        if source == target:
            return 0.0
        path, draw = self.path(source, target), self._draws(source, target)
        delay = path.latency_s + draw.random() * path.jitter_s
        return delay + self._retransmits_s(path, n_bytes, draw) if path.loss else delay

    def round_trip_s(self, a: str, b: str) -> float:
        """Latency there and back, without jitter."""
        return 0.0 if a == b else self.path(a, b).latency_s + self.path(b, a).latency_s

    def _retransmits_s(self, path: Path, n_bytes: int, draw: random.Random) -> float:
        """Losses in the middle of a message are repaired in one more latency each way, losses of its end by a timer."""
        n_packets = -(-n_bytes // PACKET_BYTES)
        delay = 0.0
        if draw.random() > (1 - path.loss) ** (n_packets - 1):
            delay += 2 * path.latency_s
        timer = max(RETRANSMIT_S, 3 * path.latency_s)
        for _ in range(_RETRANSMITS_MAX):
            if draw.random() >= path.loss:
                break
            delay += timer
            timer *= 2
        return delay

    def _draws(self, source: str, target: str) -> random.Random:
        """Each direction has its own randomness, so that traffic elsewhere does not change it."""
        if (source, target) not in self._random:
            self._random[source, target] = random.Random(f"path {self._seed} {source} {target}")
        return self._random[source, target]
