"""Chains cut into stages."""

from __future__ import annotations

import itertools
import random

import pytest

from gossamer.algorithms.partition import balanced_starts


def test_the_largest_stage_is_least() -> None:
    # 1+2+3+4 | 5 6 | 7: no better than 11.
    assert balanced_starts([1, 2, 3, 4, 5, 6, 7], 3) == (0, 4, 6)
    assert balanced_starts([1, 1, 1, 1], 4) == (0, 1, 2, 3)
    assert balanced_starts([5], 1) == (0,)


def test_no_cut_is_better_than_the_one_found() -> None:
    draw = random.Random(3)
    for _ in range(200):
        costs = [float(draw.randint(0, 9)) for _ in range(draw.randint(1, 8))]
        n_stages = draw.randint(1, len(costs))

        starts = balanced_starts(costs, n_stages)

        assert _worst(costs, starts) == min(
            _worst(costs, (0, *rest)) for rest in itertools.combinations(range(1, len(costs)), n_stages - 1)
        )


@pytest.mark.parametrize("n_stages", [0, 4])
def test_a_stage_without_layers_is_refused(n_stages: int) -> None:
    with pytest.raises(ValueError, match="every stage needs a layer"):
        balanced_starts([1.0, 2.0, 3.0], n_stages)


def _worst(costs: list[float], starts: tuple[int, ...]) -> float:
    return max(sum(costs[a:b]) for a, b in itertools.pairwise((*starts, len(costs))))
