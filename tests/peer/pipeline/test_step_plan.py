"""Plans of one step: who passes what when trainers die, and who serves which stage at the start."""

from __future__ import annotations

from collections import Counter

import pytest

from gossamer.peer.pipeline.flow import is_begun_in, take_of
from gossamer.peer.pipeline.seeking import assigned
from gossamer.peer.pipeline.step_plan import StepPlan, deal_out, trainer_of
from gossamer.peer.rounds.counts import Countable, Route, counts_of
from gossamer.peer.rounds.roster import PEERS_MAX, Member, Roster
from gossamer.protocol import pipelines_pb2 as pb
from gossamer.protocol.errors import InvalidMessage
from gossamer.protocol.identity import Identity

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(4))
ROSTER = Roster.of(Member(peer, 1, number % 2, trains=number != 3) for number, peer in enumerate(PEERS))
ONE = Countable(n_stages=2, n_microbatches=1)


def test_microbatches_of_a_dead_trainer_go_to_living_ones_and_to_no_mere_replica() -> None:
    before = [trainer_of(index, ROSTER, {}) for index in range(6)]
    deals = deal_out([1, 4], ROSTER, [0, 2, 3], Counter([0, 2]))

    after = [trainer_of(index, ROSTER, deals) for index in range(6)]

    assert before == [0, 1, 2, 0, 1, 2]
    assert after == [0, 2, 2, 0, 0, 2]
    assert deal_out([1, 4], ROSTER, [0, 2, 3], Counter([2, 2])) == {1: 0, 4: 0}  # who has more to do gets none


def test_a_plan_survives_the_wire_and_a_malformed_one_does_not() -> None:
    counts = counts_of([Route(index=0, slots=(0, 1), takes=(5, 5))], ONE)
    plan = StepPlan(attempt=257, dead=(3,), deals=((0, 2),), counts=counts)
    message = plan.to_wire(b"l" * 16, 9)

    assert StepPlan.from_wire(message, ROSTER, ONE) == plan
    assert plan.ballot == 1
    endless = StepPlan.from_wire(pb.StepPlan(attempt=1, dead=[3] * (PEERS_MAX + 1) + [4]), ROSTER, ONE)
    assert endless.dead == (3,) * (PEERS_MAX + 1)
    for broken in (
        pb.StepPlan(attempt=1, dead=[4]),
        pb.StepPlan(attempt=1, deals=[pb.Deal(index=1, slot=0)]),
        pb.StepPlan(attempt=1, counts=[counts[0].to_wire()]),
    ):
        with pytest.raises(InvalidMessage):
            StepPlan.from_wire(broken, ROSTER, ONE)


def test_takes_of_trainers_and_rounds_never_meet() -> None:
    takes = {take_of(index, slot, attempt) for index in (7, 8) for slot in (0, 1023) for attempt in (0, 1)}

    assert len(takes) == 8
    assert max(takes) < 1 << 32


@pytest.mark.parametrize(
    ("begun", "first", "last", "expected"),
    [(7, 7, 7, True), (7, 8, 8, False), (7, 5, 8, True), (4, 5, 8, False), (9, 5, 8, False), (4097, 4095, 4098, True)],
)
def test_takes_tell_in_which_rounds_they_were_begun(begun: int, first: int, last: int, expected: bool) -> None:
    assert is_begun_in(take_of(begun, 1023, 1), first, last) is expected


def test_wishes_are_kept_and_the_rest_fill_the_neediest_stages() -> None:
    members = [Member(PEERS[0], 1), Member(PEERS[1], 1, 1), Member(PEERS[2], 1), Member(PEERS[3], 1)]

    placed = assigned(members, 3)

    assert [member.stage for member in placed] == [0, 1, 2, 0]
