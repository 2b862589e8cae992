"""A trainer's part of one step: its microbatches go through the stages, and are mended when a replica dies."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ...protocol.errors import NoReplica
from ...protocol.identity import PeerId
from ...tasks import Indices, Staged, global_batch
from ..rounds.counts import Route
from ..rounds.place import Place
from .courier import Carried, Courier
from .microbatches import MicrobatchId
from .pacing import CREDIT, Pacing

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None] | None]
"""Runs what outlives a round; None: there is nobody left to run it."""
Lives = frozenset[tuple[PeerId, int]]
RETRY_S = 0.2
RETRY_S_MAX = 5.0
TAKE_BITS = 10
SLOT_BITS = 10
ROUND_BITS = 12
"""32 bits in all; a roster has 1,024 slots at most."""
BATCHES_REMEMBERED = 8
"""Steps whose samples are not drawn again: several rounds may be made of one step, and daemons may share a process."""


def take_of(round_index: int, slot: int, attempt: int) -> int:
    """A take that no other trainer, and no other round of the same step, uses."""
    low = (slot << TAKE_BITS) | (attempt % (1 << TAKE_BITS))
    return ((round_index % (1 << ROUND_BITS)) << (SLOT_BITS + TAKE_BITS)) | low


def is_begun_in(take: int, first_round: int, last_round: int) -> bool:
    """Whether a take was begun in one of these rounds."""
    since_first = (take >> (SLOT_BITS + TAKE_BITS)) - first_round
    return since_first % (1 << ROUND_BITS) <= last_round - first_round


def step_batches(task: Staged, *, seed: int, step: int, n_microbatches: int, n_samples: int) -> Indices:
    """The samples of a step's microbatches, int64 [n_microbatches, n_samples]."""
    return _step_batches(task.n_train, seed, step, n_microbatches, n_samples).copy()


@lru_cache(maxsize=BATCHES_REMEMBERED)
def _step_batches(n_train: int, seed: int, step: int, n_microbatches: int, n_samples: int) -> Indices:
    drawn = global_batch(seed=seed, round_index=step, size=n_microbatches * n_samples, n_train=n_train)
    return drawn.reshape(n_microbatches, n_samples)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a step consists of."""

    task: Staged
    batches: Indices
    """int64 [n_microbatches, n_samples]."""
    step: int
    in_flight_max: int
    """Microbatches of one trainer on their way at once: its credit."""
    n_stages: int
    schedule: str = CREDIT


class Flow:
    """The microbatches that one trainer passes in one step, which may take several rounds.

    Args:
        place: in the step's first round.
        changed: called whenever a microbatch has become whole, or is no longer.
        waiting: told, once, why a microbatch cannot go on.
    """

    def __init__(
        self,
        place: Place,
        courier: Courier,
        load: Load,
        changed: Callable[[], None],
        waiting: Callable[[str], None],
        spawn: Spawn,
    ) -> None:
        self.step = load.step
        self._place = place
        self._here: Lives | None = _lives(place)
        """Who is on the roster, in which life; None: that of the step's round is not known yet."""
        self._spawn = spawn
        self._tasks: set[asyncio.Task[None]] = set()
        self._courier = courier
        self._load = load
        self._changed = changed
        self._waiting = waiting
        self._pacing = self._paced(())
        self._begun: dict[int, Carried | None] = {}
        """By microbatch; None: on its way."""
        self._mending: dict[int, None] = {}
        self._settled: set[int] = set()
        self._given_up: frozenset[PeerId] = frozenset()
        """By the plan that is followed. Whatever they answer, it would not count."""
        self._told = False
        self.closed = False
        """Set when its step is over, and what is still on its way is given up."""
        self.n_rerouted = 0
        self.n_mended = 0

    def join(self, place: Place, changed: Callable[[], None] | None = None) -> None:
        """Go on in a further round: who is not on its roster, in the life that was asked, holds nothing.

        Args:
            changed: in place of the one before.
        """
        self._place, self._here = place, _lives(place)
        self._changed = changed or self._changed
        self.mend(())

    def settle(self, indices: Collection[int]) -> None:
        """These microbatches are counted: nothing of them is needed any more."""
        self._settled.update(indices)

    def close(self) -> None:
        """The step is over."""
        self.closed = True
        for task in list(self._tasks):
            task.cancel()

    @property
    def is_begun(self) -> bool:
        """Whether anything was passed so far."""
        return bool(self._begun)

    def begin_own(self, indices: Sequence[int]) -> None:
        """Pass the microbatches that are this trainer's, in the order of the schedule."""
        mine = [index for index in indices if index not in self._begun]
        self._pacing = self._paced(mine)
        n_all, n_samples = self._load.batches.shape
        if mine or not indices:  # else it was said when they were begun, before their round opened
            self._courier.expect(len(mine), int(n_samples), int(n_all))
        for index in indices:
            self.begin(index)
        if self.whole:  # what is mine has come back before its round opened, or there is nothing
            self._changed()

    def begin(self, index: int) -> None:
        """Pass a microbatch, unless that is done already."""
        if index not in self._begun and index not in self._settled:
            self._begun[index] = None
            self._run(self._pass(index))

    def mend(self, dead: Collection[PeerId]) -> None:
        """Have others pass what these held; who was given up before and is not now, is believed again."""
        self._given_up = frozenset(dead)
        self._courier.give_up(self._given_up)
        for index, carried in self._begun.items():
            if carried is not None and index not in self._mending and self._gaps(carried):
                self._mending[index] = None  # at once: there may be other news before the work begins
                self._run(self._mend(index, carried))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._spawn(work)
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @property
    def whole(self) -> bool:
        """Whether all that was begun here has come back."""
        underway = (index for index, carried in self._begun.items() if carried is None or index in self._mending)
        return all(index in self._settled for index in underway)

    def routes(self) -> tuple[Route, ...]:
        """Of the microbatches that are whole, by index."""
        slot_of, found = self._place.roster.slots, []
        for index in sorted(self._begun):
            carried = self._begun[index]
            if carried is None or index in self._settled or index in self._mending or self._gaps(carried):
                continue
            slots = tuple(slot_of[peer] for peer in carried.route if peer is not None)
            found.append(Route(index=index, slots=slots, takes=(carried.microbatch.take,) * len(slots)))
        return tuple(found)

    @property
    def n_samples(self) -> int:
        n_whole = sum(carried is not None for carried in self._begun.values())
        return n_whole * int(self._load.batches.shape[1])

    @property
    def loss(self) -> float:
        """Mean over the microbatches that are back; NaN if there is none."""
        losses = [one.loss for one in self._begun.values() if one is not None and one.loss is not None]
        return math.fsum(losses) / len(losses) if losses else math.nan

    async def _pass(self, index: int) -> None:
        pacing = self._pacing
        async with pacing.way(index):
            samples = self._load.batches[index]
            inputs, targets = self._load.task.inputs(samples), self._load.task.targets(samples)
            attempt = 0
            while True:
                name, version = self._name(index, attempt)
                try:
                    carried = await self._courier.carry(name, version, inputs, targets, pacing.turns(index))
                    break
                except NoReplica as error:
                    if self.closed:
                        return
                    self._tell(error)
                    self.n_rerouted += 1
                    await _pause(attempt)
                    attempt += 1
        self.n_rerouted += carried.n_rerouted
        self._begun[index] = carried
        if self._gaps(carried):
            await self._mend(index, carried)
        self._changed()

    def _name(self, index: int, attempt: int) -> tuple[MicrobatchId, int]:
        """What a microbatch is called when it is begun now, and the version that it is passed at."""
        place, step = self._place, self._load.step
        return MicrobatchId(step=step, index=index, take=take_of(place.index, place.slot, attempt)), step

    def _paced(self, indices: Sequence[int]) -> Pacing:
        load = self._load
        return Pacing(load.schedule, n_stages=load.n_stages, credit=load.in_flight_max, indices=indices)

    async def _mend(self, index: int, carried: Carried) -> None:
        self._mending[index] = None
        before, attempt = carried.n_rerouted, 0
        while gaps := self._gaps(carried):
            try:
                await self._courier.pass_back(carried, gaps[0])
            except NoReplica as error:
                if self.closed or self._gives_up(carried):
                    break
                self._tell(error)
                await _pause(attempt)
                attempt += 1
                continue
            self.n_mended += 1
        self.n_rerouted += carried.n_rerouted - before
        self._mending.pop(index)
        if self._gaps(carried) and not self.closed:
            self._begun.pop(index)
            self.begin(index)
        self._changed()

    def _gives_up(self, carried: Carried) -> bool:
        """Whether a microbatch that cannot be mended is begun anew rather than tried again."""
        return False

    def _gaps(self, carried: Carried) -> list[int]:
        """Stages whose gradient nobody holds who is there, the last first."""
        if carried.microbatch.index in self._settled:
            return []
        holders = list(zip(carried.route, carried.lives, strict=True))
        return [stage for stage in reversed(range(len(holders))) if self._is_gone(*holders[stage])]

    def _is_gone(self, holder: PeerId | None, life: int) -> bool:
        return holder in self._given_up or (self._here is not None and (holder, life) not in self._here)

    def _tell(self, error: NoReplica) -> None:
        if not self._told:
            self._told = True
            self._waiting(f"step {self._load.step}: {error}")


def _lives(place: Place) -> Lives:
    return frozenset((member.peer, member.incarnation) for member in place.roster.members)


async def _pause(attempt: int) -> None:
    await asyncio.sleep(min(RETRY_S_MAX, RETRY_S * 2.0 ** min(attempt, 16)))
