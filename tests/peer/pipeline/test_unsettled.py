"""Who holds what between agreed steps: nothing is lost with a replica, and nothing counts twice."""

from __future__ import annotations

import pytest
import torch

from gossamer.peer.pipeline.unsettled import Owed, Unsettled
from gossamer.peer.rounds.counts import Count
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.protocol.identity import Identity

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(4))
ROSTER = Roster.of(Member(peer, 1, stage) for peer, stage in zip(PEERS, (0, 0, 1, 1), strict=True))
COUNTS = (
    Count(slot=0, names=((0, 7),)),
    Count(slot=1, names=((1, 8),)),
    Count(slot=2, names=((0, 7), (1, 8))),
)


def held(rows_max: int = 64) -> Unsettled:
    """After a local step."""
    unsettled = Unsettled(rows_max)
    unsettled.count(COUNTS, ROSTER, step=5, n_microbatches=2, closes=False)
    return unsettled


def test_what_a_lost_replica_held_is_owed_at_its_stage_until_another_counts_it() -> None:
    unsettled = held()
    without = Roster.of(member for slot, member in enumerate(ROSTER.members) if slot != 2)

    owed = unsettled.owed(without, 8)
    paid = (
        Count(slot=0, names=((0, 9),)),
        Count(slot=1, names=((1, 9),)),
        Count(slot=2, names=((0, 9), (1, 9), (2, 9))),
    )
    unsettled.count(paid, without, step=6, n_microbatches=2, closes=False)

    assert held().owed(ROSTER, 8) == ()
    assert owed == (Owed(stage=1, step=5, index=0), Owed(stage=1, step=5, index=1))
    assert unsettled.owed(without, 8) == (Owed(stage=1, step=5, index=1),)
    assert unsettled.holders(without) == (0, 1, 2)


def test_a_new_life_does_not_hold_what_the_old_one_did() -> None:
    renewed = ROSTER.changed((0,), (Member(PEERS[0], 2, 0),))

    assert held().owed(renewed, 8) == (Owed(stage=0, step=5, index=0),)


def test_an_agreed_step_settles_what_its_contributors_held_and_nothing_else() -> None:
    unsettled = held()

    now = (Count(slot=0, names=((0, 9), (1, 9))), Count(slot=2, names=()), Count(slot=3, names=((0, 9), (1, 9))))
    unsettled.count(now, ROSTER, step=6, n_microbatches=2, closes=True)

    assert unsettled.holders(ROSTER) == (1,)
    assert len(unsettled) == 1


def test_the_list_survives_the_wire_and_a_malformed_one_is_refused() -> None:
    taken = Unsettled(64)

    taken.take(held().to_bytes(), n_stages=2, n_microbatches=2, step=6)

    assert taken.tensor.equal(held().tensor)
    for broken in (b"x", bytes(32 * 65)):
        with pytest.raises(ValueError, match="not taken over"):
            taken.take(broken, n_stages=2, n_microbatches=2, step=6)


@pytest.mark.parametrize(
    "row",
    [
        (0, 1, 5, 1),
        (-7, 1, 5, 1),
        (7, 2, 5, 1),
        (7, -1, 5, 1),
        (7, 1, 6, 1),
        (7, 1, -1, 1),
        (7, 1, 5, 2),
        (7, 1, 5, -1),
    ],
    ids=["no holder", "no holder's key", "stage", "stage below", "step", "step below", "index", "index below"],
)
def test_rows_of_what_the_run_has_not_made_are_refused(row: tuple[int, ...]) -> None:
    taken, data = held(), torch.tensor([[7, 0, 5, 0], row]).numpy().tobytes()

    with pytest.raises(ValueError, match="not made"):
        taken.take(data, n_stages=2, n_microbatches=2, step=6)

    assert taken.tensor.equal(held().tensor)


def test_a_list_that_names_a_microbatch_of_a_stage_twice_is_refused() -> None:
    for second in ([8, 0, 5, 1], [8, 0, 5, 0]):
        with pytest.raises(ValueError, match="not in order"):
            held().take(torch.tensor([[7, 0, 5, 1], second]).numpy().tobytes(), n_stages=2, n_microbatches=2, step=6)


def test_beyond_its_bound_the_oldest_are_given_up() -> None:
    unsettled = held(rows_max=6)

    unsettled.count(COUNTS, ROSTER, step=6, n_microbatches=2, closes=False)

    assert len(unsettled) == 6
    assert {one.step for _, one in unsettled._rows()} == {5, 6}
