"""Cutting tensors into tiles."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.algorithms.tiles import Shape, Tiling, matrix_shape

SHAPES: list[Shape] = [(130, 67), (7,), (), (0, 5), (5, 0), (64, 64), (6, 3, 5, 5), (97, 1), (128,), (3, 200)]


def _matrices(tiling: Tiling, seed: int = 0) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    generator = np.random.Generator(np.random.Philox(key=seed))
    return [generator.standard_normal(shape, dtype=np.float32) for shape in tiling.matrices]


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [((8, 3, 5, 5), (8, 75)), ((7,), (7, 1)), ((), (1, 1)), ((0, 5), (0, 5)), ((2, 0, 3), (2, 0))],
)
def test_tensors_are_viewed_as_matrices(shape: Shape, matrix: tuple[int, int]) -> None:
    assert matrix_shape(shape) == matrix


def test_remainders_make_tiles_of_their_own_size() -> None:
    tiling = Tiling([(130, 67)], 64)

    shapes = [(block.height, block.width, block.n_tiles) for block in tiling.blocks]

    assert shapes == [(64, 64, 2), (64, 3, 2), (2, 64, 1), (2, 3, 1)]


def test_a_tile_holds_its_part_of_the_matrix_in_c_order() -> None:
    tiling = Tiling([(2, 4)], 2)

    tiled = tiling.gather([np.arange(8, dtype=np.float32).reshape(2, 4)])

    assert tiled.tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


@pytest.mark.parametrize("size", [1, 5, 64])
def test_scatter_undoes_gather_for_every_shape(size: int) -> None:
    tiling = Tiling(SHAPES, size)
    matrices = _matrices(tiling)

    back = tiling.scatter(tiling.gather(matrices))

    assert all(np.array_equal(a, b) for a, b in zip(matrices, back, strict=True))


def test_each_tile_knows_its_tensor() -> None:
    tiling = Tiling(SHAPES, 64)
    ones = [np.full(shape, i, np.float32) for i, shape in enumerate(tiling.matrices)]

    assert np.array_equal(np.repeat(tiling.tensors, tiling.areas), tiling.gather(ones))
