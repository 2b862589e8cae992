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
from gossamer.protocol.identity import PeerId
from gossamer.simulator.world import Simulation


class LongRound:
    """A member's round of ten minutes in which nobody has anything to say."""

    patience_s = 600.0

    def __init__(self, network: object, peers: list[PeerId], *, slot: int = 0) -> None:
        self.ballot = self.leader = 0
        self.suspects: dict[int, str] = {}
        self.suspected_s: list[float] = []
        roster = SimpleNamespace(members=[SimpleNamespace(peer=peer) for peer in peers])
        self.place = SimpleNamespace(lineage=b"", index=0, slot=slot, leader_of=lambda ballot: ballot, roster=roster)
        self.network = network
        self._entered = asyncio.Event()

    def enter(self, ballot: int) -> None:
        self.ballot = self.leader = ballot
        entered, self._entered = self._entered, asyncio.Event()
        entered.set()

    async def ballot_over(self, ballot: int) -> None:
        while self.ballot == ballot:
            await self._entered.wait()

    def suspect(self, slot: int, reason: str) -> None:
        self.suspects[slot] = reason
        self.suspected_s.append(asyncio.get_running_loop().time())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.get_running_loop().create_task(work)


class Nobody:
    """A network on which nobody can be reached."""

    async def call(self, *args: object, **options: object) -> bytes:
        raise PeerUnreachable("gone")


class Flaky:
    """A network whose calls stand, but for some that fail at once."""

    def __init__(self, *failing: int) -> None:
        self._failing = failing
        self.n_calls = 0

    async def call(self, *args: object, **options: object) -> bytes:
        self.n_calls += 1
        if self.n_calls in self._failing:
            raise PeerUnreachable("the connection was reset")
        await asyncio.sleep(watching.STANDS_S)
        return b""


def watched_round() -> Round:
    """What a watched member has of a round that does not end."""
    parts = SimpleNamespace(
        heard=lambda slot: None, enter=lambda ballot: None, over=asyncio.Event(), watched_by=set[int]()
    )
    return cast(Round, parts)


PEERS = [PeerId(f"peer {number}") for number in range(3)]


def test_the_longer_rounds_take_the_less_often_one_looks_up_to_a_bound() -> None:
    every_s = [watching.interval_s(cast(Round, SimpleNamespace(patience_s=s))) for s in (1.0, 10.0, 1000.0)]

    assert every_s == [0.5, 1.0, 2.5]


@pytest.mark.parametrize(("slot", "notices"), [(1, True), (2, False)])
def test_the_next_in_turn_misses_a_leader_to_whom_nobody_has_anything_to_say(slot: int, notices: bool) -> None:
    round_ = LongRound(Nobody(), PEERS, slot=slot)

    async def watch_for_a_while() -> None:
        task = asyncio.create_task(watching.watch_leaders(cast(Round, round_)))
        await asyncio.sleep(4.0)
        task.cancel()

    Simulation(seed=0).run(watch_for_a_while())

    assert round_.suspects == ({0: "unreachable"} if notices else {})


def test_who_is_next_in_turn_only_in_a_later_ballot_looks_from_then_on() -> None:
    round_ = LongRound(Nobody(), PEERS, slot=2)

    async def watch_through_a_ballot() -> None:
        task = asyncio.create_task(watching.watch_leaders(cast(Round, round_)))
        await asyncio.sleep(10.0)
        assert round_.suspects == {}
        round_.enter(1)
        await asyncio.sleep(3.5)
        task.cancel()

    Simulation(seed=0).run(watch_through_a_ballot())

    assert round_.suspects == {1: "unreachable"}


def test_a_connection_that_breaks_is_no_death_and_one_that_cannot_be_made_again_is() -> None:
    network = Flaky(2, 4, 5)
    round_ = LongRound(network, PEERS)

    async def watch_for_minutes() -> None:
        task = asyncio.create_task(watching.watch(cast(Round, round_), (0,), lambda: not round_.suspects))
        await asyncio.sleep(2 * watching.STANDS_S)
        assert (round_.suspects, network.n_calls) == ({}, 3)
        await task

    Simulation(seed=0).run(watch_for_minutes())

    assert round_.suspects == {0: "unreachable"}
    assert network.n_calls == 5


def test_a_watched_member_that_dies_is_noticed_at_once_and_costs_no_messages_before() -> None:
    sim = Simulation(seed=0)
    watcher, watched = sim.host("watcher"), sim.host("watched")
    round_ = LongRound(watcher.network, [watched.peer_id])

    async def be_watched(peer: PeerId, request: bytes) -> bytes:
        return await watching.be_watched(watched_round(), 0, 0)

    async def main() -> float:
        watched.network.set_gate(lambda peer: True)
        watched.network.serve(watching.METHOD, be_watched)
        task = asyncio.create_task(watching.watch(cast(Round, round_), (0,), lambda: not round_.suspects))
        await asyncio.sleep(40.0)
        assert sim.n_deliveries == 1
        watched.kill()
        killed_s = asyncio.get_running_loop().time()
        await task
        return killed_s

    killed_s = sim.run(main())

    assert 0.0 < round_.suspected_s[0] - killed_s < 1.0


def test_a_member_that_asks_again_while_its_call_stands_is_answered_at_once() -> None:
    async def ask_thrice() -> tuple[bool, bool, bool]:
        round_ = watched_round()
        first = asyncio.create_task(watching.be_watched(round_, 0, 0))
        of_another = asyncio.create_task(watching.be_watched(round_, 1, 0))
        await asyncio.sleep(1.0)
        begun_s = asyncio.get_running_loop().time()
        assert await watching.be_watched(round_, 0, 0) == b""
        is_at_once = asyncio.get_running_loop().time() == begun_s
        stand = not first.done() and not of_another.done()
        round_.over.set()
        await asyncio.gather(first, of_another)
        return is_at_once, stand, not round_.watched_by

    assert Simulation(seed=0).run(ask_thrice()) == (True, True, True)


def test_a_leader_acts_on_deaths_before_a_quorum_has_reported() -> None:
    overseen: list[object] = []
    place = SimpleNamespace(roster=SimpleNamespace(quorum=3, has_quorum=lambda slots: len(slots) >= 3), base=b"base")
    transfer = SimpleNamespace(oversee=overseen.append, amendment=lambda leading: None)
    round_ = SimpleNamespace(place=place, live=list, transfer=transfer)
    leading = SimpleNamespace(round=round_, agreeing=lambda: {0: "a report"})

    assert Leadership._settle(cast(Leadership, leading)) is None
    assert overseen == [{0: "a report"}]
