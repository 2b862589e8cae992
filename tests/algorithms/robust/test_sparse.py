"""Robust rules for sparse contributions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from gossamer.algorithms.payload import Coefficients
from gossamer.algorithms.robust.sparse import agreeing_weights, disagreeing, inner_products, signs_of
from gossamer.algorithms.sparse_sum import Combination
from gossamer.algorithms.tiles import Tiling

TILING = Tiling([(4,)], 64)


def _contribution(values: dict[int, float]) -> Coefficients:
    positions = np.array(list(values), np.int64)
    return Coefficients(
        positions=positions,
        values=np.array(list(values.values()), np.float32),
        tensors=np.zeros(len(positions), np.int64),
    )


def _total(combination: Combination) -> list[float]:
    total: list[float] = combination.total(TILING.blocks).tolist()
    return total


def _sum_of_agreeing(members: Sequence[Coefficients]) -> tuple[list[float], tuple[int, ...]]:
    weights, dropped = agreeing_weights(members, 4, 1)
    return _total(Combination.of(members, weights, TILING)), dropped


def test_votes_count_signs_and_not_sizes() -> None:
    members = [_contribution({0: 1.0, 1: -2.0}), _contribution({0: -1e30}), _contribution({0: 0.1, 3: 5.0})]

    votes = Combination.of(signs_of(members), np.ones((3, 1), np.float32), TILING)

    assert _total(votes) == [1.0, -1.0, 0.0, 1.0]


def test_inner_products_are_of_the_clipped_contributions() -> None:
    members = [_contribution({0: 2.0, 1: 1.0}), _contribution({0: 3.0, 2: 9.0}), _contribution({1: 4.0, 2: -1.0})]
    weights = np.array([[1.0], [0.5], [1.0]], np.float32)

    products = inner_products(members, weights, 4)

    assert products.tolist() == [[0, 3, 4], [3, 0, -4.5], [4, -4.5, 0]]


def test_who_points_the_other_way_is_rejected() -> None:
    honest = [_contribution({0: 1.0, 1: 1.0}), _contribution({0: 1.0, 2: 1.0}), _contribution({0: 1.0, 3: 1.0})]
    liar = _contribution({0: -1.0, 1: -1.0})

    total, dropped = _sum_of_agreeing([honest[0], liar, *honest[1:]])

    assert dropped == (1,)
    assert total == [3.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("n", range(1, 10))
def test_the_best_three_or_half_always_stay(n: int) -> None:
    # Everybody disagrees with everybody.
    products = -np.ones((n, n))

    dropped = disagreeing(products)

    assert n - len(dropped) == max(min(n, 3), math.ceil(n / 2))


def test_of_those_that_agree_nobody_is_dropped() -> None:
    assert disagreeing(np.ones((7, 7))) == ()


def test_no_overlap_at_all_is_no_agreement() -> None:
    members = [_contribution({i: 1.0}) for i in range(4)]

    total, dropped = _sum_of_agreeing(members)

    assert dropped == (3,)
    assert total == [1.0, 1.0, 1.0, 0.0]


def test_rejection_does_not_depend_on_the_order() -> None:
    generator = np.random.Generator(np.random.Philox(key=3))
    common = generator.standard_normal(60)
    members = [
        _contribution({int(i): float(s * common[i]) for i in generator.choice(60, 30, replace=False)})
        for s in (1, 1.5, 1, 2, -1)
    ]

    for order in itertools.permutations(range(5)):
        _, dropped = agreeing_weights([members[i] for i in order], 60, 1)
        assert [order[i] for i in dropped] == [4]


def test_a_lone_sender_owns_its_coordinate_in_the_mean_of_senders() -> None:
    members = [_contribution({0: 1.0}), _contribution({0: 1.0}), _contribution({1: 1000.0})]

    assert _total(Combination.mean_of_senders(members, TILING)) == [1.0, 1000.0, 0.0, 0.0]
