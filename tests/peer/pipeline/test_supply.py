"""How many microbatches a trainer has on their way at once."""

from __future__ import annotations

import pytest

from gossamer.peer.pipeline.supply import credit
from gossamer.peer.rounds.roster import NO_STAGE, Member, Roster
from gossamer.protocol.identity import Identity

PEERS = [Identity(bytes([number]) * 32).peer_id for number in range(64)]


@pytest.mark.parametrize(
    ("n_replicas", "n_trainers", "n_stages", "expected"),
    [(3, 1, 3, 6), (7, 7, 3, 4), (64, 64, 8, 4), (64, 8, 8, 16), (3, 3, 1, 2)],
)
def test_trainers_that_share_replicas_have_fewer_each(
    n_replicas: int, n_trainers: int, n_stages: int, expected: int
) -> None:
    members = [Member(PEERS[i], 1, i % n_stages, trains=i < n_trainers) for i in range(n_replicas)]

    assert credit(Roster.of(members), n_stages) == expected


def test_who_only_trains_is_no_replica() -> None:
    members = [Member(PEERS[i], 1, i if i < 2 else NO_STAGE, trains=i >= 2) for i in range(4)]

    assert credit(Roster.of(members), 8) == 4
