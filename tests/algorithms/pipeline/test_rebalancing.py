"""The rule by which replicas move: worth it, never to and fro, and no stage is left empty."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gossamer.algorithms.pipeline.rebalancing import (
    GAIN,
    SAFE,
    Fleet,
    Serving,
    balancing_move,
    urgent_move,
    work_of_stages,
)


def fleet(*stages: list[float]) -> Fleet:
    """Replicas of these speeds, by stage."""
    replicas = [
        Serving(name=f"{stage}{chr(97 + place)}", stage=stage, samples_per_s=speed)
        for stage, speeds in enumerate(stages)
        for place, speed in enumerate(speeds)
    ]
    return Fleet(replicas, len(stages))


def after(before: Fleet, name: str, stage: int) -> Fleet:
    moved = [
        replace(one, stage=stage, samples_per_s=before.power(one) / before.work[stage]) if one.name == name else one
        for one in before.replicas
    ]
    return Fleet(moved, before.n_stages, before.work)


def test_the_slowest_stage_gets_the_replica_that_makes_it_fastest() -> None:
    move = balancing_move(fleet([5, 5, 5, 5], [5, 5], [5, 5, 5]), rest_s=600)

    assert move is not None
    assert (move.from_stage, move.to_stage) == (0, 1)


def test_of_two_equally_slow_stages_one_is_helped() -> None:
    move = balancing_move(fleet([1] * 4, [1] * 4, [1, 1], [1, 1]), rest_s=600)

    assert move is not None
    assert move.to_stage == 2


def test_a_slow_replica_goes_where_a_fast_one_would_leave_a_hole() -> None:
    move = balancing_move(fleet([8, 2, 2], [3, 3]), rest_s=600)

    assert move is not None
    assert move.name in ("0b", "0c")


@pytest.mark.parametrize("stages", [([1, 1], [1, 1]), ([1, 1, 1], [1, 1]), ([9, 9], [1, 1]), ([1.0] * 21, [1.0] * 20)])
def test_what_is_balanced_or_cannot_be_spared_stays(stages: tuple[list[float], ...]) -> None:
    assert balancing_move(fleet(*stages), rest_s=600) is None


def test_who_has_moved_lately_or_is_on_its_way_stays() -> None:
    replicas = fleet([5, 5, 5, 5], [5, 5]).replicas
    lately = Fleet([replace(one, rested_s=100.0) for one in replicas], 2)
    coming = Fleet([replace(one, may_move=False) for one in replicas], 2)

    assert balancing_move(lately, rest_s=600) is None
    assert balancing_move(lately, rest_s=50) is not None
    assert balancing_move(coming, rest_s=0) is None


def test_a_stage_whose_passes_cost_more_needs_more_power() -> None:
    replicas = [Serving(name=name, stage=stage, samples_per_s=2 - stage) for stage, name in enumerate("abcdefgh"[:2])]
    replicas += [Serving(name=f"x{n}", stage=0, samples_per_s=2) for n in range(3)]
    replicas += [Serving(name="y", stage=1, samples_per_s=1)]

    heavy = Fleet(replicas, 2, work=(1.0, 2.0))
    move = balancing_move(heavy, rest_s=0)

    assert heavy.rate(0) == 8
    assert heavy.rate(1) == 2
    assert move is not None
    assert move.to_stage == 1


def test_a_stage_that_one_death_would_end_is_helped_however_fast_it_is() -> None:
    move = urgent_move(fleet([100], [1, 1, 1], [1, 1]))

    assert move is not None
    assert (move.from_stage, move.to_stage) == (1, 0)
    assert urgent_move(fleet([1], [1, 1], [1, 1])) is None


def test_for_an_empty_stage_another_goes_down_to_one_unless_it_is_closed() -> None:
    move = urgent_move(fleet([], [1, 1]))

    assert move is not None
    assert (move.from_stage, move.to_stage) == (1, 0)
    assert urgent_move(fleet([], [1, 1]), but=[0]) is None


def test_newcomers_go_where_a_death_would_hurt_then_where_it_is_slowest_then_where_queues_are_long() -> None:
    assert fleet([9], [1, 1], [1, 1]).neediest() == 0
    assert fleet([3, 3], [1, 1, 1], [4, 4]).neediest() == 1
    waiting = Fleet([replace(one, n_waiting=one.stage) for one in fleet([1, 1], [1, 1], [1, 1]).replicas], 3)
    assert waiting.neediest() == 2
    assert fleet([1], [1], [1]).neediest(rather=1) == 1
    assert fleet([], [1, 1], [1, 1]).neediest(but=[0]) == 1


@pytest.mark.parametrize("seed", range(20))
def test_moves_end_and_each_raises_the_slowest_without_emptying_a_stage(seed: int) -> None:
    draw = random.Random(seed)
    now = fleet(*[[draw.uniform(0.2, 5) for _ in range(draw.randint(2, 9))] for _ in range(draw.randint(2, 8))])
    for _ in range(200):
        move = balancing_move(now, rest_s=0)
        if move is None:
            break
        moved = after(now, move.name, move.to_stage)
        slowest = now.rate(move.to_stage)
        assert min(moved.rate(move.to_stage), moved.rate(move.from_stage)) >= GAIN * slowest * 0.999
        assert min(len(moved.at(stage)) for stage in range(moved.n_stages)) >= SAFE
        now = moved
    else:
        pytest.fail("replicas move to and fro")


def test_a_replica_keeps_the_state_it_has_unless_another_stage_is_far_worse_off() -> None:
    assert fleet([1, 1], [1]).is_better_off(0, 1)  # one death would end it
    assert not fleet([1], [1]).is_better_off(0, 1)
    assert not fleet([1, 1, 1], [1, 1.1]).is_better_off(0, 1)  # slower, and not by far
    assert fleet([1, 1, 1], [1, 0.5]).is_better_off(0, 1)
    assert not fleet([1, 1, 1], [1]).is_better_off(0, 0)


def test_the_median_replica_says_what_a_pass_costs_at_a_stage() -> None:
    told = [(0, 8.0), (0, 8.0), (0, 0.8), (1, 2.0), (1, 2.0), (1, 0.0)]
    replicas = [Serving(name=str(i), stage=stage, samples_per_s=speed) for i, (stage, speed) in enumerate(told)]

    work = work_of_stages(replicas, 2)

    assert work == (1 / 8, 1 / 2)
    known = Fleet(replicas, 2, work)
    assert known.power(replicas[0]) == known.power(replicas[3]) == 1.0  # machines alike, stages not
    assert work_of_stages(replicas[:4], 2) is None
