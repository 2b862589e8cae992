"""Deaths are noticed within seconds, however long rounds take."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from gossamer.peer.rounds import watching
from gossamer.peer.rounds.leading import Leadership
from gossamer.peer.rounds.round import Round
from gossamer.protocol.errors import PeerUnreachable
from gossamer.simulator.world import Simulation


def test_the_longer_rounds_take_the_less_often_one_looks_up_to_a_bound() -> None:
    every_s = [watching.interval_s(cast(Round, SimpleNamespace(patience_s=s))) for s in (1.0, 10.0, 1000.0)]

    assert every_s == [0.5, 1.0, 3.0]


@pytest.mark.parametrize(("slot", "notices"), [(1, True), (2, False)])
def test_the_next_in_turn_misses_a_leader_to_whom_nobody_has_anything_to_say(slot: int, notices: bool) -> None:
    sim, suspected = Simulation(seed=0), []

    async def call(*args: object, **options: object) -> bytes:
        raise PeerUnreachable("gone")

    round_ = SimpleNamespace(
        ballot=0,
        leader=0,
        patience_s=600.0,
        suspects={},
        place=SimpleNamespace(slot=slot, leader_of=lambda ballot: ballot, roster=SimpleNamespace(members=[_member()])),
        network=SimpleNamespace(call=call),
        reporting=SimpleNamespace(hold=lambda: SimpleNamespace(SerializeToString=bytes)),
        unheard_s=lambda slot: 100.0,
        suspect=lambda slot, reason: suspected.append((slot, reason)),
        spawn=asyncio.create_task,
        ballot_over=lambda ballot: asyncio.Event().wait(),
    )

    async def watch_for_a_while() -> None:
        task = asyncio.create_task(watching.watch_leaders(cast(Round, round_)))
        await asyncio.sleep(4.0)
        task.cancel()

    sim.run(watch_for_a_while())

    assert suspected == ([(0, "unreachable")] if notices else [])


def test_who_is_next_in_turn_only_in_a_later_ballot_looks_from_then_on() -> None:
    sim, suspected = Simulation(seed=0), []
    ballots = asyncio.Event()

    async def call(*args: object, **options: object) -> bytes:
        raise PeerUnreachable("gone")

    round_ = SimpleNamespace(
        ballot=0,
        leader=0,
        patience_s=600.0,
        suspects={},
        place=SimpleNamespace(
            slot=2, leader_of=lambda ballot: ballot, roster=SimpleNamespace(members=[_member(), _member()])
        ),
        network=SimpleNamespace(call=call),
        reporting=SimpleNamespace(hold=lambda: SimpleNamespace(SerializeToString=bytes)),
        unheard_s=lambda slot: 100.0,
        suspect=lambda slot, reason: suspected.append((slot, reason)),
        spawn=asyncio.create_task,
        ballot_over=lambda ballot: ballots.wait(),
    )

    async def watch_through_a_ballot() -> None:
        task = asyncio.create_task(watching.watch_leaders(cast(Round, round_)))
        await asyncio.sleep(10.0)
        assert suspected == []
        round_.ballot = round_.leader = 1
        ballots.set()
        await asyncio.sleep(3.5)
        task.cancel()

    sim.run(watch_through_a_ballot())

    assert suspected == [(1, "unreachable")]


def test_a_leader_acts_on_deaths_before_a_quorum_has_reported() -> None:
    overseen: list[object] = []
    place = SimpleNamespace(roster=SimpleNamespace(quorum=3), base=b"base")
    transfer = SimpleNamespace(oversee=overseen.append, amendment=lambda leading: None)
    round_ = SimpleNamespace(place=place, live=list, transfer=transfer)
    leading = SimpleNamespace(round=round_, agreeing=lambda: {0: "a report"})

    assert Leadership._settle(cast(Leadership, leading)) is None
    assert overseen == [{0: "a report"}]


def _member() -> SimpleNamespace:
    return SimpleNamespace(peer="the leader")
