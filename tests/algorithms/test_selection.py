"""The k largest coefficients of each tile."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gossamer.algorithms.method import F32
from gossamer.algorithms.selection import largest


def test_the_largest_magnitudes_are_chosen_in_ascending_order_of_index() -> None:
    tiles = np.array([[1, -5, 3, 4], [0, 2, -1, 0]], np.float32)

    tile, index = largest(tiles, 2)

    assert list(zip(tile.tolist(), index.tolist(), strict=True)) == [(0, 1), (0, 3), (1, 1), (1, 2)]


def test_ties_go_to_the_lowest_index() -> None:
    tiles = np.array([[2, -2, 7, 2, 2]], np.float32)

    _, index = largest(tiles, 3)

    assert index.tolist() == [0, 1, 2]


def test_exact_zeros_are_left_out() -> None:
    tiles = np.array([[0, 0, 0], [0, -0.0, 1e-45]], np.float32)

    tile, index = largest(tiles, 2)

    assert (tile.tolist(), index.tolist()) == ([1], [2])


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 12), st.data())
def test_it_equals_a_stable_sort_by_magnitude(seed: int, n_tiles: int, area: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, area))
    tiles = np.random.Generator(np.random.Philox(key=seed)).integers(-3, 4, (n_tiles, area)).astype(np.float32)

    tile, index = largest(tiles, k)

    assert list(zip(tile.tolist(), index.tolist(), strict=True)) == _by_sorting(tiles, k)


def _by_sorting(tiles: F32, k: int) -> list[tuple[int, int]]:
    chosen = []
    for tile, row in enumerate(tiles):
        order = sorted(range(len(row)), key=lambda i: (-abs(row[i]), i))[:k]
        chosen += sorted((tile, i) for i in order if row[i] != 0)
    return chosen
