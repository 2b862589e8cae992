"""What a pipeline's round counts: every microbatch once at every stage."""

from __future__ import annotations

import pytest

from gossamer.peer.rounds.counts import Count, Countable, Route, check_counts, counts_of
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.protocol.errors import InvalidMessage
from gossamer.protocol.identity import Identity

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(4))
ROSTER = Roster.of(Member(peer, 1, stage) for peer, stage in zip(PEERS, (0, 0, 1, 1), strict=True))
TWO = Countable(n_stages=2, n_microbatches=2)
ROUTES = [Route(index=0, slots=(0, 2), takes=(7, 7)), Route(index=1, slots=(1, 2), takes=(8, 8))]


def test_routes_say_what_each_replica_sums() -> None:
    counts = counts_of(ROUTES, TWO)

    assert counts == (
        Count(slot=0, names=((0, 7),)),
        Count(slot=1, names=((1, 8),)),
        Count(slot=2, names=((0, 7), (1, 8))),
    )
    check_counts(counts, ROSTER, TWO)


@pytest.mark.parametrize(
    "counts",
    [
        counts_of(ROUTES, TWO)[:2],
        (*counts_of(ROUTES, TWO), Count(slot=3, names=((1, 9),))),
        (Count(slot=0, names=((0, 7), (0, 8))), Count(slot=2, names=((0, 7), (0, 8)))),
        tuple(reversed(counts_of(ROUTES, TWO))),
        (*counts_of(ROUTES, TWO), Count(slot=4, names=((2, 7),))),
        (*counts_of(ROUTES, TWO), Count(slot=3, names=())),
        (*counts_of(ROUTES, TWO), Count(slot=3, names=((2, 9),))),
    ],
    ids=[
        "not at all stages",
        "twice at one stage",
        "in two takes",
        "out of order",
        "off the roster",
        "nothing",
        "what there is not",
    ],
)
def test_counts_that_are_not_once_at_every_stage_are_refused(counts: tuple[Count, ...]) -> None:
    with pytest.raises(InvalidMessage):
        check_counts(counts, ROSTER, TWO)


def test_what_an_earlier_part_of_the_step_has_counted_does_not_count_again() -> None:
    rest = Countable(n_stages=2, n_microbatches=2, counted=frozenset({0}))

    check_counts(counts_of(ROUTES[1:], rest), ROSTER, rest)
    assert counts_of(ROUTES, rest) == counts_of(ROUTES[1:], rest)
    with pytest.raises(InvalidMessage, match="microbatches that stage 0 does not"):
        check_counts(counts_of(ROUTES, TWO), ROSTER, rest)


def test_what_is_owed_counts_once_at_its_stage_and_nowhere_else() -> None:
    countable = Countable(n_stages=2, n_microbatches=2, owed=(1,), gathers=True)
    routes = [*ROUTES, Route(index=2, slots=(0, 3), takes=(9, 9))]

    counts = counts_of(routes, countable, gathered=[1])

    assert counts[3] == Count(slot=3, names=((2, 9),))
    assert [len(count.names) for count in counts] == [1, 1, 2, 1]
    check_counts(counts, ROSTER, countable)
    for wrong in (
        (Count(slot=0, names=((0, 7), (2, 9))), *counts[1:]),
        (*counts[:2], Count(slot=2, names=((0, 7), (1, 8), (2, 9))), counts[3]),
        (Count(slot=3, names=((2, 9),)),),
    ):
        with pytest.raises(InvalidMessage):
            check_counts(wrong, ROSTER, countable)


def test_a_stage_changes_a_rosters_hash_and_its_absence_does_not() -> None:
    moved = Roster.of(Member(peer, 1, 1) for peer in PEERS)
    whole = Roster.of(Member(peer, 1) for peer in PEERS)

    assert len({ROSTER.hash(), moved.hash(), whole.hash()}) == 3
    assert Roster.from_wire(ROSTER.to_wire()) == ROSTER
    assert Roster.from_wire(whole.to_wire()) == whole
