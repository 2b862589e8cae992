"""Where a churning pipeline's time went, by the daemons' own logs.

Three factors make up its share of the optimum: what the members that are alive could do, placed as they are, of what
all machines alive could do, placed well; of the passes done, those that were needed; and the rest, in which the slowest
stage waited: for a step to fill and to drain, for routes to be mended, for the decision.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gossamer.peer.event_kinds import Joined, StepPassed
from gossamer.peer.events import Entry
from gossamer.peer.pipeline.server import BACKWARD_PASSES

from .churning import Peer, best

Logs = Mapping[str, Sequence[Entry]]


def work_of(n_stages: int) -> tuple[float, ...]:
    """Forward passes' worth of each stage for one microbatch: the last one's backward pass needs none before it."""
    return (*(1 + BACKWARD_PASSES for _ in range(n_stages - 1)), BACKWARD_PASSES)


@dataclass(frozen=True)
class Losses:
    """Shares, whose product is what was done of `whole`."""

    placed: float
    """Of the optimum: what members could do where they are."""
    once: float
    """Of the passes done: those that are needed."""
    busy: float
    """The rest."""


class Rosters:
    """Who served which stage when."""

    def __init__(self, logs: Logs, peers: Sequence[Peer]) -> None:
        self._began_s = min(entry.unix_s for log in logs.values() for entry in log)
        machine_of = {log[0].peer: peers[int(folder)] for folder, log in logs.items() if log}
        first: dict[int, tuple[float, list[tuple[Peer, int]]]] = {}
        for log in logs.values():
            for entry in log:
                if isinstance(entry.event, Joined):
                    joined, at_s = entry.event, entry.unix_s - self._began_s
                    if joined.round not in first or at_s < first[joined.round][0]:
                        seats = zip(joined.roster, joined.stages, strict=True)
                        first[joined.round] = (
                            at_s,
                            [(machine_of[peer], stage) for peer, stage in seats if stage is not None],
                        )
        self._changes = [first[index] for index in sorted(first)]

    def rate(self, now_s: float, work: Sequence[float], *, still: bool) -> float:
        """Microbatches/s of the slowest stage, where a machine of speed 1 does one forward pass a second; members that
        have died count nothing."""
        place = bisect_right(self._changes, now_s, key=lambda change: change[0]) - 1
        rates = [0.0] * len(work)
        if place >= 0:
            for peer, stage in self._changes[place][1]:
                rates[stage] += peer.speed if still or peer.life(now_s) else 0.0
        return min(rate / each for rate, each in zip(rates, work, strict=True))


def losses(
    logs: Logs, peers: Sequence[Peer], n_stages: int, ticks: Sequence[float], *, done_of_whole: float, still: bool
) -> Losses:
    """Args:
    done_of_whole: the share of the optimum that was reached.
    """
    rosters, work = Rosters(logs, peers), work_of(n_stages)
    here = [[peer.speed for peer in peers if still or peer.life(now_s)] for now_s in ticks]
    could = sum(best(speeds, n_stages, work)[0] for speeds in here)
    placed = sum(rosters.rate(now_s, work, still=still) for now_s in ticks) / could
    steps = [entry.event for log in logs.values() for entry in log if isinstance(entry.event, StepPassed)]
    counted = sum({step.round: step.counted for step in steps}.values())
    passes = sum(step.forward_passes + BACKWARD_PASSES * step.backward_passes for step in steps)
    once = min(1.0, counted * sum(work) / passes) if passes else 0.0
    return Losses(placed=placed, once=once, busy=done_of_whole / (placed * once) if placed * once else 0.0)
