"""Members that say what is not so about ballots: it costs themselves, not the group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.peer.event_kinds import Warned
from gossamer.peer.events import read_events
from gossamer.peer.rounds.decision import Decision, sign_vote
from gossamer.peer.rounds.round import BALLOTS_AHEAD_MAX
from gossamer.protocol import rounds_pb2 as pb
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
