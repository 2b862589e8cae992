"""How fast members' lines are, and what follows for who reduces how much of a dense round.

With n contributors and a vector of V bytes, a peer that reduces the part p of it sends, and receives, its own slices,
(1 - p) V, and the reduced part to all others, (n - 1) p V: together V (1 + (n - 2) p). So a slow line is done earliest
if it reduces nothing; more than that no plan can do for it, since its own vector must travel.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

SLICE_BYTES_MIN = 2 << 20
"""Shorter ones say more about buffers and latency than about lines."""
MEMORY = 0.3
"""Weight of the newest round in a line's speed."""
UNEQUAL = 3.0
"""Lines count as alike unless one is so many times slower than the median: measurements scatter."""


class Uplink:
    """How fast this peer can send, learnt from the slices that it sent."""

    def __init__(self) -> None:
        self.bytes_per_s: float | None = None

    def note(self, rates: Sequence[float]) -> None:
        """A round's slices went out side by side at these rates in bytes per second.

        Their median speaks for all: a receiver that is slow itself slows down its own slice alone.
        """
        if not rates:
            return
        seen = len(rates) * statistics.median(rates)
        known = self.bytes_per_s if self.bytes_per_s is not None else seen
        self.bytes_per_s = (1 - MEMORY) * known + MEMORY * seen


def shares(rates: Sequence[float | None]) -> list[float] | None:
    """The part of the vector for each contributor to reduce, so that all are done at once; None: equal parts.

    Args:
        rates: bytes per second; None where unknown, which counts as the median of the others.
    """
    known = [rate for rate in rates if rate is not None]
    if len(rates) < 3 or not known or UNEQUAL * min(known) > statistics.median(known):
        return None
    speeds = [rate if rate is not None else statistics.median(known) for rate in rates]
    fast = sorted(speeds, reverse=True)
    n_reducers = next(n for n in range(len(fast), 0, -1) if fast[n - 1] * _time(fast[:n], len(fast)) > 1)
    time = _time(fast[:n_reducers], len(fast))
    parts = [max(0.0, (time * speed - 1) / (len(fast) - 2)) for speed in speeds]
    return [part / sum(parts) for part in parts]


def _time(speeds: Sequence[float], n: int) -> float:
    """When these reducers are done, in units of V, if they share the vector so that they all are at once."""
    return (n - 2 + len(speeds)) / sum(speeds)
