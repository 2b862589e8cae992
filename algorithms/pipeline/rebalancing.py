"""Which replica of a pipeline should serve another stage, and which stage a newcomer should: pure arithmetic.

A pipeline is as fast as its slowest stage. The rule moves one replica at a time, from a stage with much to spare to the
slowest, and only where that is worth the download: both stages must end a tenth faster than the slowest was. So the
stages' rates, in ascending order, only ever grow by moves, and replicas don't move to and fro
(docs/design/0004-pipelines.md, "Moves"; the idea of moving peers from short queues to long ones is that of SWARM,
arXiv:2301.11913, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

GAIN = 1.1
"""The slowest stage must become faster by this factor."""
SAFE = 2
"""A stage with fewer replicas is one death from being lost."""
LOYALTY = 1.5
"""Who has a stage's state leaves it for a slower one only if its own is faster by this factor without it."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A replica as the board knows it.

    Args:
        samples_per_s: that it passes at its stage; 0: not known.
        n_waiting: passes in its queue.
        rested_s: since it last moved.
        may_move: False for one that is on its way.
    """

    name: str
    stage: int
    samples_per_s: float = 0.0
    n_waiting: int = 0
    rested_s: float = math.inf
    may_move: bool = True


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """A move that is worth it."""

    name: str
    from_stage: int
    to_stage: int
    reason: str


class Fleet:
    """Replicas and stages, with what follows from them.

    Args:
        work: of each stage, relative: what a pass costs there. None: all alike.
    """

    def __init__(self, replicas: Sequence[Serving], n_stages: int, work: Sequence[float] | None = None) -> None:
        self.replicas = sorted((one for one in replicas if 0 <= one.stage < n_stages), key=lambda one: one.name)
        self.n_stages = n_stages
        self.work = tuple(work) if work is not None else (1.0,) * n_stages
        known = [one.samples_per_s * self.work[one.stage] for one in self.replicas if one.samples_per_s > 0]
        self._mean = sum(known) / len(known) if known else 1.0
        self._at: list[list[Serving]] = [[] for _ in range(n_stages)]
        for one in self.replicas:
            self._at[one.stage].append(one)

    def power(self, replica: Serving) -> float:
        """Work per second; the mean of the others where it is not known."""
        return replica.samples_per_s * self.work[replica.stage] if replica.samples_per_s > 0 else self._mean

    def rate(self, stage: int) -> float:
        """Samples/s of a stage."""
        return sum(self.power(one) for one in self.at(stage)) / self.work[stage]

    def at(self, stage: int) -> list[Serving]:
        return self._at[stage]

    def queue(self, stage: int) -> float:
        """Mean length of its replicas' queues."""
        here = self.at(stage)
        return sum(one.n_waiting for one in here) / len(here) if here else math.inf

    def neediest(self, *, rather: int = -1, but: Collection[int] = ()) -> int:
        """The stage that one more replica helps most: one that a death or two would end, else the slowest.

        Args:
            rather: among equals.
            but: stages that are no choice, unless they are all.
        """
        stages = [stage for stage in range(self.n_stages) if stage not in but] or list(range(self.n_stages))

        def need(stage: int) -> tuple[float, ...]:
            return (
                min(SAFE, len(self.at(stage))),
                round(self.rate(stage) / self._mean, 6),
                -self.queue(stage),
                stage != rather,
                stage,
            )

        return min(stages, key=need)

    def is_better_off(self, own: int, other: int) -> bool:
        """Whether a replica with the state of one stage should rather take another, and download that one's state.

        It leaves no stage of which fewer than `SAFE` others are there, and goes where one death would end a stage, or
        to one that is slower by far.
        """
        if own == other or len(self.at(own)) < SAFE:
            return False
        return len(self.at(other)) < SAFE or LOYALTY * self.rate(other) < self.rate(own)


def work_of_stages(replicas: Sequence[Serving], n_stages: int) -> tuple[float, ...] | None:
    """What a pass costs at each stage, relative, by what replicas measured: in inverse proportion to the speed of the
    median one. Where a stage has fewer than `SAFE` of them, one odd machine would pass for an odd stage: None.
    """
    speeds: list[list[float]] = [[] for _ in range(n_stages)]
    for one in replicas:
        if one.samples_per_s > 0 and 0 <= one.stage < n_stages:
            speeds[one.stage].append(one.samples_per_s)
    if any(len(here) < SAFE for here in speeds):
        return None
    return tuple(1.0 / median(here) for here in speeds)


def urgent_move(fleet: Fleet, *, but: Collection[int] = ()) -> Proposed | None:
    """A replica for a stage that one death would end, from the stage with most of them.

    The giver keeps two; one, if the stage has none.
    """
    counts = {stage: len(fleet.at(stage)) for stage in range(fleet.n_stages)}
    needy = [stage for stage in counts if counts[stage] < SAFE and stage not in but]
    if not needy:
        return None
    target = min(needy, key=lambda stage: (counts[stage], stage))
    keeps = SAFE if counts[target] else 1
    for giver in sorted(counts, key=lambda stage: (-counts[stage], -fleet.rate(stage), stage)):
        movable = [one for one in fleet.at(giver) if one.may_move]
        if counts[giver] > keeps and giver != target and movable:
            # The most rested, so that it is not always the same one; of those the slowest: it is missed least.
            chosen = min(movable, key=lambda one: (-one.rested_s, fleet.power(one), one.name))
            reason = f"stage {target} has {counts[target]} replica(s), stage {giver} {counts[giver]}"
            return Proposed(name=chosen.name, from_stage=giver, to_stage=target, reason=reason)
    return None


def balancing_move(fleet: Fleet, *, rest_s: float, but: Collection[int] = ()) -> Proposed | None:
    """The move that makes the slowest stage fastest, if it is worth it.

    Args:
        rest_s: a replica that moved must have stayed so long.
        but: stages that nobody is to move to.
    """
    open_to = [stage for stage in range(fleet.n_stages) if stage not in but]
    if not open_to:
        return None
    rates = [fleet.rate(stage) for stage in range(fleet.n_stages)]
    target = min(open_to, key=lambda stage: (rates[stage], -fleet.queue(stage), stage))
    best: tuple[tuple[float, float, str], Proposed] | None = None
    for one in fleet.replicas:
        source = one.stage
        stays_safe = len(fleet.at(source)) > SAFE
        if source == target or not stays_safe or not one.may_move or one.rested_s < rest_s:
            continue
        raised = rates[target] + fleet.power(one) / fleet.work[target]
        lowered = rates[source] - fleet.power(one) / fleet.work[source]
        slower = min(raised, lowered)
        if slower < GAIN * rates[target] or (best is not None and (-slower, -rates[source], one.name) >= best[0]):
            continue
        reason = f"stage {target} did {rates[target]:.4g} samples/s, stage {source} {rates[source]:.4g}"
        best = (
            (-slower, -rates[source], one.name),
            Proposed(name=one.name, from_stage=source, to_stage=target, reason=reason),
        )
    return best[1] if best is not None else None
