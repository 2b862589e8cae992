"""When a trainer may ask for its passes: as fast as its credit allows, or in the order of a schedule.

A trainer keeps the order of its own microbatches, stage by stage, whichever replicas they go to. Passes of several
trainers meet at a replica in the order in which they come. A microbatch that a trainer passes for another one, since
that has died, has no place in the order: it goes when it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Protocol

from ...algorithms.pipeline.schedules import SCHEDULES, Launcher, Pass, Work
from .backlog import Phase

CREDIT = "credit"
SPLIT = (CREDIT, "zero-bubble")
"""Schedules in which a stage leaves the gradients of its weights until nothing else waits."""
KINDS = {Phase.FORWARD: Pass.FORWARD, Phase.BACKWARD: Pass.BACKWARD}


class Turns(Protocol):
    """Says when a pass of one microbatch may begin."""

    def __call__(self, stage: int, phase: Phase) -> AbstractAsyncContextManager[None]:
        """Entered when it is this pass's turn, left when the pass is done."""
        ...


def any_time(stage: int, phase: Phase) -> AbstractAsyncContextManager[None]:
    """Turns without an order."""
    return nullcontext()


class Pacing:
    """The turns of one trainer's microbatches of one step.

    Args:
        schedule: "credit", or a name in SCHEDULES.
        credit: microbatches on their way at once, where there is no order.
        indices: the microbatches that are this trainer's from the start.
    """

    def __init__(self, schedule: str, *, n_stages: int, credit: int, indices: Sequence[int]) -> None:
        self._credit = asyncio.Semaphore(credit)
        self._ordered: _Ordered | None = None
        if schedule != CREDIT and indices:
            self._ordered = _Ordered(schedule, n_stages, indices)

    def way(self, index: int) -> AbstractAsyncContextManager[object]:
        """Entered when a microbatch may begin, left when it is back."""
        if self._ordered is not None and index in self._ordered.places:
            return nullcontext()
        return self._credit

    def turns(self, index: int) -> Turns:
        """For the passes of a microbatch."""
        ordered = self._ordered
        if ordered is None or index not in ordered.places:
            return any_time
        return lambda stage, phase: ordered.turn(index, stage, phase)


class _Ordered:
    """Passes begin in a schedule's order; they may overlap, since replicas queue what comes."""

    def __init__(self, schedule: str, n_stages: int, indices: Sequence[int]) -> None:
        self.places: Mapping[int, int] = {index: place for place, index in enumerate(indices)}
        self._launcher = Launcher(
            n_stages=n_stages, n_microbatches=len(indices), order=SCHEDULES[schedule], may_overlap=True
        )
        self._gates: dict[Work, asyncio.Event] = {}
        self._done: set[Work] = set()

    @asynccontextmanager
    async def turn(self, index: int, stage: int, phase: Phase) -> AsyncIterator[None]:
        work = Work(stage=stage, microbatch=self.places[index], kind=KINDS[phase])
        if work in self._done:  # the microbatch is on its way anew
            yield
            return
        self._launch()
        await self._gate(work).wait()
        try:
            yield
        except BaseException:
            self._gate(work).clear()
            self._launcher.undo(work)
            self._launch()
            raise
        self._done.add(work)
        self._launcher.end(work)
        self._launch()

    def _launch(self) -> None:
        while begun := self._launcher.begin():
            for work in begun:
                if work.kind is Pass.WEIGHTS:
                    self._launcher.end(work)  # the stage does that by itself, when nothing else waits
                else:
                    self._gate(work).set()

    def _gate(self, work: Work) -> asyncio.Event:
        return self._gates.setdefault(work, asyncio.Event())
