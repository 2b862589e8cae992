"""The orthonormal two-dimensional DCT-II of every tile, and its inverse. Both keep the L2 norm (Parseval)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from .method import F32
from .sparse_sum import Combination
from .tiles import Block, Tiling


def absorb(block: Block, matrix: F32, tiled: F32, *, decay: float, rate: float) -> None:
    """tiled = decay * tiled + rate * DCT(block of the matrix), in place.

    Args:
        matrix: float32 [rows, columns], contiguous.
        tiled: the whole tiled vector, float32 [dim].
    """
    from .kernels.cosine import absorb as kernel

    kernel(
        matrix.reshape(-1),
        matrix.shape[1],
        block.top * matrix.shape[1] + block.left,
        block.down,
        block.across,
        tiled[block.start : block.start + block.n_tiles * block.area],
        block.height,
        block.width,
        decay,
        rate,
        basis(block.height),
        basis(block.width),
    )


def descend(
    block: Block, matrix: F32, combination: Combination, *, keep: float, rate: float, signed: bool = True
) -> None:
    """matrix = keep * matrix - rate * sign(IDCT(combination)), in place, for a block of the matrix.

    Args:
        matrix: float32 [rows, columns], contiguous.
        signed: False leaves `sign` out.
    """
    from .kernels.cosine import descend as kernel

    kernel(
        matrix.reshape(-1),
        matrix.shape[1],
        block.top * matrix.shape[1] + block.left,
        block.down,
        block.across,
        block.height,
        block.width,
        block.start,
        block.first_tile,
        combination.positions,
        combination.values,
        combination.firsts,
        combination.n_tiles,
        np.ascontiguousarray(combination.weights[:, block.tensor]),
        combination.of_senders,
        keep,
        rate,
        signed,
        inverse_basis(block.height),
        inverse_basis(block.width),
    )


def forward(matrices: Sequence[F32], tiling: Tiling) -> F32:
    """The tiled vector, fresh, of the transforms of all tiles of some matrices."""
    tiled = np.zeros(tiling.dim, np.float32)
    for block in tiling.blocks:
        matrix = matrices[block.tensor].reshape(tiling.matrices[block.tensor])
        absorb(block, np.ascontiguousarray(matrix), tiled, decay=0.0, rate=1.0)
    return tiled


def inverse(tiled: F32, tiling: Tiling) -> list[F32]:
    """The matrices that `forward` came from, fresh."""
    matrices = [np.zeros(shape, np.float32) for shape in tiling.matrices]
    combination = Combination.of_dense(tiled, tiling)
    for block in tiling.blocks:
        descend(block, matrices[block.tensor], combination, keep=0.0, rate=-1.0, signed=False)
    return matrices


@functools.lru_cache(maxsize=128)
def basis(n: int) -> F32:
    """The transform's matrix, float32 [n * n], row by row: C[k, i] = s_k cos(pi (2i + 1) k / 2n)."""
    k, i = np.arange(n).reshape(n, 1), np.arange(n).reshape(1, n)
    cosines = np.cos(np.pi * (2 * i + 1) * k / (2 * n)) * np.sqrt(2 / n)
    cosines[0] /= np.sqrt(2)
    matrix: F32 = cosines.astype(np.float32).reshape(-1)
    return matrix


@functools.lru_cache(maxsize=128)
def inverse_basis(n: int) -> F32:
    """Its transpose, which is its inverse."""
    matrix: F32 = np.ascontiguousarray(basis(n).reshape(n, n).T).reshape(-1)
    return matrix
