"""Robust rules for dense contributions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gossamer.algorithms import BadOption
from gossamer.algorithms.method import F32
from gossamer.algorithms.robust import DENSE_RULES, build_rule
from gossamer.algorithms.robust.krum import krum_scores
from gossamer.algorithms.robust.ordered import CHUNK, network, sort_rows

DIM = CHUNK + 37
ARBITRARY = (1e30, -1e30, 0.0, 3.0, -1e3)


def _vectors(*rows: Sequence[float]) -> list[F32]:
    return [np.array(row, np.float32) for row in rows]


def _aggregate(name: str, vectors: Sequence[F32], *, n_liars: int = 1, radius: float = 0.0, n_repeats: int = 1) -> F32:
    rule = build_rule(name, n_liars=n_liars, radius=radius, n_repeats=n_repeats)
    return rule.aggregate(vectors, np.zeros(len(vectors[0]) if rule.keeps_reference else 0, np.float32)).vector


def _honest(n: int, dim: int = DIM, seed: int = 1) -> list[F32]:
    generator = np.random.Generator(np.random.Philox(key=seed))
    common = generator.standard_normal(dim, dtype=np.float32)
    return [common + generator.standard_normal(dim, dtype=np.float32) for _ in range(n)]


# -- numbers to check by hand ----------------------------------------------------------------------------------------


def test_the_trimmed_mean_leaves_out_the_ends_of_each_coordinate() -> None:
    vectors = _vectors([1, -9], [2, 1], [3, 2], [6, 3], [100, 4])

    assert _aggregate("trimmed", vectors).tolist() == pytest.approx([(2 + 3 + 6) / 3, 2.0])
    assert _aggregate("trimmed", vectors, n_liars=2).tolist() == [3.0, 2.0]


def test_the_median_is_the_middle_or_the_mean_of_two() -> None:
    assert _aggregate("median", _vectors([5, 1], [1, 2], [900, 3])).tolist() == [5.0, 2.0]
    assert _aggregate("median", _vectors([5], [1], [900], [7])).tolist() == [6.0]


def test_krum_scores_add_the_squared_distances_to_the_nearest() -> None:
    vectors = _vectors([0], [1], [3], [4], [10])

    # Five vectors, one liar: two nearest each.
    assert krum_scores(vectors, 1).tolist() == [1 + 9, 1 + 4, 1 + 4, 1 + 9, 36 + 49]


def test_krum_takes_one_vector_and_multikrum_leaves_out_the_farthest() -> None:
    vectors = _vectors([0], [1], [3], [4], [10])
    krum, multikrum = (build_rule(name, n_liars=1) for name in ("krum", "multikrum"))
    nothing = np.empty(0, np.float32)

    one, many = krum.aggregate(vectors, nothing), multikrum.aggregate(vectors, nothing)

    assert (one.vector.tolist(), one.dropped) == ([1.0], (0, 2, 3, 4))
    assert (many.vector.tolist(), many.dropped) == ([2.0], (4,))


def test_clipping_scales_to_the_median_norm() -> None:
    # Norms 5, 1, 1000: the median is 5.
    vectors = _vectors([3, 4], [1, 0], [0, -1000])

    assert _aggregate("clip", vectors).tolist() == pytest.approx([4 / 3, -1 / 3])


def test_centered_clipping_steps_from_the_last_result() -> None:
    rule = build_rule("centered", n_liars=1, radius=2.0)

    # From 10: steps of 1, -1 and 90, of which the last is clipped to 2.
    assert rule.aggregate(_vectors([11], [9], [100]), np.array([10], np.float32)).vector.tolist() == pytest.approx(
        [10 + 2 / 3]
    )


def test_centered_clipping_without_a_radius_uses_the_median_distance() -> None:
    # Distances from 0 are 1, 3 and 100.
    assert _aggregate("centered", _vectors([1], [3], [100])).tolist() == pytest.approx([(1 + 3 + 3) / 3])


def test_more_steps_come_closer_to_where_most_are() -> None:
    vectors = _vectors([10], [10], [10], [10], [-1000])

    once, often = (_aggregate("centered", vectors, radius=1.0, n_repeats=n)[0] for n in (1, 10))

    assert once == pytest.approx(0.6)
    assert often == pytest.approx(6.0)


# -- liars -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trimmed", "median"])
@pytest.mark.parametrize(("n", "n_liars"), [(3, 1), (5, 2), (7, 3), (8, 3)])
def test_liars_cannot_move_a_coordinate_beyond_the_honest_values(name: str, n: int, n_liars: int) -> None:
    honest = _honest(n - n_liars)
    low, high = np.min(honest, axis=0), np.max(honest, axis=0)

    for lies in itertools.combinations_with_replacement(ARBITRARY, n_liars):
        vectors = [*(np.full(DIM, lie, np.float32) for lie in lies), *honest]
        result = _aggregate(name, vectors, n_liars=n_liars)
        assert (result >= low).all()
        assert (result <= high).all()


def test_one_liar_more_than_that_moves_it_anywhere() -> None:
    vectors = [*_honest(3), np.full(DIM, 1e30, np.float32), np.full(DIM, 1e30, np.float32)]

    assert _aggregate("trimmed", vectors, n_liars=1).min() > 1e29


def test_one_liar_owns_the_mean() -> None:
    vectors = [*_honest(4), np.full(DIM, 1e30, np.float32)]

    assert np.mean(vectors, axis=0).min() > 1e29


@pytest.mark.parametrize("name", DENSE_RULES)
@pytest.mark.parametrize("lie", [1e30, -1e30, 0.0, -50.0])
def test_no_rule_is_carried_away_by_one_of_five(name: str, lie: float) -> None:
    honest = _honest(4)
    spread = max(float(np.linalg.norm(a - b)) for a in honest for b in honest)

    result = _aggregate(name, [*honest, np.full(DIM, lie, np.float32)], n_repeats=5)

    assert np.linalg.norm(result - np.mean(honest, axis=0)) < 1.1 * spread


@pytest.mark.parametrize("name", ["krum", "multikrum"])
def test_krum_drops_the_one_that_is_far_from_all(name: str) -> None:
    vectors = _honest(5)
    vectors[2] = -20 * vectors[2]

    assert 2 in build_rule(name, n_liars=1).aggregate(vectors, np.empty(0, np.float32)).dropped


# -- bits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENSE_RULES)
def test_the_order_of_the_vectors_does_not_change_a_bit(name: str) -> None:
    vectors = _honest(5, dim=513)
    vectors[1][:4] = [0.0, -0.0, 1e30, -1e-40]
    vectors[3][:2] = [-0.0, 0.0]
    expected = _aggregate(name, vectors, n_repeats=3).tobytes()

    for order in itertools.permutations(range(5)):
        assert _aggregate(name, [vectors[i] for i in order], n_repeats=3).tobytes() == expected


@pytest.mark.parametrize("name", ["trimmed", "median"])
def test_parts_aggregated_apart_make_the_whole(name: str) -> None:
    vectors = _honest(5)

    apart = [_aggregate(name, [v[part] for v in vectors]) for part in (slice(0, 1001), slice(1001, None))]

    assert np.concatenate(apart).tobytes() == _aggregate(name, vectors).tobytes()


@pytest.mark.parametrize("name", ["trimmed", "median", "multikrum", "clip"])
def test_equal_vectors_aggregate_to_themselves(name: str) -> None:
    vectors = [_honest(1)[0]] * 7

    assert np.allclose(_aggregate(name, vectors), vectors[0], rtol=1e-6)


@pytest.mark.parametrize("n", range(1, 13))
def test_the_network_sorts_all_zeros_and_ones_and_hence_everything(n: int) -> None:
    columns = np.array(list(itertools.product([0, 1], repeat=n)), np.float32).T
    rows = list(columns.copy())

    sort_rows(rows)

    assert np.array_equal(rows, np.sort(columns, axis=0))


def test_the_network_sorts_large_groups() -> None:
    rows = _honest(32, dim=200)
    expected = np.sort(rows, axis=0)

    sort_rows(rows)

    assert np.array_equal(rows, expected)
    assert len(network(32)) == 191


@given(
    st.lists(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=2, max_size=2), min_size=3, max_size=9),
    st.integers(1, 4),
)
@example([[0.0, 0.0], [0.0, 0.0], [0.0, -1.0], [0.0, -float(np.finfo(np.float32).smallest_subnormal)]], 1)
def test_the_trimmed_mean_equals_that_of_sorted_columns(rows: list[list[float]], n_liars: int) -> None:
    n_liars = min(n_liars, (len(rows) - 1) // 2)
    vectors = _vectors(*rows)
    kept = np.sort(np.array(vectors, np.float64), axis=0)[n_liars : len(rows) - n_liars]

    result = _aggregate("trimmed", vectors, n_liars=n_liars)

    atol = 1e-6 * np.abs(kept).max() + np.finfo(np.float32).smallest_subnormal  # half of which has no place in float32
    assert np.allclose(result, kept.mean(axis=0), rtol=1e-5, atol=atol)


# -- choosing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "n_min"), [("trimmed", 5), ("median", 5), ("clip", 5), ("krum", 7), ("centered", 5)])
def test_the_honest_must_outnumber_the_liars(name: str, n_min: int) -> None:
    assert build_rule(name, n_liars=2).n_min == n_min


def test_a_rule_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadOption, match="choose one of trimmed"):
        build_rule("trimed", n_liars=1)
