"""Whom a leader gives up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from gossamer.peer.pipeline.exchange import StageExchange
from gossamer.peer.pipeline.planning import Planning
from gossamer.peer.rounds.counts import NOBODY, Countable, Route
from gossamer.peer.rounds.leading import Leadership
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
    planning = _planning(suspects={4: "unreachable"})
    states = (b"z", b"a", b"z")

    plan = planning.next_plan(None, {slot: _report(states[slot]) for slot in range(n_reports)})

    assert plan is not None
    assert plan.dead == expected


@pytest.mark.parametrize(("progressed_s", "settles"), [(20.0, True), (80.0, False)])
def test_a_step_settles_for_less_only_when_nothing_comes_any_more(progressed_s: float, settles: bool) -> None:
    planning = _planning(suspects={}, elapsed_s=100.0)
    planning.progressed_s = progressed_s

    assert planning._settles_for(7, 8) is settles


def test_a_newcomer_that_leads_goes_by_the_deadline_of_most() -> None:
    told = {slot: SimpleNamespace(patience_s=seconds) for slot, seconds in enumerate((30.0, 90.0, 100.0, 0.0))}
    leading = SimpleNamespace(reports=told, round=SimpleNamespace(patience_s=30.0))

    assert Leadership.patience_s.fget(leading) == 90.0  # type: ignore[attr-defined]


def test_members_keep_their_microbatches_when_the_roster_changes_and_what_the_lost_ones_had_done_is_told() -> None:
    newcomer = Member(Identity(bytes([9]) * 32).peer_id, 1, 0)
    after = ROSTER.changed([1], [newcomer, ROSTER.members[2].reborn()])
    routes = {0: (0, 5), 1: (3, 1, 6), 2: (2,), 3: (3,)}  # microbatches that are whole, by trainer
    holders = {0: 0, 1: 3, 2: 3, 3: 4, 5: 0, 6: 1}
    reports = {
        slot: Report(
            ballot=0,
            base=b"",
            items={},
            ready=False,
            attempt=0,
            leaving=False,
            state=b"z",
            routes=tuple(Route(index=index, slots=(holders[index],), takes=(7,)) for index in mine),
        )
        for slot, mine in routes.items()
    }

    told = _planning(suspects={1: "unreachable", 2: "restarted"}).going_on(None, reports, after)

    passing = [after.members[slot] if slot != NOBODY else None for slot in told.turns]
    first, _, _, fourth, last = ROSTER.members
    # 1 and 2 were whole at members that stay; 6 was held by one that is gone, and 7 was never whole.
    assert passing[:6] == [first, None, None, fourth, last, first]
    assert set(passing[6:]) <= {first, fourth, last}
    assert [(route.index, after.members[route.slots[0]], route.takes) for route in told.routes] == [
        (1, fourth, (7,)),
        (2, fourth, (7,)),
    ]


@pytest.mark.parametrize(
    ("is_restless", "suspects", "is_awaited", "every_s"),
    [
        (False, {}, False, 60.0),
        (True, {}, False, 10.0),
        (False, {1: "unreachable"}, False, 10.0),
        (False, {}, True, 5.0),
    ],
)
def test_parts_are_rare_while_nobody_is_lost(
    is_restless: bool, suspects: dict[int, str], is_awaited: bool, every_s: float
) -> None:
    due = []
    for elapsed_s in (every_s - 0.1, every_s + 0.1):
        planning = _planning(suspects, elapsed_s)
        planning.counts_in_parts, planning._opened_s = True, 0.0
        planning.is_restless, planning.is_awaited = lambda: is_restless, lambda: is_awaited
        due.append(planning._is_part_due(4))

    assert due == [False, True]


def _planning(suspects: dict[int, str], elapsed_s: float = 1.0) -> Planning:
    live = [slot for slot in range(len(ROSTER)) if slot not in suspects]
    round_ = SimpleNamespace(
        place=SimpleNamespace(roster=ROSTER),
        suspects=suspects,
        live=lambda: live,
        ballot=0,
        patience_s=30.0,
        elapsed_s=elapsed_s,
        leadership=None,
    )
    exchange = cast(StageExchange, SimpleNamespace(holders=()))
    return Planning(exchange, cast(Round, round_), Countable(n_stages=1, n_microbatches=8))


def _report(state: bytes) -> Report:
    return cast(Report, SimpleNamespace(state=state, lost=(), routes=()))
