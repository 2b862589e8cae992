"""When a leader counts less than a whole step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from gossamer.peer.pipeline.exchange import StageExchange
from gossamer.peer.pipeline.planning import Planning
from gossamer.peer.rounds.counts import Countable, Route
from gossamer.peer.rounds.place import Report
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.peer.rounds.round import Round
from gossamer.protocol.identity import Identity

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(2))
ROSTER = Roster.of([Member(PEERS[0], 1, 0), Member(PEERS[1], 1, 1)])
COUNTABLE = Countable(n_stages=2, n_microbatches=8)


def test_a_step_is_not_cut_short_while_microbatches_still_come_back() -> None:
    round_ = SimpleNamespace(
        place=SimpleNamespace(roster=ROSTER), suspects={}, live=lambda: [0, 1], ballot=0, patience_s=30.0, elapsed_s=0.0
    )
    planning = Planning(cast(StageExchange, SimpleNamespace(holders=())), cast(Round, round_), COUNTABLE)

    def counts_after(elapsed_s: float, n_whole: int) -> bool:
        round_.elapsed_s = elapsed_s
        plan = planning.next_plan(None, {0: _report(n_whole)})
        return plan is not None and bool(plan.counts)

    assert not counts_after(80.0, 5)
    assert not counts_after(95.0, 6)  # past three deadlines, but one more has just come
    assert not counts_after(120.0, 6)
    assert counts_after(126.0, 6)


def _report(n_whole: int) -> Report:
    routes = [Route(index=index, slots=(0, 1), takes=(0, 0)) for index in range(n_whole)]
    return cast(Report, SimpleNamespace(state=b"state", lost=(), routes=routes))
