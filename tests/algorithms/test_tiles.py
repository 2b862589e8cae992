"""Cutting tensors into tiles, and the transform of the tiles."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from gossamer.algorithms import dct
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

    shapes = [(group.height, group.width, group.n_tiles) for group in tiling.groups]

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
    areas = np.repeat([g.area for g in tiling.groups], [g.n_tiles for g in tiling.groups])

    assert np.array_equal(np.repeat(tiling.tensor_of_tile(), areas), tiling.gather(ones))


def test_the_transform_keeps_norms_and_comes_back() -> None:
    tiling = Tiling(SHAPES, 64)
    tiled = tiling.gather(_matrices(tiling))

    coefficients = dct.forward(tiled.copy(), tiling)
    back = dct.inverse(coefficients.copy(), tiling)

    assert np.linalg.norm(coefficients) == pytest.approx(float(np.linalg.norm(tiled)), rel=1e-5)
    assert np.abs(back - tiled).max() <= 1e-5


def test_each_tile_is_transformed_alone_at_its_own_size() -> None:
    tiling = Tiling([(70, 3)], 64)
    (matrix,) = _matrices(tiling)

    coefficients = dct.forward(tiling.gather([matrix]), tiling)

    top, bottom = (scipy.fft.dctn(part, norm="ortho").ravel() for part in (matrix[:64], matrix[64:]))
    assert np.allclose(coefficients, np.concatenate([top, bottom]), atol=1e-6)


def test_a_constant_tile_has_one_coefficient() -> None:
    tiling = Tiling([(4, 4)], 4)

    coefficients = dct.forward(np.full(16, 0.5, np.float32), tiling)

    assert coefficients[0] == pytest.approx(2.0)
    assert np.abs(coefficients[1:]).max() < 1e-7
