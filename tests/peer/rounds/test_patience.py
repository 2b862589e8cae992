"""How long to wait for the others."""

from __future__ import annotations

import pytest

from gossamer.peer.rounds.outcome import Outcome
from gossamer.peer.rounds.patience import Patience
from gossamer.protocol.identity import PeerId

USUAL_S = 10.0


def _outcome(duration_s: float, *, committed: bool = True, excluded: str | None = None) -> Outcome:
    return Outcome(
        round_index=0,
        step=0,
        steps=0,
        committed=committed,
        contributors=(),
        excluded={PeerId("somebody"): excluded} if excluded else {},
        dropped=(),
        payload_bytes=0,
        duration_s=duration_s,
        overhead_s=0.0,
        exchange_s=0.0,
        update_s=0.0,
        ballots=1,
        leader=PeerId("leader"),
        digest=b"",
    )


def _after(n_rounds: int, *, reason: str | None, committed: bool = True) -> float:
    """The deadline after usual rounds and then some that lasted as long as their deadline."""
    patience = Patience(floor_s=1.0, initial_s=30.0)
    for _ in range(10):
        patience.learn(_outcome(USUAL_S), waited_s=30.0, n_steps=1)
    for _ in range(n_rounds):
        waited_s = patience.deadline_s(1)
        patience.learn(_outcome(waited_s, excluded=reason, committed=committed), waited_s=waited_s, n_steps=1)
    return patience.deadline_s(1)


@pytest.mark.parametrize("reason", ["silent", "unreachable", "dead"])
def test_waiting_in_vain_does_not_make_the_next_wait_longer(reason: str) -> None:
    assert _after(100, reason=reason) == pytest.approx(1.5 * USUAL_S)


def test_deadlines_grow_for_who_is_merely_late() -> None:
    assert _after(100, reason="late") > 3 * USUAL_S


def test_deadlines_grow_when_rounds_fail_since_members_are_late() -> None:
    assert _after(20, reason="late", committed=False) > 3 * USUAL_S


@pytest.mark.parametrize("reason", ["bad-contribution", "silent", None])
def test_rounds_that_fail_for_anything_else_teach_nothing(reason: str | None) -> None:
    """A leader that calls all contributions bad makes each of its rounds last as long as it can."""
    assert _after(100, reason=reason, committed=False) == pytest.approx(1.5 * USUAL_S)


def test_deadlines_count_local_steps() -> None:
    patience = Patience(floor_s=1.0, initial_s=30.0)
    for _ in range(3):
        patience.record(8.0, 4)

    assert patience.deadline_s(4) == pytest.approx(12.0)
    assert patience.deadline_s(40) == pytest.approx(120.0)


def test_the_first_deadlines_are_the_initial_one_and_none_is_below_the_floor() -> None:
    patience = Patience(floor_s=3.0, initial_s=30.0)
    assert patience.deadline_s(1) == 30.0

    for _ in range(3):
        patience.record(0.1, 1)

    assert patience.deadline_s(1) == 3.0


def test_a_first_round_that_was_long_makes_the_initial_deadline_longer_within_bounds() -> None:
    patience = Patience(floor_s=3.0, initial_s=30.0)

    patience.record(40.0, 1)
    assert patience.deadline_s(1) == pytest.approx(60.0)

    patience.record(1000.0, 1)
    assert patience.deadline_s(1) == pytest.approx(120.0)
