"""How many local steps make a round."""

from __future__ import annotations

import pytest

from gossamer.algorithms import Schedule
from gossamer.algorithms.intervals import Interval, default_alpha


def _cosine(lr: float, total_steps: int, warmup_steps: int = 0) -> Schedule:
    return Schedule(lr=lr, kind="cosine", total_steps=total_steps, warmup_steps=warmup_steps)


@pytest.mark.parametrize(("eta", "alpha", "expected"), [(0.008, 0.0175, 4), (0.001, 0.0175, 306), (0.1, 0.3, 9)])
def test_the_papers_numbers(eta: float, alpha: float, expected: int) -> None:
    assert Interval(base=4, alpha=alpha, schedule=Schedule(lr=eta)).steps(0) == expected


def test_alpha_zero_keeps_h_constant() -> None:
    interval = Interval(base=5, alpha=0.0, schedule=_cosine(0.1, 100))

    assert {interval.steps(step) for step in range(0, 95, 5)} == {5}


def test_h_grows_as_the_rate_falls_and_ends_with_the_run() -> None:
    schedule = _cosine(0.1, 1000)
    interval = Interval(base=4, alpha=default_alpha(schedule, 4), schedule=schedule)

    lengths, step = [], 0
    while step < 1000:
        lengths.append(interval.steps(step))
        step += lengths[-1]

    assert lengths[0] == 4
    assert lengths[:-1] == sorted(lengths[:-1])
    assert lengths[-2] > 40
    assert step == 1000


def test_in_warm_up_h_is_that_of_its_end() -> None:
    schedule = _cosine(0.1, 1000, warmup_steps=50)
    interval = Interval(base=4, alpha=default_alpha(schedule, 4), schedule=schedule)

    assert interval.steps(0) == interval.steps(50) == 4


def test_a_rate_of_zero_is_bounded_by_the_steps_that_remain() -> None:
    schedule = _cosine(0.1, 100)
    interval = Interval(base=4, alpha=1.0, schedule=schedule)

    assert interval.steps(99) == 1
    assert Interval(base=4, alpha=1.0, schedule=Schedule(lr=0.0)).steps(7) == 1_000_000
