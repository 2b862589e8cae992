"""Microbatches that are begun before their step's round opens, while members come and go and rounds fail."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

from torch import Tensor

from gossamer.peer.pipeline.ahead import AheadFlow
from gossamer.peer.pipeline.asynchronous import AsynchronousModel
from gossamer.peer.pipeline.courier import Carried, Courier
from gossamer.peer.pipeline.exchange import StageExchange
from gossamer.peer.pipeline.flow import Flow, Load, Spawn, step_batches
from gossamer.peer.pipeline.microbatches import MicrobatchId
from gossamer.peer.pipeline.models import stage_model
from gossamer.peer.pipeline.supply import Supply
from gossamer.peer.rounds.place import Place
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.manifest import manifest_of

from .test_model import chars, manifest

FIRST, LAST, PASSING = sorted(Identity(bytes([number]) * 32).peer_id for number in range(3))
ROSTER = Roster.of([Member(FIRST, 1, 0), Member(LAST, 1, 1)])


class Road:
    """In place of a courier: every microbatch takes the same route, those of step 1 once `is_free` is set."""

    def __init__(self, *route: PeerId) -> None:
        self.route = route
        self.is_free = asyncio.Event()

    async def carry(
        self, microbatch: MicrobatchId, version: int, inputs: Tensor, targets: Tensor, turns: object
    ) -> Carried:
        if microbatch.step == 1:
            await self.is_free.wait()
        route: list[PeerId | None] = [*self.route]
        lives = [1] * len(route)
        return Carried(microbatch=microbatch, version=version, inputs=[], arrived=[], route=route, lives=lives)

    async def pass_back(self, carried: Carried, stage: int) -> None:
        carried.route[stage], carried.lives[stage] = (FIRST, LAST)[stage], 1

    def expect(self, n_microbatches: int, n_samples: int, n_all: int) -> None:
        """As `Courier.expect`."""

    def give_up(self, peers: frozenset[PeerId]) -> None:
        """As `Courier.give_up`."""


def place(index: int) -> Place:
    return Place(lineage=bytes(16), index=index, roster=ROSTER, base=bytes(32), slot=0)


def spawn_in(tasks: asyncio.TaskGroup) -> Spawn:
    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return tasks.create_task(work)

    return spawn


def test_who_came_and_died_before_the_steps_round_opened_is_mended_like_any_other() -> None:
    async def main() -> tuple[int, list[tuple[int, ...]]]:
        load = Load(
            task=chars(),
            batches=step_batches(chars(), seed=1, step=1, n_microbatches=2, n_samples=2),
            step=1,
            in_flight_max=4,
            n_stages=2,
        )
        async with asyncio.TaskGroup() as tasks:
            road = Road(FIRST, PASSING)
            road.is_free.set()
            ahead = AheadFlow(place(4), cast(Courier, road), load, print, spawn_in(tasks))
            ahead.begin_own([0, 1])
            await asyncio.gather(*ahead._tasks)
            ahead.join(place(6), lambda: None)
            n_at_once = len(ahead.routes())
        return n_at_once, [route.slots for route in ahead.routes()]

    assert asyncio.run(main()) == (0, [(0, 1), (0, 1)])


def test_what_comes_back_when_its_round_is_over_begins_no_further_step() -> None:
    tables = manifest().model_dump()
    tables["pipeline"]["mode"] = "stash"
    model = stage_model(chars(), manifest_of(tables), bytes(32))
    assert isinstance(model, AsynchronousModel)
    model.settle(0)

    async def main() -> tuple[Flow, Flow | None]:
        road = Road(FIRST, LAST)
        async with asyncio.TaskGroup() as tasks:
            supply = Supply(model, cast(Courier, road), print, stop_at=10, spawn=spawn_in(tasks))

            def opened(index: int) -> Flow:
                countable = SimpleNamespace(counted=frozenset())
                told = SimpleNamespace(owed=(), countable=countable, changed=lambda: None)
                exchange = cast(StageExchange, told)
                exchange.flow = supply.open(place(index), exchange)
                return exchange.flow

            flow = opened(1)
            flow.begin_own([0])
            await asyncio.gather(*flow._tasks)
            model._progress[0] = 1
            joined = opened(2)
            road.is_free.set()
            opened(3)  # the same step again
        return joined, supply._ahead

    joined, further = asyncio.run(main())

    assert isinstance(joined, AheadFlow)
    assert joined.closed
    assert further is None
