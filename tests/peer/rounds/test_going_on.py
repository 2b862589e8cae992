"""Decisions by which a step goes on: what they say survives the wire, and what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossamer.peer.rounds.counts import NOBODY, Route
from gossamer.peer.rounds.decision import Decision
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.peer.rounds.stage_changes import Move
from gossamer.protocol.errors import InvalidMessage
from gossamer.protocol.identity import Identity

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(4))
ROSTER = Roster.of(Member(peer, 1, number % 2) for number, peer in enumerate(PEERS))
GOES_ON = Decision(
    lineage=bytes(16),
    round_index=3,
    base=bytes(32),
    removed=(3,),
    turns=(0, 2, NOBODY),
    routes=(Route(index=2, slots=(0, 1), takes=(5, 6)),),
)


def test_who_goes_on_with_what_survives_the_wire() -> None:
    assert Decision.decode(GOES_ON.encode(), ROSTER) == GOES_ON


@pytest.mark.parametrize(
    "broken",
    [
        replace(GOES_ON, turns=(0, 3, NOBODY)),
        replace(GOES_ON, turns=(0, 2, 1)),
        replace(GOES_ON, routes=()),
        replace(GOES_ON, turns=()),
        replace(GOES_ON, routes=(Route(index=2, slots=(0, 3), takes=(5, 6)),)),
        replace(GOES_ON, moves=(Move(slot=3, stage=0),)),
        replace(GOES_ON, stop=True),
    ],
    ids=["who is gone", "a route too many", "a route too few", "routes alone", "held by who is gone", "moves", "stops"],
)
def test_what_cannot_go_on_so_is_refused(broken: Decision) -> None:
    with pytest.raises(InvalidMessage):
        Decision.decode(broken.encode(), ROSTER)
