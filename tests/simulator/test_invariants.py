"""What the simulator holds against daemons' logs: neither too much nor too little."""

from __future__ import annotations

import dataclasses

from gossamer.peer.daemon import Result
from gossamer.peer.event_kinds import Event, Forked, Joined, Resynced, RoundEnded
from gossamer.peer.events import Entry
from gossamer.simulator.invariants import violations
from gossamer.simulator.lives import End
from gossamer.simulator.tables import Expectation

FIRST, SECOND = "aa" * 16, "bb" * 16


def test_two_digests_of_one_round_are_told() -> None:
    logs = {"0": _log(_joined(FIRST), _round(3, "d0")), "1": _log(_joined(FIRST), _round(3, "d1"))}

    (found,) = violations(logs, [], Expectation())

    assert found.startswith("one result: round 3")


def test_both_halves_of_a_split_may_differ() -> None:
    forked = Forked(round=3, from_lineage=FIRST, to_lineage=SECOND, roster=("b",))
    logs = {"0": _log(_joined(FIRST), _round(3, "d0")), "1": _log(_joined(FIRST), forked, _round(3, "d1"))}

    assert violations(logs, [], Expectation()) == []


def test_who_goes_over_to_the_other_half_is_held_to_that_ones_history() -> None:
    other: list[Event] = [_joined(SECOND), _round(3, "d1"), _round(4, "e1")]
    over = Resynced(from_round=0, to_round=4, bytes=1, donors=("b",), seconds=0.1, how="", lineage=SECOND)
    logs = {"0": _log(_joined(FIRST), _round(3, "d0"), _round(4, "e0"), over), "1": _log(*other)}

    agrees = logs | {"0": [*logs["0"], *_log(_round(4, "e1"))]}
    differs = logs | {"0": [*logs["0"], *_log(_round(4, "e2"))]}

    assert violations(agrees, [], Expectation()) == []
    assert len(violations(differs, [], Expectation())) == 1


def test_a_peer_that_finishes_in_two_lives_is_one_that_has_finished() -> None:
    result = Result(outcome="finished", step=1, round_index=1, digest=b"", samples=1)
    ends = [End(peer=peer, result=result) for peer in ("p0", "p1", "p1")] + [End(peer="p2", result=None)]

    assert violations({}, ends, Expectation(finished_min=2)) == []
    assert violations({}, ends, Expectation(finished_min=3)) == ["liveness: 2 peers finished, at least 3 were expected"]


def _joined(lineage: str) -> Joined:
    return Joined(round=0, roster=("a", "b"), lineage=lineage)


def _round(index: int, digest: str) -> RoundEnded:
    return dataclasses.replace(_COMMITTED, round=index, digest=digest)


def _log(*events: Event) -> list[Entry]:
    return [Entry(t_s=0.0, unix_s=0.0, peer="a", event=event) for event in events]


_COMMITTED = RoundEnded(
    round=0,
    step=1,
    outcome="committed",
    contributors=("a",),
    excluded={},
    payload_bytes=1,
    duration_s=0.1,
    overhead_s=0.1,
    ballots=1,
    leader="a",
    digest="",
)
