"""One member that says what is not so costs the group time at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from gossamer.peer.daemon import Daemon
from gossamer.peer.event_kinds import Warned
from gossamer.peer.events import read_events
from gossamer.peer.rounds.decision import Decision, sign_vote
from gossamer.peer.rounds.plan import PLANS_PER_BALLOT, Plan
from gossamer.peer.rounds.reduce import Reduce
from gossamer.peer.rounds.roster import Member
from gossamer.peer.rounds.round import BALLOTS_AHEAD_MAX
from gossamer.protocol import rounds_pb2 as pb
from gossamer.protocol.errors import InvalidMessage
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of
from gossamer.simulator.world import Simulation

from .swarm import SimulatedSwarm, digits

pytestmark = pytest.mark.scenario

FORGED = "forged"
HIGHEST = (1 << 64) - 1


def invent_what_was_accepted(method: str, payload: bytes) -> bytes:
    """Promise, but claim that a decision was accepted which nobody had proposed: that the round has failed."""
    promise = pb.Promise.FromString(payload) if method == "round/prepare" else pb.Promise()
    if not promise.HasField("hold"):
        return payload
    hold, excluded = promise.hold, tuple((slot, FORGED) for slot in range(4))
    forged = Decision(lineage=hold.lineage, round_index=hold.round, base=hold.base, excluded=excluded)
    promise.has_accepted, promise.accepted_ballot, promise.accepted = True, 0, forged.encode()
    return promise.SerializeToString()


def bind_to_another_state(swarm: SimulatedSwarm, liar: int) -> Callable[[str, bytes], bytes]:
    """Propose nothing that can be read, and then promise what was accepted of it: a decision of another state."""

    def tamper(method: str, payload: bytes) -> bytes:
        if method == "round/accept":
            return b"\xff" * len(payload)
        promise = pb.Promise.FromString(payload) if method == "round/prepare" else pb.Promise()
        round_ = group.round if (group := swarm.daemons[liar].group) is not None else None
        if not promise.HasField("hold") or round_ is None:
            return payload
        place, who = round_.place, swarm.daemons[liar].identity
        ballot = next(ballot for ballot in range(len(place.roster)) if place.leader_of(ballot) == place.slot)
        forged = Decision(lineage=place.lineage, round_index=place.index, base=bytes(32)).encode()
        promise.has_accepted, promise.accepted_ballot, promise.accepted = True, ballot, forged
        promise.signature = sign_vote(who, place.lineage, place.index, ballot, place.roster, forged)
        return promise.SerializeToString()

    return tamper


def told_ballot(ballot: int) -> Callable[[str, bytes], bytes]:
    """Report to be in this ballot."""

    def tamper(method: str, payload: bytes) -> bytes:
        hold = pb.Hold.FromString(payload) if method == "round/hold" else pb.Hold()
        if not hold.base:
            return payload
        hold.ballot = ballot
        return hold.SerializeToString()

    return tamper


def named_otherwise(swarm: SimulatedSwarm, liar: int) -> Callable[[str, bytes], bytes]:
    """Propose, and sign, that somebody contributed what it did not."""

    def tamper(method: str, payload: bytes) -> bytes:
        accept = pb.Accept.FromString(payload) if method == "round/accept" else pb.Accept()
        group = swarm.daemons[liar].group
        if not accept.decision or group is None:
            return payload
        decision = pb.Decision.FromString(accept.decision)
        if decision.items:
            decision.items[0].hash = bytes(32)
        accept.decision = decision.SerializeToString(deterministic=True)
        who = swarm.daemons[liar].identity
        accept.signature = sign_vote(who, accept.lineage, accept.round, accept.ballot, group.roster, accept.decision)
        return accept.SerializeToString()

    return tamper


def by_turn(swarm: SimulatedSwarm) -> list[int]:
    """Peers in the order in which they lead the ballots of the present round."""
    group = swarm.daemons[0].group
    assert group is not None
    assert group.round is not None
    place, peers = group.round.place, [daemon.identity.peer_id for daemon in swarm.daemons]
    return [peers.index(place.roster.members[place.leader_of(ballot)].peer) for ballot in range(len(peers))]


def test_nobody_can_bind_a_leader_to_what_was_never_proposed(tmp_path: Path) -> None:
    swarm = digits(tmp_path, sim=Simulation(seed=3))

    async def main() -> list[int]:
        swarm.start(4)
        await swarm.reach(5)
        turns = by_turn(swarm)
        swarm.hosts[turns[2]].set_tamper(invent_what_was_accepted)
        swarm.hosts[turns[0]].kill(silent=True)
        living = sorted(turns[1:])
        results = await swarm.finish(living)
        assert len({result.digest for result in results}) == 1
        return living

    living = swarm.run(main())

    swarm.check_one_result()
    rounds = [event for number in living for event in swarm.rounds(number)]
    assert any(event.ballots > 1 for event in rounds)
    assert not [event for event in rounds if FORGED in event.excluded.values()]


@pytest.mark.parametrize("n_peers", [3, 4])
def test_nobody_can_bind_a_leader_to_what_may_not_be_decided(tmp_path: Path, n_peers: int) -> None:
    swarm = digits(tmp_path, sim=Simulation(seed=8), group={"start_peers": n_peers})

    async def main() -> None:
        swarm.start(n_peers)
        await swarm.reach(3)
        swarm.hosts[2].set_tamper(bind_to_another_state(swarm, 2))
        results = await swarm.finish(range(n_peers))
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    assert max(event.ballots for event in swarm.rounds(0)) > 1


def test_places_are_refused_to_lives_and_states_that_cannot_be(tmp_path: Path) -> None:
    swarm = digits(tmp_path, sim=Simulation(seed=9))

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(3)
        group, asks = swarm.daemons[0].group, swarm.daemons[2]
        assert group is not None
        good = pb.JoinRequest(member=asks.member.to_wire(), lineage=group.lineage, round=group.index, base=group.digest)
        for bad in (pb.JoinRequest(state=b"x"), pb.JoinRequest(n_lost=HIGHEST), _in_life(asks.member, HIGHEST)):
            request = pb.JoinRequest()
            request.CopyFrom(good)
            request.MergeFrom(bad)
            with pytest.raises(InvalidMessage):
                await asks.network.call(
                    swarm.daemons[0].identity.peer_id, "group/join", request.SerializeToString(), timeout_s=5.0
                )
        await swarm.finish(range(4))

    swarm.run(main())


def _in_life(member: Member, incarnation: int) -> pb.JoinRequest:
    told = member.to_wire()
    told.incarnation = incarnation
    return pb.JoinRequest(member=told)


def test_a_leader_that_signs_what_nobody_sent_is_not_voted_for(tmp_path: Path) -> None:
    swarm = digits(tmp_path, sim=Simulation(seed=5))

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(3)
        swarm.hosts[2].set_tamper(named_otherwise(swarm, 2))
        results = await swarm.finish(range(4))
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    told = [entry.event for number in range(4) for entry in read_events(tmp_path / str(number) / "events.jsonl")]
    warnings = [event.message for event in told if isinstance(event, Warned)]
    assert any("other bytes than those that" in message for message in warnings)
    assert not any("nobody holds" in message for message in warnings)


@pytest.mark.parametrize("ballot", [1000, BALLOTS_AHEAD_MAX, 1 << 31, (1 << 32) - 1, HIGHEST])
def test_a_member_that_claims_an_absurd_ballot_costs_time_at_most(tmp_path: Path, ballot: int) -> None:
    swarm = digits(tmp_path, sim=Simulation(seed=4), method={"name": "allreduce"})

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(3)
        swarm.hosts[2].set_tamper(told_ballot(ballot))
        await asyncio.sleep(2.0)
        swarm.hosts[2].set_tamper(None)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {12}

    swarm.run(main())

    swarm.check_one_result()


def test_who_is_led_astray_in_ballots_finds_back_to_the_others(tmp_path: Path) -> None:
    swarm = digits(tmp_path, sim=Simulation(seed=6))

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(3)
        for number, times in ((0, 2), (1, 1)):  # who led astray the two was quicker than the round
            round_ = swarm.daemons[number].group.round  # type: ignore[union-attr]
            assert round_ is not None
            for _ in range(times):
                round_.enter(HIGHEST)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {12}

    swarm.run(main())

    swarm.check_one_result()
    assert max(event.ballots for event in swarm.rounds(3)) > BALLOTS_AHEAD_MAX


@pytest.mark.parametrize("ballot", [1000, (1 << 56) - 1])
def test_plans_of_ballots_that_nobody_is_in_stop_nobody(tmp_path: Path, ballot: int) -> None:
    """That round may fail, but no number overflows."""
    swarm = digits(tmp_path, sim=Simulation(seed=7), method={"name": "allreduce"})

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(3)
        while not await tell_plan(swarm.daemons[2], ballot):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.002)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {12}

    swarm.run(main())

    swarm.check_one_result()


async def tell_plan(liar: Daemon, ballot: int) -> bool:
    """Tell the others the last plan of a ballot, if this member leads that. Whether it does."""
    round_ = liar.group.round if liar.group is not None else None
    if round_ is None or round_.place.leader_of(ballot) != round_.place.slot:
        return False
    place, length = round_.place, cast(Reduce, round_.transfer).length
    attempt = ballot * PLANS_PER_BALLOT + PLANS_PER_BALLOT - 1
    plan = replace(Plan.of(0, range(len(place.roster)), length), attempt=attempt)
    message, others = plan.to_wire(place.lineage, place.index).SerializeToString(), place.others
    peers = [place.roster.members[slot].peer for slot in others]
    calls = [liar.network.call(peer, "round/plan", message, timeout_s=1.0) for peer in peers]
    await asyncio.gather(*calls, return_exceptions=True)
    return True


@pytest.mark.parametrize("seed", range(3))
def test_who_never_leads_without_a_flipped_bit_stops_nobody(tmp_path: Path, seed: int) -> None:
    story = {
        "name": "garbled",
        "seed": seed,
        "duration_s": 900,
        "run": {"task": "digits", "method": "demo", "steps": 30, "evaluate_every": 30},
        "fleet": {"peers": 4, "flops_per_s": 4e5},
        "faults": [{"kind": "bad_leader", "how": "garbled", "after_step": 8, "for_s": 1e6}],
        "expect": {"steps_min": 30, "finished_min": 3},
    }

    assert play(scenario_of(story), tmp_path).violations == ()
