"""What a fleet is: machines with their habits, and the paths between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..nat import Nat
from ..paths import Path

HOUR_S = 3600.0
MBIT = 1e6 / 8
"""Bytes per second of one Mbit/s."""

MEMORY_BYTES = 16e9
"""Of a machine of which nothing is said; *assumed*."""

ROUND_TRIP_S = 0.04
"""Between regions of which nothing is known; *assumed*: about that of two homes of one continent."""

JITTER_SHARE = 0.1
"""Of the latency, by which packets come later or sooner; *assumed*."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """A time in which a machine is switched on."""

    start_s: float
    end_s: float
    """inf: to the end of the simulation."""

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.end_s:
            raise ValueError(f"a session from {self.start_s} to {self.end_s} s is none: it begins at 0 or later")


ALWAYS = (Session(start_s=0.0, end_s=float("inf")),)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine of a fleet."""

    flops_per_s: float
    """Sustained in training, float32."""
    memory_bytes_per_s: float
    up_bytes_per_s: float
    down_bytes_per_s: float
    memory_bytes: float = MEMORY_BYTES
    region: str = ""
    access_latency_s: float = 0.0
    """One way, from the machine to its region's exchange."""
    nat: Nat = Nat.OPEN
    sessions: tuple[Session, ...] = ALWAYS
    """Ascending, apart from each other."""
    is_relay: bool = False

    def __post_init__(self) -> None:
        ends = [session.end_s for session in self.sessions[:-1]]
        if any(session.start_s <= end for end, session in zip(ends, self.sessions[1:], strict=True)):
            raise ValueError("a machine's sessions overlap: give them in order, apart from each other")


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A population of machines. `round_trip_s` may lack pairs: they are `default_round_trip_s` apart."""

    machines: tuple[Machine, ...]
    round_trip_s: dict[tuple[str, str], float] = field(default_factory=dict)
    """(region, region) -> seconds there and back."""
    bytes_per_s: dict[tuple[str, str], float] = field(default_factory=dict)
    """(region, region) -> most that one transfer gets between them."""
    default_round_trip_s: float = ROUND_TRIP_S
    jitter_share: float = JITTER_SHARE
    """Of the latency."""
    loss: float = 0.0

    def path(self, a: Machine, b: Machine) -> Path:
        """From one machine to another."""
        pair, riap = (a.region, b.region), (b.region, a.region)
        round_trip_s = self.round_trip_s.get(pair, self.round_trip_s.get(riap, self.default_round_trip_s))
        latency_s = round_trip_s / 2 + a.access_latency_s + b.access_latency_s
        speed = self.bytes_per_s.get(pair, self.bytes_per_s.get(riap, float("inf")))
        return Path(latency_s=latency_s, jitter_s=self.jitter_share * latency_s, loss=self.loss, bytes_per_s=speed)
