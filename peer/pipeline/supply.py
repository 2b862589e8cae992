"""What a trainer passes: a step's microbatches, those owed, and if it does not wait for decisions the next step's."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...tasks import Indices
from ..rounds.place import Place
from ..rounds.roster import Roster
from .ahead import AheadFlow
from .courier import Courier
from .flow import Flow, Load, Spawn, step_batches
from .model import StageModel
from .step_plan import trainer_of
from .unsettled import Owed

if TYPE_CHECKING:
    from .exchange import StageExchange

PER_REPLICA = 4
"""Passes that trainers together keep at each replica, on average: enough that few are ever idle, though trainers choose
routes without knowing of each other's."""


class Supply:
    """The flows of one trainer.

    Args:
        stop_at: updates after which the run stops.
        spawn: runs what outlives a round.
    """

    def __init__(
        self, model: StageModel, courier: Courier, waiting: Callable[[str], None], *, stop_at: int, spawn: Spawn
    ) -> None:
        self._model, self._courier, self._waiting = model, courier, waiting
        self._stop_at, self._spawn = stop_at, spawn
        self._flow: Flow | None = None
        self._ahead: AheadFlow | None = None

    def go_on(self, place: Place, counted: Collection[int]) -> None:
        """The present step goes on in another round, if it was begun here.

        Args:
            counted: its microbatches that need not be passed any more.
        """
        if self._flow is not None and not self._flow.closed:
            self._flow.settle(counted)
            self._flow.join(place)

    def close(self) -> None:
        """Nothing that is on its way here will count."""
        for flow in (self._flow, self._ahead):
            if flow is not None:
                flow.close()

    def open(self, place: Place, exchange: StageExchange, *, goes_on: bool = False) -> Flow:
        """The flow of a round that begins.

        Args:
            goes_on: with the step of the one before; else that is over.
        """
        step = self._model.step

        def changed() -> None:
            exchange.changed()
            # What was begun ahead of its round may come back when that is over.
            is_open = self._flow is exchange.flow and self._model.step == step
            if is_open and exchange.flow.whole:
                self._go_ahead(place, step + 1)

        before = self._flow
        if goes_on and before is not None and not before.closed and before.step == step:
            before.join(place, changed)
            return before
        if before is not None:
            before.close()
        ahead = self._ahead
        if ahead is not None and ahead.step <= self._model.step:
            self._ahead = None
        if ahead is not None and ahead.step == self._model.step:
            ahead.join(place, changed)
            self._flow = ahead
        else:
            if ahead is not None and ahead.step < self._model.step:
                ahead.close()
            load = self._load(self._model.step, exchange.owed, place.roster)
            self._flow = Flow(place, self._courier, load, changed, self._waiting, self._spawn)
            self._flow.settle(exchange.countable.counted)
        return self._flow

    def _go_ahead(self, place: Place, step: int) -> None:
        """What is mine of the step before has come back: begin this one's."""
        if not self._model.works_a_step_ahead or self._ahead is not None or step >= self._stop_at:
            return
        load = self._load(step, (), place.roster)
        self._ahead = AheadFlow(place, self._courier, load, self._waiting, self._spawn)
        turns = [trainer_of(index, place.roster, {}) for index in range(len(load.batches))]
        self._ahead.begin_own([index for index, slot in enumerate(turns) if slot == place.slot])

    def _load(self, step: int, owed: Sequence[Owed], roster: Roster) -> Load:
        model = self._model
        made_up = [self._batches(one.step)[one.index : one.index + 1] for one in owed]
        return Load(
            task=model.task,
            batches=np.concatenate([self._batches(step), *made_up]),
            step=step,
            in_flight_max=credit(roster, model.n_stages),
            n_stages=model.n_stages,
            schedule=model.manifest.pipeline.schedule,
        )

    def _batches(self, step: int) -> Indices:
        manifest = self._model.manifest
        return step_batches(
            self._model.task,
            seed=manifest.run.seed,
            step=step,
            n_microbatches=manifest.pipeline.microbatches,
            n_samples=manifest.data.batch_size,
        )


def credit(roster: Roster, n_stages: int) -> int:
    """Microbatches that one trainer has on their way at once: two for each stage, less where so many trainers share the
    replicas that queues would only grow."""
    n_trainers = sum(member.trains for member in roster.members) or len(roster)
    n_replicas = sum(member.serves for member in roster.members)
    return min(2 * n_stages, max(2, math.ceil(PER_REPLICA * n_replicas / n_trainers)))
