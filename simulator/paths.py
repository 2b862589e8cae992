"""One direction between two hosts: how long it takes, what it loses, when it is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .draws import Draws
from .flows import Links

if TYPE_CHECKING:
    from .connection import Connection

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
    bytes_per_s: float = float("inf")
    """Most that one transfer gets in the middle of the internet, however idle the lines at its ends."""

    def __post_init__(self) -> None:
        if not (self.latency_s >= 0 and self.jitter_s >= 0 and 0 <= self.loss < 1 and self.bytes_per_s > 0):
            raise ValueError(
                f"{self} is impossible: times are 0 or more seconds, loss is at least 0 and below 1, speed above 0"
            )


Cause = tuple[str, str]
"""What cuts a route: a partition of two hosts that it runs over, or a relay, twice, that is off."""


class Standing(NamedTuple):
    """A connection between two processes that had to find a way to each other."""

    lives: tuple[int, int]
    """Of the processes; others have to connect anew."""
    since_s: float
    """When the first words can arrive; later than now while it is made."""


class Route(Draws):
    """What messages from one host to another meet, by draws of its own, which traffic elsewhere does not change.

    Lives as long as its world, which may have millions; `path` may be replaced.
    """

    __slots__ = (
        *("_cut_by", "_cut_since_s", "_cuts", "answers", "connect_s", "is_blocked", "is_cut", "links", "path"),
        *("requests", "stands"),
    )

    def __init__(self, path: Path, seed: int, links: Links) -> None:
        """Args: links: of the hosts' lines, and of a relay's."""
        self._state = seed
        self.path = path
        self.links = links
        self.requests: Connection | None = None
        """What the source's own requests go through, while there are any."""
        self.answers: Connection | None = None
        """What its answers go through: back in the connection that the other end has opened."""
        self.connect_s = 0.0
        """What it takes to connect, besides the latency of the first message. Connections are kept."""
        self.stands: Standing | None = None
        """The connection, if it takes time to have one."""
        self.is_blocked = False
        """There is no way at all."""
        self.is_cut = False
        self._cut_by: tuple[Cause, ...] = ()
        self._cut_since_s = 0.0
        self._cuts: tuple[tuple[float, float], ...] = ()

    def draw_delay_s(self, n_bytes: int) -> float:
        """How long after its transfer a message arrives: latency, jitter, and the time that losses cost."""
        path = self.path
        jitter, fate = self.pair()
        delay = path.latency_s + jitter * path.jitter_s
        loss = path.loss
        if loss:
            n_packets = n_bytes // PACKET_BYTES + 1
            if fate >= (1 - loss) ** n_packets:
                return delay + self._retransmits_s(n_packets)
        return delay

    def cut(self, now_s: float, cause: Cause) -> None:
        """Lose everything until all causes are gone."""
        if not self.is_cut:
            self.is_cut, self._cut_since_s = True, now_s
        if cause not in self._cut_by:
            self._cut_by += (cause,)

    def heal(self, now_s: float, cause: Cause) -> None:
        """A cause is gone, or never was there."""
        self._cut_by = tuple([one for one in self._cut_by if one != cause])
        if self.is_cut and not self._cut_by:
            self.is_cut = False
            self._cuts = (*self._cuts, (self._cut_since_s, now_s))

    def renew(self) -> None:
        """The path has changed: what is sent next begins anew."""
        for connection in (self.requests, self.answers):
            if connection is not None:
                connection.renew()

    def was_cut(self, at_s: float) -> bool:
        """Whether what arrived at that time, now or before, was lost."""
        if self.is_cut and at_s >= self._cut_since_s:
            return True
        return any(begun_s <= at_s < healed_s for begun_s, healed_s in self._cuts)

    def _retransmits_s(self, n_packets: int) -> float:
        """At least one of these packets was lost. A loss before the end is repaired in one more round trip, the loss
        of the last packet by a timer."""
        loss, latency_s, draw = self.path.loss, self.path.latency_s, self.random
        last_arrives = (1 - loss) * (1 - (1 - loss) ** (n_packets - 1)) / (1 - (1 - loss) ** n_packets)
        if draw() < last_arrives:
            return 2 * latency_s
        delay = timer = max(RETRANSMIT_S, 3 * latency_s)
        for _ in range(_RETRANSMITS_MAX):
            if draw() >= loss:
                break
            timer *= 2
            delay += timer
        return delay
