"""What a pipeline's round counts: every microbatch once at every stage."""

from __future__ import annotations

import pytest

from gossamer.peer.rounds.counts import Count, Route, check_counts, counts_of
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.protocol.errors import InvalidMessage
from gossamer.protocol.identity import Identity

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(4))
ROSTER = Roster.of(Member(peer, 1, stage) for peer, stage in zip(PEERS, (0, 0, 1, 1), strict=True))
ROUTES = [Route(index=0, slots=(0, 2), takes=(7, 7)), Route(index=1, slots=(1, 2), takes=(8, 8))]


def test_routes_say_what_each_replica_sums() -> None:
    counts = counts_of(ROUTES)

    assert counts == (
        Count(slot=0, names=((0, 7),)),
        Count(slot=1, names=((1, 8),)),
        Count(slot=2, names=((0, 7), (1, 8))),
    )
    assert check_counts(counts, ROSTER, 2) == 2


@pytest.mark.parametrize(
    "counts",
    [
        counts_of(ROUTES)[:2],
        (*counts_of(ROUTES), Count(slot=3, names=((1, 9),))),
        (Count(slot=0, names=((0, 7), (0, 8))), Count(slot=2, names=((0, 7), (0, 8)))),
        tuple(reversed(counts_of(ROUTES))),
        (*counts_of(ROUTES), Count(slot=4, names=((2, 7),))),
    ],
    ids=["not at all stages", "twice at one stage", "in two takes", "out of order", "off the roster"],
)
def test_counts_that_are_not_once_at_every_stage_are_refused(counts: tuple[Count, ...]) -> None:
    with pytest.raises(InvalidMessage):
        check_counts(counts, ROSTER, 2)


def test_a_stage_changes_a_rosters_hash_and_its_absence_does_not() -> None:
    moved = Roster.of(Member(peer, 1, 1) for peer in PEERS)
    whole = Roster.of(Member(peer, 1) for peer in PEERS)

    assert len({ROSTER.hash(), moved.hash(), whole.hash()}) == 3
    assert Roster.from_wire(ROSTER.to_wire()) == ROSTER
    assert Roster.from_wire(whole.to_wire()) == whole
