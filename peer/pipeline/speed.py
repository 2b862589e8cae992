"""How fast a replica is for one trainer: by its own word, and by the clock.

Two numbers, in samples of a forward pass each second:

told    what a pass took to compute, as the replica says with its answer. It is its own speed, however many trainers
        queue there, so replicas get work in proportion to it. It is a claim: it never exceeds what a round trip allows.
seen    our work there / the round trip, where our work is what of ours was there when the pass was sent, itself
        included. By Little's law that is the throughput that we get, queues of others included: from it follows when
        a pass will be back. No replica can improve it but by answering sooner.

Both are means of the first ten passes, then exponential moving averages with a weight of a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Name = TypeVar("Name")
MEASURED = 3
"""Passes that came back before others are compared with a replica."""
SECONDS_MIN = 1e-9


@dataclass(eq=False)
class Speed:
    """Of one replica, for one trainer.

    Args:
        announced: samples/s, until it is measured.
    """

    announced: float
    smoothing: float
    told: float = 0.0
    seen: float = 0.0
    outstanding: float = 0.0
    """Our work there, in samples of a forward pass."""
    n_measured: int = 0

    def __post_init__(self) -> None:
        self.told = self.seen = self.announced

    @property
    def is_measured(self) -> bool:
        return self.n_measured >= MEASURED

    @property
    def load(self) -> float:
        """How much faster it is by its word than we see it: its queue, or a lie; at least 1."""
        return max(1.0, self.told / self.seen)

    def begin(self, size: float) -> float:
        """A pass is sent there. Returns: our work there, with this pass."""
        self.outstanding += size
        return self.outstanding

    def end(self, size: float) -> None:
        """A pass is not awaited any more, whatever became of it."""
        self.outstanding = max(0.0, self.outstanding - size)

    def learn(self, size: float, work: float, round_trip_s: float, told_s: float) -> None:
        """A pass came back.

        Args:
            work: what `begin` said.
            told_s: seconds of computing by the replica's word; 0: it says nothing.
        """
        self.n_measured += 1
        share = max(self.smoothing, 1 / self.n_measured)
        round_trip_s = max(round_trip_s, SECONDS_MIN)
        self.seen += share * (work / round_trip_s - self.seen)
        # It says nothing, or what is not possible: then the round trip is all that is known.
        computing_s = told_s if 0 < told_s < round_trip_s else round_trip_s
        self.told += share * (size / computing_s - self.told)

    def overdue(self, work: float, seconds: float) -> None:
        """A pass has not come back after so long: we see at most that of the replica."""
        self.seen += self.smoothing * (min(self.seen, work / max(seconds, SECONDS_MIN)) - self.seen)

    def lost(self, size: float, seconds: float) -> None:
        """A pass never came back: the replica is at best so fast, whatever it says."""
        self.told += self.smoothing * (min(self.told, size / max(seconds, SECONDS_MIN)) - self.told)

    def forgive(self, rate: float) -> None:
        """It was passed over for being late: what it was seen to do moves a little towards what it is believed to do,
        for its queue may be gone."""
        self.seen += self.smoothing * max(0.0, rate - self.seen)

    def finish_s(self, size: float) -> float:
        """When a pass that is sent now will be back, in seconds from now."""
        return (self.outstanding + size) / self.seen


def believed(speeds: Mapping[Name, Speed], *, word_max: float) -> dict[Name, float]:
    """The throughput that each replica gets work by: its word, unless that makes its load more than `word_max` times
    the median of all. So who claims too much gets a fixed multiple of what we have seen from it, at most."""
    loads = sorted(speed.load for speed in speeds.values() if speed.is_measured)
    if len(loads) < 2:
        return {name: speed.told for name, speed in speeds.items()}
    bound = word_max * loads[(len(loads) - 1) // 2]
    return {name: min(speed.told, bound * speed.seen) for name, speed in speeds.items()}


def is_late(speed: Speed, fellows: Sequence[Speed], size: float, rest_s: float, *, late_min: float) -> bool:
    """Whether a replica would be back with a pass after its fellows, if they got it and all that is to come.

    Args:
        size: of the pass, in samples of a forward pass.
        rest_s: until this trainer has sent everything that is still to come in this step.
        late_min: only who is seen so many times slower than the fastest fellow can be late: less is noise.
    """
    known = [fellow for fellow in fellows if fellow.is_measured]
    if not known or not speed.n_measured or late_min * speed.seen > max(one.seen for one in known):
        return False
    return speed.finish_s(size) > rest_s + min(one.finish_s(size) for one in known)
