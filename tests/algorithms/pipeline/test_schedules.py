"""Schedules, on virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import pytest

from gossamer.algorithms.pipeline.schedules import SCHEDULES, Launcher, Order, Pass, Work

Seconds = dict[Pass, float]
EQUAL: Seconds = {Pass.FORWARD: 1.0, Pass.BACKWARD: 2.0, Pass.WEIGHTS: 0.0}
SPLIT: Seconds = {Pass.FORWARD: 1.0, Pass.BACKWARD: 1.0, Pass.WEIGHTS: 1.0}
SHAPES = [(2, 4), (4, 8), (4, 32), (8, 16)]


@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("p", "m"), SHAPES)
def test_the_bubble_is_that_of_the_formula(name: str, p: int, m: int) -> None:
    launcher = Launcher(n_stages=p, n_microbatches=m, order=SCHEDULES[name])

    log, total_s = _simulate(launcher, EQUAL)

    busy_s = sum(EQUAL[work.kind] for _, work in log)
    assert 1 - busy_s / (p * total_s) == pytest.approx((p - 1) / (m + p - 1), rel=0.05)
    assert len(log) == 2 * p * m == len({work for _, work in log})


@pytest.mark.parametrize(("p", "m"), SHAPES)
def test_split_gradients_fill_the_bubble_as_far_as_zb_h1_does(p: int, m: int) -> None:
    launcher = Launcher(n_stages=p, n_microbatches=m, order=SCHEDULES["zero-bubble"])

    log, total_s = _simulate(launcher, SPLIT)

    # Idle (p-1)(F + B - W) = p - 1, where 1F1B would be idle for 3 (p - 1).
    assert total_s == pytest.approx(3 * m + (p - 1))
    assert len(log) == 3 * p * m == len({work for _, work in log})


@pytest.mark.parametrize(("name", "kept"), [("gpipe", [8, 8, 8]), ("1f1b", [3, 2, 1]), ("zero-bubble", [3, 2, 1])])
def test_inputs_are_kept_for_as_many_microbatches_as_stated(name: str, kept: list[int]) -> None:
    launcher = Launcher(n_stages=3, n_microbatches=8, order=SCHEDULES[name])

    log, _ = _simulate(launcher, SPLIT)

    assert [_most_kept(log, stage) for stage in range(3)] == kept


@pytest.mark.parametrize("order", [None, *SCHEDULES.values()])
def test_no_pass_begins_before_what_it_needs_is_done(order: Order | None) -> None:
    launcher = Launcher(n_stages=4, n_microbatches=6, order=order, credit=3)
    ended: dict[Work, float] = {}

    log, _ = _simulate(launcher, SPLIT)

    for end_s, work in log:
        ended[work] = end_s
        needed = work.needs(4)
        assert needed is None or ended[needed] <= end_s - SPLIT[work.kind]


def test_credit_bounds_what_is_on_its_way_and_enough_of_it_is_as_fast_as_1f1b() -> None:
    p, m = 4, 16
    slow = Launcher(n_stages=p, n_microbatches=m, credit=1)
    fast = Launcher(n_stages=p, n_microbatches=m, credit=2 * p)

    (one_by_one, slow_s), (together, fast_s) = (_simulate(launcher, EQUAL) for launcher in (slow, fast))

    assert (_most_kept(one_by_one, 0), _most_kept(together, 0)) == (1, 2 * p)
    assert slow_s == m * p * 3
    assert fast_s <= 1.05 * (m + p - 1) * 3


def test_a_trainer_launches_ahead_of_what_a_stage_has_done() -> None:
    launcher = Launcher(n_stages=2, n_microbatches=3, order=SCHEDULES["gpipe"], may_overlap=True)

    first = launcher.begin()

    assert [(work.stage, work.microbatch) for work in first] == [(0, 0), (0, 1), (0, 2)]
    launcher.end(first[1])
    assert launcher.begin() == []  # stage 1 keeps to its order
    launcher.end(first[0])
    assert [(work.stage, work.microbatch) for work in launcher.begin()] == [(1, 0), (1, 1)]


def test_a_failed_pass_is_begun_again_before_others() -> None:
    launcher = Launcher(n_stages=1, n_microbatches=2, order=SCHEDULES["1f1b"])
    (work,) = launcher.begin()

    launcher.undo(work)

    assert launcher.begin() == [work]
    assert not launcher.finished


def _simulate(launcher: Launcher, seconds: Seconds) -> tuple[list[tuple[float, Work]], float]:
    """The passes with the time at which each was done, in that order; and when all were."""
    running: list[tuple[float, int, Work]] = []
    log: list[tuple[float, Work]] = []
    now_s = 0.0
    while not launcher.finished:
        for work in launcher.begin():
            heapq.heappush(running, (now_s + seconds[work.kind], work.stage, work))  # one at a time at each stage
        now_s, _, work = heapq.heappop(running)
        launcher.end(work)
        log.append((now_s, work))
    return log, now_s


def _most_kept(log: Sequence[tuple[float, Work]], stage: int) -> int:
    kept = most = 0
    for _, work in log:
        if work.stage == stage and work.kind is not Pass.WEIGHTS:
            kept += 1 if work.kind is Pass.FORWARD else -1
            most = max(most, kept)
    return most
