"""Deaths are noticed within seconds, however long rounds take."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gossamer.peer.rounds import watching
from gossamer.peer.rounds.leading import Leadership
from gossamer.peer.rounds.round import Round
from gossamer.protocol.errors import PeerUnreachable
from gossamer.simulator.world import Simulation


class UnheardRound:
    """A member's round of ten minutes in which nobody says anything, and nobody can be reached."""

    patience_s = 600.0

    def __init__(self, slot: int) -> None:
        self.ballot = self.leader = 0
        self.suspects: dict[int, str] = {}
        self.suspected: list[tuple[int, str]] = []
        members = [SimpleNamespace(peer=f"peer {number}") for number in range(3)]
        roster = SimpleNamespace(members=members)
        self.place = SimpleNamespace(slot=slot, leader_of=lambda ballot: ballot, roster=roster)
        self.network = SimpleNamespace(call=self._call)
        self.reporting = SimpleNamespace(hold=lambda: SimpleNamespace(SerializeToString=bytes))
        self._entered = asyncio.Event()

    def enter(self, ballot: int) -> None:
        self.ballot = self.leader = ballot
        entered, self._entered = self._entered, asyncio.Event()
        entered.set()

    async def ballot_over(self, ballot: int) -> None:
        while self.ballot == ballot:
            await self._entered.wait()

    def unheard_s(self, slot: int) -> float:
        return 100.0

    def suspect(self, slot: int, reason: str) -> None:
        self.suspected.append((slot, reason))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.get_running_loop().create_task(work)

    async def _call(self, *args: object, **options: object) -> bytes:
        raise PeerUnreachable("gone")


def test_the_longer_rounds_take_the_less_often_one_looks_up_to_a_bound() -> None:
    every_s = [watching.interval_s(cast(Round, SimpleNamespace(patience_s=s))) for s in (1.0, 10.0, 1000.0)]

    assert every_s == [0.5, 1.0, 3.0]


@pytest.mark.parametrize(("slot", "notices"), [(1, True), (2, False)])
def test_the_next_in_turn_misses_a_leader_to_whom_nobody_has_anything_to_say(slot: int, notices: bool) -> None:
    round_ = UnheardRound(slot)

    async def watch_for_a_while() -> None:
        task = asyncio.create_task(watching.watch_leaders(cast(Round, round_)))
        await asyncio.sleep(4.0)
        task.cancel()

    Simulation(seed=0).run(watch_for_a_while())

    assert round_.suspected == ([(0, "unreachable")] if notices else [])


def test_who_is_next_in_turn_only_in_a_later_ballot_looks_from_then_on() -> None:
    round_ = UnheardRound(slot=2)

    async def watch_through_a_ballot() -> None:
        task = asyncio.create_task(watching.watch_leaders(cast(Round, round_)))
        await asyncio.sleep(10.0)
        assert round_.suspected == []
        round_.enter(1)
        await asyncio.sleep(3.5)
        task.cancel()

    Simulation(seed=0).run(watch_through_a_ballot())

    assert round_.suspected == [(1, "unreachable")]


def test_a_leader_acts_on_deaths_before_a_quorum_has_reported() -> None:
    overseen: list[object] = []
    place = SimpleNamespace(roster=SimpleNamespace(quorum=3), base=b"base")
    transfer = SimpleNamespace(oversee=overseen.append, amendment=lambda leading: None)
    round_ = SimpleNamespace(place=place, live=list, transfer=transfer)
    leading = SimpleNamespace(round=round_, agreeing=lambda: {0: "a report"})

    assert Leadership._settle(cast(Leadership, leading)) is None
    assert overseen == [{0: "a report"}]
