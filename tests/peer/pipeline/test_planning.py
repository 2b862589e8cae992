"""Whom a leader gives up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from gossamer.peer.pipeline.exchange import StageExchange
from gossamer.peer.pipeline.planning import Planning
from gossamer.peer.rounds.counts import Countable
from gossamer.peer.rounds.place import Report
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.peer.rounds.round import Round
from gossamer.protocol.identity import Identity

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(5))
ROSTER = Roster.of(Member(peer, 1, 0) for peer in PEERS)


@pytest.mark.parametrize(("n_reports", "expected"), [(2, (4,)), (3, (1, 4))])
def test_the_dead_are_given_up_at_once_and_who_strays_when_a_quorum_has_said_from_what(
    n_reports: int, expected: tuple[int, ...]
) -> None:
    place = SimpleNamespace(roster=ROSTER)
    round_ = SimpleNamespace(
        place=place, suspects={4: "unreachable"}, live=lambda: [0, 1, 2, 3], ballot=0, patience_s=30.0, elapsed_s=1.0
    )
    exchange = cast(StageExchange, SimpleNamespace(holders=()))
    planning = Planning(exchange, cast(Round, round_), Countable(n_stages=1, n_microbatches=8))
    states = (b"z", b"a", b"z")

    plan = planning.next_plan(None, {slot: _report(states[slot]) for slot in range(n_reports)})

    assert plan is not None
    assert plan.dead == expected


def _report(state: bytes) -> Report:
    return cast(Report, SimpleNamespace(state=state, lost=(), routes=()))
