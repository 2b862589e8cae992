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
from gossamer.protocol.identity import PeerId
from gossamer.simulator.world import Simulation


def test_the_longer_rounds_take_the_less_often_one_looks_up_to_a_bound() -> None:
    every_s = [watching.interval_s(cast(Round, SimpleNamespace(patience_s=s))) for s in (1.0, 10.0, 1000.0)]

    assert every_s == [0.5, 1.0, 2.5]


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
        place=SimpleNamespace(
            lineage=b"",
            index=0,
            slot=slot,
            leader_of=lambda ballot: ballot,
            roster=SimpleNamespace(members=[_member()]),
        ),
        network=SimpleNamespace(call=call),
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
            lineage=b"",
            index=0,
            slot=2,
            leader_of=lambda ballot: ballot,
            roster=SimpleNamespace(members=[_member(), _member()]),
        ),
        network=SimpleNamespace(call=call),
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


def test_a_connection_that_breaks_is_no_death_and_one_that_cannot_be_made_again_is() -> None:
    sim = Simulation(seed=0)
    suspects: dict[int, str] = {}
    asked: list[float] = []

    async def call(*args: object, **options: object) -> bytes:
        asked.append(asyncio.get_running_loop().time())
        if len(asked) in (2, 4, 5):
            raise PeerUnreachable("the connection was reset")
        await asyncio.sleep(watching.STANDS_S)
        return b""

    place = SimpleNamespace(lineage=b"", index=0, roster=SimpleNamespace(members=[_member()]))
    round_ = SimpleNamespace(
        ballot=0,
        patience_s=600.0,
        suspects=suspects,
        place=place,
        network=SimpleNamespace(call=call),
        suspect=suspects.__setitem__,
        spawn=asyncio.create_task,
    )

    async def watch_for_minutes() -> None:
        task = asyncio.create_task(watching.watch(cast(Round, round_), (0,), lambda: not suspects))
        await asyncio.sleep(2 * watching.STANDS_S)
        assert (suspects, len(asked)) == ({}, 3)
        await task

    sim.run(watch_for_minutes())

    assert suspects == {0: "unreachable"}
    assert len(asked) == 5


def test_a_watched_member_that_dies_is_noticed_at_once_and_costs_no_messages_before() -> None:
    sim = Simulation(seed=0)
    watcher, watched = sim.host("watcher"), sim.host("watched")
    suspected: list[float] = []

    async def be_watched(peer: PeerId, request: bytes) -> bytes:
        round_ = SimpleNamespace(heard=lambda slot: None, enter=lambda ballot: None, over=asyncio.Event())
        return await watching.be_watched(cast(Round, round_), 0, 0)

    member = SimpleNamespace(peer=watched.peer_id)
    round_ = SimpleNamespace(
        ballot=0,
        patience_s=600.0,
        suspects={},
        place=SimpleNamespace(lineage=b"", index=0, roster=SimpleNamespace(members=[member])),
        network=watcher.network,
        suspect=lambda slot, reason: suspected.append(sim.now_s),
        spawn=asyncio.create_task,
    )

    async def main() -> None:
        watched.network.set_gate(lambda peer: True)
        watched.network.serve(watching.METHOD, be_watched)
        task = asyncio.create_task(watching.watch(cast(Round, round_), (0,), lambda: not suspected))
        await asyncio.sleep(40.0)
        assert sim.n_deliveries == 1
        watched.kill()
        await task

    sim.run(main())

    assert 40.0 < suspected[0] < 41.0


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
