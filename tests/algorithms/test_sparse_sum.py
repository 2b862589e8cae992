"""Sums of sparse contributions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gossamer.algorithms.payload import Coefficients
from gossamer.algorithms.sparse_sum import Combination, clip_weights
from gossamer.algorithms.tiles import Tiling

TILING = Tiling([(3,), (1,)], 2)
"""Two tensors, three tiles: elements 0 and 1, 2, and 3."""


def _contribution(values: dict[int, float], tensors: tuple[int, ...] = (0, 0, 0, 1)) -> Coefficients:
    positions = np.array(list(values), np.int64)
    return Coefficients(
        positions=positions,
        values=np.array(list(values.values()), np.float32),
        tensors=np.array(tensors, np.int64)[positions],
    )


def _totals(combination: Combination) -> list[float]:
    return [x for tensor in (0, 1) for x in combination.total(TILING.blocks_of(tensor)).tolist()]


def _sum_clipped(members: Sequence[Coefficients]) -> list[float]:
    return _totals(Combination.of(members, clip_weights(members, 2), TILING))


def test_contributions_of_equal_length_are_summed_with_absent_as_zero() -> None:
    total = _sum_clipped([_contribution({0: 1.0}), _contribution({1: -1.0}), _contribution({0: 1.0})])

    assert total == [2.0, -1.0, 0.0, 0.0]


def test_one_that_outweighs_the_others_is_scaled_to_their_median() -> None:
    total = _sum_clipped([_contribution({0: 1.0}), _contribution({0: -1000.0}), _contribution({1: 2.0})])

    # Norms 1, 1000, 2: the median is 2.
    assert total == [-1.0, 2.0, 0.0, 0.0]


def test_each_tensor_is_clipped_on_its_own() -> None:
    members = [_contribution({0: 3.0, 3: 1.0}), _contribution({0: 3.0, 3: 50.0}), _contribution({0: 3.0, 3: 1.0})]

    assert _sum_clipped(members) == [9.0, 0.0, 0.0, 3.0]


def test_a_tensor_that_only_a_minority_sends_does_not_move() -> None:
    members = [_contribution({0: 1.0, 3: 5.0}), _contribution({0: 1.0}), _contribution({0: 1.0})]

    assert _sum_clipped(members) == [3.0, 0.0, 0.0, 0.0]


def test_one_contributor_is_taken_as_it_is() -> None:
    assert _sum_clipped([_contribution({1: 7.0})]) == [0.0, 7.0, 0.0, 0.0]


def test_the_mean_of_senders_divides_by_those_who_sent() -> None:
    members = [_contribution({0: 1.0, 1: 4.0}), _contribution({0: 3.0}), _contribution({})]

    assert _totals(Combination.mean_of_senders(members, TILING)) == [2.0, 4.0, 0.0, 0.0]
