"""DCT-II and DCT-III of tiles of up to 64 x 64, on the way from a matrix into the tiled vector and back.

A tile is transformed by columns and transposed, twice. Sides of 64 go through `lanes`; other sizes, which are the
remainders at a matrix's edges, are multiplied with the transform's matrix, column index running innermost.
Scratch arrays are float32 [64 * 64], rows 64 apart.
"""

from __future__ import annotations

import numpy as np

from .compiled import BOOL, F32_IN, F32_OUT, FLOAT32, I64_IN, INT, NOTHING, compiled
from .lanes import forward_columns, inverse_columns

SIDE = 64
LANES = 16


@compiled(NOTHING, F32_IN, INT, INT, F32_OUT, F32_IN)
def _multiply_columns(source, n, width, target, basis):  # type: ignore[no-untyped-def]
    row = np.empty(SIDE, np.float32)
    for i in range(n):
        row[:] = np.float32(0)
        for k in range(n):
            factor = basis[i * n + k]
            for c in range(width):
                row[c] += factor * source[k * SIDE + c]
        for c in range(width):
            target[c * SIDE + i] = row[c]


@compiled(NOTHING, F32_IN, INT, INT, F32_OUT, F32_IN)
def _forward(source, n, width, target, basis):  # type: ignore[no-untyped-def]
    """target [width, n] = (DCT-II of the columns of source [n, width])^T."""
    if n == SIDE:
        for c in range(0, width, LANES):
            forward_columns(source, c, SIDE, target, c * SIDE, SIDE)
    else:
        _multiply_columns(source, n, width, target, basis)


@compiled(NOTHING, F32_IN, INT, INT, F32_OUT, F32_IN)
def _inverse(source, n, width, target, basis):  # type: ignore[no-untyped-def]
    if n == SIDE:
        for c in range(0, width, LANES):
            inverse_columns(source, c, SIDE, target, c * SIDE, SIDE)
    else:
        _multiply_columns(source, n, width, target, basis)


@compiled(NOTHING, F32_OUT, F32_IN, FLOAT32, FLOAT32)
def _blend(old, new, decay, rate):  # type: ignore[no-untyped-def]
    for i in range(len(old)):
        old[i] = decay * old[i] + rate * new[i]


@compiled(NOTHING, F32_IN, INT, INT, INT, INT, F32_OUT, INT, FLOAT32, FLOAT32, F32_IN, F32_IN)
def absorb(  # type: ignore[no-untyped-def]
    matrix, n_columns, origin, down, across, tiled, shape, decay, rate, column_basis, row_basis
):
    """tiled = decay * tiled + rate * DCT(tile), for a grid of `down` x `across` tiles of a matrix.

    Args:
        matrix: float32, flat; `n_columns` apart are its rows, `origin` is the grid's first element.
        tiled: float32 [down * across * height * width], tile by tile.
        shape: height * 128 + width of a tile.
        column_basis, row_basis: float32 [height * height], [width * width]: the matrices of the transforms.
    """
    height, width = shape // 128, shape % 128
    first, second = np.zeros(SIDE * SIDE, np.float32), np.zeros(SIDE * SIDE, np.float32)
    at = 0
    for i in range(down):
        for j in range(across):
            corner = origin + i * height * n_columns + j * width
            if height == SIDE and width == SIDE:
                for c in range(0, SIDE, LANES):
                    forward_columns(matrix, corner + c, n_columns, second, c * SIDE, SIDE)
            else:
                for r in range(height):
                    source = matrix[corner + r * n_columns : corner + r * n_columns + width]
                    first[r * SIDE : r * SIDE + width] = source
                _forward(first, height, width, second, column_basis)
            _forward(second, width, height, first, row_basis)
            for r in range(height):
                _blend(tiled[at : at + width], first[r * SIDE : r * SIDE + width], decay, rate)
                at += width


@compiled(
    NOTHING, F32_OUT, INT, INT, INT, INT, INT, INT, INT, I64_IN, F32_IN, I64_IN, INT, F32_IN, BOOL, FLOAT32, FLOAT32,
    BOOL, F32_IN, F32_IN,
)  # fmt: skip
def descend(  # type: ignore[no-untyped-def]
    matrix, n_columns, origin, down, across, shape, start, tile, positions, values, firsts, n_tiles, weights,
    of_senders, keep, rate, signed, column_basis, row_basis,
):  # fmt: skip
    """matrix = keep * matrix - rate * sign(IDCT(combination of the contributions)), tile by tile.

    Args:
        matrix, n_columns, origin, down, across, shape: as for `absorb`.
        start, tile: where the grid begins in the tiled vector, and the number of its first tile.
        positions, values: all contributions behind each other: int64 and float32 [n].
        firsts: int64 [n_contributions * (n_tiles + 1)]: where each one's tiles begin in those.
        weights: float32 [n_contributions].
        of_senders: take the mean over those that sent a coefficient, not the weighted sum.
        signed: False leaves `sign` out.
        column_basis, row_basis: matrices of the inverse transforms.
    """
    height, width = shape // 128, shape % 128
    n_contributions = len(weights)
    first, second = np.zeros(SIDE * SIDE, np.float32), np.zeros(SIDE * SIDE, np.float32)
    senders = np.zeros(SIDE * SIDE, np.float32)
    for i in range(down):
        for j in range(across):
            first[:] = np.float32(0)
            n_sent = 0
            for contribution in range(n_contributions):
                begin = firsts[contribution * (n_tiles + 1) + tile]
                end = firsts[contribution * (n_tiles + 1) + tile + 1]
                n_sent += end - begin
                weight = weights[contribution]
                for at in range(begin, end):
                    within = positions[at] - start
                    place = within // width * SIDE + within % width
                    first[place] += weight * values[at]
                    senders[place] += np.float32(1)
            if of_senders:
                for place in range(SIDE * SIDE):
                    if senders[place] > 1:
                        first[place] /= senders[place]
                    senders[place] = np.float32(0)
            if n_sent > 0:
                _inverse(first, height, width, second, column_basis)
                _inverse(second, width, height, first, row_basis)
            corner = origin + i * height * n_columns + j * width
            for r in range(height):
                for c in range(width):
                    value = first[r * SIDE + c]
                    if signed:
                        value = np.float32(np.float32(value > 0) - np.float32(value < 0))
                    here = corner + r * n_columns + c
                    matrix[here] = keep * matrix[here] - rate * value
            start += height * width
            tile += 1
