"""DCT-II and DCT-III of tiles of up to 64 x 64, on the way from a matrix into the tiled vector and back.

A tile is transformed by columns and transposed, twice. Sides of 64 go through `lanes`; other sides, which are the
remainders at a matrix's edges, are multiplied with the transform's matrix, column index running innermost.
Scratch arrays are float32 [64 * 64], rows 64 apart.
"""

from __future__ import annotations

import numpy as np

from .compiled import BOOL, F32_IN, F32_OUT, FLOAT32, I64_IN, INT, NOTHING, Number, Vector, compiled
from .lanes import forward_columns, inverse_columns

SIDE = 64
LANES = 16


@compiled(NOTHING, F32_IN, INT, INT, F32_OUT, F32_IN)
def _multiply_columns(source: Vector, n: Number, width: Number, target: Vector, basis: Vector) -> None:
    """target [width, n] = (basis times source [n, width])^T."""
    row = np.empty(SIDE, np.float32)
    for i in range(n):
        for c in range(width):
            row[c] = np.float32(0)
        for k in range(n):
            factor = basis[i * n + k]
            for c in range(width):
                row[c] += factor * source[k * SIDE + c]
        for c in range(width):
            target[c * SIDE + i] = row[c]


@compiled(NOTHING, F32_IN, INT, INT, F32_OUT, F32_IN)
def _forward(source: Vector, n: Number, width: Number, target: Vector, basis: Vector) -> None:
    """target [width, n] = (DCT-II of the columns of source [n, width])^T."""
    if n == SIDE:
        for c in range(0, width, LANES):
            forward_columns(source, c, SIDE, target, c * SIDE, SIDE)
    else:
        _multiply_columns(source, n, width, target, basis)


@compiled(NOTHING, F32_IN, INT, INT, F32_OUT, F32_IN)
def _inverse(source: Vector, n: Number, width: Number, target: Vector, basis: Vector) -> None:
    """target [width, n] = (DCT-III of the columns of source [n, width])^T."""
    if n == SIDE:
        for c in range(0, width, LANES):
            inverse_columns(source, c, SIDE, target, c * SIDE, SIDE)
    else:
        _multiply_columns(source, n, width, target, basis)


@compiled(NOTHING, F32_IN, INT, INT, INT, INT, F32_OUT)
def _load(matrix: Vector, corner: Number, n_columns: Number, height: Number, width: Number, tile: Vector) -> None:
    for r in range(height):
        for c in range(width):
            tile[r * SIDE + c] = matrix[corner + r * n_columns + c]


@compiled(NOTHING, F32_OUT, F32_IN, FLOAT32, FLOAT32)
def _blend(old: Vector, new: Vector, decay: Number, rate: Number) -> None:
    for i in range(len(old)):
        old[i] = decay * old[i] + rate * new[i]


@compiled(NOTHING, F32_IN, INT, INT, INT, INT, F32_OUT, INT, INT, FLOAT32, FLOAT32, F32_IN, F32_IN)
def absorb(
    matrix: Vector,
    n_columns: Number,
    origin: Number,
    down: Number,
    across: Number,
    tiled: Vector,
    height: Number,
    width: Number,
    decay: Number,
    rate: Number,
    column_basis: Vector,
    row_basis: Vector,
) -> None:
    """tiled = decay * tiled + rate * DCT(tile), for a grid of `down` x `across` tiles of a matrix.

    Args:
        matrix: float32, flat; `n_columns` apart are its rows, `origin` is the grid's first element.
        tiled: float32 [down * across * height * width], tile by tile.
        column_basis, row_basis: float32 [height * height], [width * width]: the matrices of the transforms.
    """
    first, second = np.zeros(SIDE * SIDE, np.float32), np.zeros(SIDE * SIDE, np.float32)
    at = 0
    for i in range(down):
        for j in range(across):
            corner = origin + i * height * n_columns + j * width
            if height == SIDE and width == SIDE:
                for c in range(0, SIDE, LANES):
                    forward_columns(matrix, corner + c, n_columns, second, c * SIDE, SIDE)
            else:
                _load(matrix, corner, n_columns, height, width, first)
                _forward(first, height, width, second, column_basis)
            _forward(second, width, height, first, row_basis)
            for r in range(height):
                _blend(tiled[at : at + width], first[r * SIDE : r * SIDE + width], decay, rate)
                at += width


@compiled(INT, I64_IN, F32_IN, I64_IN, INT, INT, INT, INT, F32_IN, BOOL, F32_OUT, F32_OUT)
def _combine_tile(
    positions: Vector,
    values: Vector,
    firsts: Vector,
    n_tiles: Number,
    tile: Number,
    start: Number,
    width: Number,
    weights: Vector,
    of_senders: Number,
    total: Vector,
    senders: Vector,
) -> Number:
    """The tile's part of `descend`'s combination, into `total`. Returns: how many coefficients were sent."""
    for place in range(SIDE * SIDE):
        total[place] = np.float32(0)
    n_sent = 0
    for contribution in range(len(weights)):
        begin = firsts[contribution * (n_tiles + 1) + tile]
        end = firsts[contribution * (n_tiles + 1) + tile + 1]
        n_sent += end - begin
        for at in range(begin, end):
            within = positions[at] - start
            place = within // width * SIDE + within % width
            total[place] += weights[contribution] * values[at]
            senders[place] += np.float32(of_senders)
    if of_senders:
        for place in range(SIDE * SIDE):
            total[place] /= max(senders[place], np.float32(1))
            senders[place] = np.float32(0)
    return n_sent


@compiled(NOTHING, F32_OUT, F32_IN, FLOAT32, FLOAT32, BOOL)
def _step(old: Vector, direction: Vector, keep: Number, rate: Number, signed: Number) -> None:
    for i in range(len(old)):
        value = direction[i]
        if signed:
            value = np.float32(np.float32(value > 0) - np.float32(value < 0))
        old[i] = keep * old[i] - rate * value


@compiled(
    NOTHING,
    F32_OUT,
    INT,
    INT,
    INT,
    INT,
    INT,
    INT,
    INT,
    INT,
    I64_IN,
    F32_IN,
    I64_IN,
    INT,
    F32_IN,
    BOOL,
    FLOAT32,
    FLOAT32,
    BOOL,
    F32_IN,
    F32_IN,
)
def descend(
    matrix: Vector,
    n_columns: Number,
    origin: Number,
    down: Number,
    across: Number,
    height: Number,
    width: Number,
    start: Number,
    tile: Number,
    positions: Vector,
    values: Vector,
    firsts: Vector,
    n_tiles: Number,
    weights: Vector,
    of_senders: Number,
    keep: Number,
    rate: Number,
    signed: Number,
    column_basis: Vector,
    row_basis: Vector,
) -> None:
    """matrix = keep * matrix - rate * sign(IDCT(combination of the contributions)), tile by tile.

    Args:
        matrix, n_columns, origin, down, across: as for `absorb`.
        start, tile: where the grid begins in the tiled vector, and the number of its first tile.
        positions, values: all contributions behind each other: int64 and float32 [n].
        firsts: int64 [n_contributions * (n_tiles + 1)]: where each one's tiles begin in those, and where they end.
        weights: float32 [n_contributions].
        of_senders: take the mean over those that sent a coefficient, not the weighted sum.
        signed: False leaves `sign` out.
        column_basis, row_basis: matrices of the inverse transforms.
    """
    first, second = np.zeros(SIDE * SIDE, np.float32), np.zeros(SIDE * SIDE, np.float32)
    senders = np.zeros(SIDE * SIDE, np.float32)
    for i in range(down):
        for j in range(across):
            n_sent = _combine_tile(
                positions, values, firsts, n_tiles, tile, start, width, weights, of_senders, first, senders
            )
            if n_sent > 0:
                _inverse(first, height, width, second, column_basis)
                _inverse(second, width, height, first, row_basis)
            corner = origin + i * height * n_columns + j * width
            for r in range(height):
                row = matrix[corner + r * n_columns : corner + r * n_columns + width]
                _step(row, first[r * SIDE : r * SIDE + width], keep, rate, signed)
            start += height * width
            tile += 1
