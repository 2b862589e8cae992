"""In which order the stages of a pipeline do the passes of a global batch.

A schedule lists for each stage the passes that it does, one after the other; a pass waits until what it needs is there.
With p stages, m microbatches and equal passes, the *bubble* (the share of time in which a stage waits) is

    GPipe (Huang et al. 2018, arXiv:1811.06965), 1F1B (Narayanan et al. 2021, arXiv:2104.04473)    (p-1) / (m+p-1)
    zero bubble, ZB-H1 (Qi et al. 2023, arXiv:2401.10241): (p-1) (F + B - W) of idle time at each stage, where F, B, W
    are the times of a forward pass, of the input's and of the weights' gradient

and GPipe keeps up to m microbatches' inputs at a stage, 1F1B and ZB-H1 at most p.

Where microbatches take random routes and replicas serve several trainers, nobody can fix what a stage does next; there
a trainer sends as fast as its *credit* allows, and gradients go first.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final


class Pass(enum.Enum):
    """What a stage does with a microbatch."""

    FORWARD = "forward"
    BACKWARD = "backward"
    """Both gradients, or the input's alone where a WEIGHTS pass follows."""
    WEIGHTS = "weights"
    """The gradient of the weights, in schedules that split it off."""


@dataclass(frozen=True, kw_only=True, order=True)
class Work:
    """One pass of one microbatch at one stage."""

    stage: int
    microbatch: int
    kind: Pass

    def needs(self, n_stages: int) -> Work | None:
        """The pass that must be done before, besides what the stage did earlier; None: there is none."""
        if self.kind is Pass.FORWARD:
            return None if self.stage == 0 else _work(self.stage - 1, self.microbatch, Pass.FORWARD)
        if self.kind is Pass.WEIGHTS:
            return _work(self.stage, self.microbatch, Pass.BACKWARD)
        if self.stage == n_stages - 1:
            return _work(self.stage, self.microbatch, Pass.FORWARD)
        return _work(self.stage + 1, self.microbatch, Pass.BACKWARD)


Order = Callable[[int, int, int], list[Work]]
"""(stage, n_stages, n_microbatches) -> all passes of that stage in their order."""


def gpipe(stage: int, n_stages: int, n_microbatches: int) -> list[Work]:
    """All forward passes, then all backward passes, the last microbatch first."""
    forward = [_work(stage, i, Pass.FORWARD) for i in range(n_microbatches)]
    return forward + [_work(stage, i, Pass.BACKWARD) for i in reversed(range(n_microbatches))]


def one_f_one_b(stage: int, n_stages: int, n_microbatches: int) -> list[Work]:
    """As many forward passes as there are stages behind, then one backward and one forward pass in turn."""
    n_ahead = min(n_stages - stage, n_microbatches)
    order = [_work(stage, i, Pass.FORWARD) for i in range(n_ahead)]
    for i in range(n_microbatches):
        order.append(_work(stage, i, Pass.BACKWARD))
        if i + n_ahead < n_microbatches:
            order.append(_work(stage, i + n_ahead, Pass.FORWARD))
    return order


def zero_bubble(stage: int, n_stages: int, n_microbatches: int) -> list[Work]:
    """ZB-H1: 1F1B with split backward passes. A stage does its weights' gradients `stage` microbatches late, so that
    those of early stages wait for nothing at the beginning, and those of late ones fill the bubble at the end."""
    order: list[Work] = []
    n_done, n_late = 0, stage
    for work in one_f_one_b(stage, n_stages, n_microbatches):
        order.append(work)
        if work.kind is Pass.BACKWARD and work.microbatch >= n_late:
            order.append(_work(stage, n_done, Pass.WEIGHTS))
            n_done += 1
    return order + [_work(stage, i, Pass.WEIGHTS) for i in range(n_done, n_microbatches)]


SCHEDULES: Final[Mapping[str, Order]] = {"gpipe": gpipe, "1f1b": one_f_one_b, "zero-bubble": zero_bubble}


class Launcher:
    """Says which passes may begin now.

    Args:
        order: None: no fixed order; as many microbatches are on their way as the credit allows, and gradients first.
        credit: microbatches that may be on their way at once (without an order only); at least 1.
        may_overlap: begin a pass before the one before it in the stage's order is done. For trainers: the stage itself
            queues what comes, and what was launched first is served first.
    Where the order is fixed, the passes of a stage are given out in that order.
    """

    def __init__(
        self,
        *,
        n_stages: int,
        n_microbatches: int,
        order: Order | None = None,
        credit: int = 1,
        may_overlap: bool = False,
    ) -> None:
        self._n_stages = n_stages
        self._n_microbatches = n_microbatches
        self._credit = n_microbatches if order is not None else credit
        self._may_overlap = may_overlap
        self._fixed = order is not None
        self._waiting = [(order or _gradients_first)(stage, n_stages, n_microbatches) for stage in range(n_stages)]
        self._running: list[Work] = []
        self._done: set[Work] = set()

    @property
    def finished(self) -> bool:
        return not self._running and not any(self._waiting)

    def begin(self) -> list[Work]:
        """All that may begin now, by stage. It counts as begun: `end` or `undo` it."""
        begun = []
        for stage in range(self._n_stages):
            while (work := self._next(stage)) is not None:
                self._waiting[stage].remove(work)
                self._running.append(work)
                begun.append(work)
        return begun

    def end(self, work: Work) -> None:
        """A pass is done, and what needs it may begin."""
        self._running.remove(work)
        self._done.add(work)

    def undo(self, work: Work) -> None:
        """A pass failed: it is the first that its stage does next."""
        self._running.remove(work)
        self._waiting[work.stage].insert(0, work)

    def _next(self, stage: int) -> Work | None:
        if not self._may_overlap and any(work.stage == stage for work in self._running):
            return None
        candidates: Sequence[Work] = self._waiting[stage][:1] if self._fixed else self._waiting[stage]
        return next((work for work in candidates if self._may_begin(work)), None)

    def _may_begin(self, work: Work) -> bool:
        needed = work.needs(self._n_stages)
        if needed is not None:
            return needed in self._done
        return self._n_on_their_way() < self._credit

    def _n_on_their_way(self) -> int:
        """Microbatches that have begun at the first stage and not yet come back to it."""
        n_begun = self._n_microbatches - sum(work.kind is Pass.FORWARD for work in self._waiting[0])
        return n_begun - sum(_work(0, i, Pass.BACKWARD) in self._done for i in range(n_begun))


def _gradients_first(stage: int, n_stages: int, n_microbatches: int) -> list[Work]:
    return [_work(stage, i, kind) for kind in (Pass.BACKWARD, Pass.FORWARD) for i in range(n_microbatches)]


def _work(stage: int, microbatch: int, kind: Pass) -> Work:
    return Work(stage=stage, microbatch=microbatch, kind=kind)
