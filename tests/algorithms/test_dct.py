"""The transform of tiles: fused, plain, and on devices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch

from gossamer.algorithms import dct, dct_device
from gossamer.algorithms.kernels.butterflies import orthonormal_dct2, orthonormal_dct3
from gossamer.algorithms.method import F32
from gossamer.algorithms.sparse_sum import Combination
from gossamer.algorithms.tiles import Shape, Tiling

SHAPES: list[Shape] = [(130, 67), (7,), (), (0, 5), (5, 0), (64, 64), (6, 3, 5, 5), (97, 1), (128,), (3, 200)]


def _matrices(tiling: Tiling, seed: int = 0) -> list[F32]:
    generator = np.random.Generator(np.random.Philox(key=seed))
    return [generator.standard_normal(shape, dtype=np.float32) for shape in tiling.matrices]


def _by_scipy(matrices: list[F32], tiling: Tiling) -> F32:
    tiled = tiling.gather(matrices)
    for block in tiling.blocks:
        tiles = block.tiles(tiled)
        tiles[...] = scipy.fft.dctn(tiles.astype(np.float64), norm="ortho", axes=(2, 3))
    return tiled


@pytest.mark.parametrize("size", [5, 16, 64])
def test_it_is_the_orthonormal_transform_of_each_tile_at_its_own_size(size: int) -> None:
    tiling = Tiling(SHAPES, size)
    matrices = _matrices(tiling)

    coefficients = dct.forward(matrices, tiling)

    assert np.abs(coefficients - _by_scipy(matrices, tiling)).max() <= 5e-6


@pytest.mark.parametrize("size", [5, 64])
def test_it_keeps_norms_and_comes_back(size: int) -> None:
    tiling = Tiling(SHAPES, size)
    matrices = _matrices(tiling)

    coefficients = dct.forward(matrices, tiling)
    back = dct.inverse(coefficients, tiling)

    norm = np.sqrt(sum(float((m.astype(np.float64) ** 2).sum()) for m in matrices))
    assert np.linalg.norm(coefficients) == pytest.approx(norm, rel=1e-5)
    assert all(np.abs(a - b).max(initial=0) <= 1e-5 for a, b in zip(matrices, back, strict=True))


def test_a_constant_tile_has_one_coefficient() -> None:
    tiling = Tiling([(4, 4)], 4)

    coefficients = dct.forward([np.full((4, 4), 0.5, np.float32)], tiling)

    assert coefficients[0] == pytest.approx(2.0)
    assert np.abs(coefficients[1:]).max() < 1e-7


def test_machine_code_has_the_bits_of_its_text_run_on_numpy() -> None:
    tiling = Tiling([(64, 64)], 64)
    (matrix,) = _matrices(tiling)

    compiled = dct.forward([matrix], tiling).reshape(64, 64)
    (back,) = dct.inverse(compiled.reshape(-1), tiling)

    # Nothing is fused or reordered, so that machines of different kinds agree.
    columns = np.stack(orthonormal_dct2(list(matrix)))
    interpreted = np.stack(orthonormal_dct2(list(columns.T))).T
    assert np.array_equal(compiled, interpreted)
    columns = np.stack(orthonormal_dct3(list(interpreted)))
    assert np.array_equal(back, np.stack(orthonormal_dct3(list(columns.T))).T)


def test_gradients_blend_into_what_is_there() -> None:
    tiling = Tiling([(70, 66)], 64)
    (matrix,) = _matrices(tiling)
    plain, tiled = dct.forward([matrix], tiling), np.ones(tiling.dim, np.float32)

    for block in tiling.blocks:
        dct.absorb(block, matrix, tiled, decay=0.5, rate=0.25)

    assert np.allclose(tiled, 0.5 + 0.25 * plain, atol=1e-6)


def test_descending_takes_the_sign_and_shrinks_even_where_nothing_was_sent() -> None:
    tiling = Tiling([(128, 64)], 64)
    tiled = np.zeros(tiling.dim, np.float32)
    tiled[0] = -64.0  # the constant part of the first tile
    matrix = np.ones((128, 64), np.float32)

    for block in tiling.blocks:
        dct.descend(block, matrix, Combination.of_dense(tiled, tiling), keep=0.5, rate=0.25)

    assert np.array_equal(matrix, np.repeat(np.array([[0.75], [0.5]], np.float32), 64, axis=0) * np.ones((1, 64)))


def test_matrix_products_on_a_device_give_the_same_up_to_rounding() -> None:
    tiling = Tiling(SHAPES, 64)
    matrices = _matrices(tiling)
    blocks = [tiling.blocks_of(tensor) for tensor in range(len(SHAPES))]

    parts = [dct_device.forward(torch.from_numpy(m), b) for m, b in zip(matrices, blocks, strict=True)]
    back = [dct_device.inverse(part, b) for part, b in zip(parts, blocks, strict=True)]

    assert np.abs(torch.cat(parts).numpy() - dct.forward(matrices, tiling)).max() <= 1e-5
    assert all(np.abs(a - b.numpy()).max(initial=0) <= 1e-5 for a, b in zip(matrices, back, strict=True) if a.size)
