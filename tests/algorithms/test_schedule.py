"""Learning-rate schedules."""

from __future__ import annotations

import pytest

from gossamer.algorithms import BadOption, Schedule


def test_warmup_rises_in_equal_steps_and_never_starts_at_zero() -> None:
    schedule = Schedule(lr=1.0, warmup_steps=4)

    rates = [schedule.rate(step) for step in range(6)]

    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_line_ends_at_the_floor_and_stays_there() -> None:
    schedule = Schedule(lr=2.0, kind="linear", warmup_steps=0, total_steps=4, floor=0.5)

    rates = [schedule.rate(step) for step in (0, 1, 2, 3, 4, 100)]

    assert rates == [2.0, 1.75, 1.5, 1.25, 1.0, 1.0]


def test_a_cosine_is_halfway_down_in_the_middle() -> None:
    schedule = Schedule(lr=1.0, kind="cosine", warmup_steps=10, total_steps=110)

    assert schedule.rate(10) == 1.0
    assert schedule.rate(60) == pytest.approx(0.5)
    assert schedule.rate(110) == pytest.approx(0.0)


def test_a_constant_rate_needs_no_end() -> None:
    assert Schedule(lr=0.3).rate(10**9) == 0.3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"lr": -1.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": 1.0, "kind": "cosin"}, "kind"),
        ({"lr": 1.0, "kind": "linear", "warmup_steps": 5, "total_steps": 5}, "total_steps"),
        ({"lr": 1.0, "floor": 1.5}, "floor"),
        ({"lr": 1.0, "warmup_steps": -1}, "warmup_steps"),
    ],
)
def test_impossible_schedules_are_refused_by_name(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(BadOption, match=named):
        Schedule(**arguments)  # type: ignore[arg-type]
