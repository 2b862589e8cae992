"""The k largest coefficients of each tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.algorithms.method import F32
from gossamer.algorithms.selection import largest
from gossamer.algorithms.tiles import Tiling


def _chosen(tiles: Sequence[Sequence[float]] | F32, k: int, *, skips_zeros: bool = False) -> list[tuple[int, int]]:
    """(tile, index) of what is chosen from rows that are tiles."""
    rows: F32 = np.array(tiles, np.float32)
    tiling = Tiling([(1, rows.shape[1])] * len(rows), 4096)
    quotas = np.full(len(rows), k, np.int64)
    counts, positions = largest(rows.reshape(-1), tiling, quotas, skips_zeros=skips_zeros)
    tile = np.repeat(np.arange(len(rows)), counts)
    return list(zip(tile.tolist(), (positions - tiling.starts[tile]).tolist(), strict=True))


def test_the_largest_magnitudes_are_chosen_in_ascending_order_of_index() -> None:
    assert _chosen([[1, -5, 3, 4], [0, 2, -1, 0]], 2) == [(0, 1), (0, 3), (1, 1), (1, 2)]


def test_ties_go_to_the_lowest_index() -> None:
    assert _chosen([[2, -2, 7, 2, 2]], 3) == [(0, 0), (0, 1), (0, 2)]


def test_exact_zeros_are_left_out() -> None:
    assert _chosen([[0, 0, 0], [0, -0.0, 1e-45]], 2) == [(1, 2)]


def test_a_tile_taken_whole_keeps_its_zeros_if_asked() -> None:
    assert _chosen([[1, 0, 2]], 3) == [(0, 0), (0, 1), (0, 2)]
    assert _chosen([[1, 0, 2]], 3, skips_zeros=True) == [(0, 0), (0, 2)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 12), st.data())
def test_it_equals_a_stable_sort_by_magnitude(seed: int, n_tiles: int, area: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, area))
    tiles = _integers(seed, n_tiles, area, span=3)

    assert _chosen(tiles, k, skips_zeros=True) == _by_sorting(tiles, k)


@pytest.mark.parametrize("k", [1, 8, 32, 100, 128, 129, 1000, 4095])
@pytest.mark.parametrize("span", [1, 20, 2000])
def test_it_equals_a_stable_sort_in_tiles_large_enough_for_every_shortcut(k: int, span: int) -> None:
    for area in (4096, 4095, 2049):
        tiles = _integers(k, 2, area, span=span)
        wanted = min(k, area - 1)

        assert _chosen(tiles, wanted) == _by_sorting(tiles, wanted)


def _integers(seed: int, n_tiles: int, area: int, *, span: int) -> npt.NDArray[np.float32]:
    generator = np.random.Generator(np.random.Philox(key=seed))
    return generator.integers(-span, span + 1, (n_tiles, area)).astype(np.float32)


def _by_sorting(tiles: F32, k: int) -> list[tuple[int, int]]:
    chosen = []
    for tile, row in enumerate(tiles):
        order = sorted(range(len(row)), key=lambda i: (-abs(row[i]), i))[:k]
        chosen += sorted((tile, i) for i in order if row[i] != 0)
    return chosen
