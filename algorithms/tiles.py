"""Tensors cut into tiles.

A tensor is viewed as a matrix: (shape[0], rest), 1-D as (n, 1), a scalar as (1, 1). Its tiles are `size` x `size`;
what remains at the right and lower edge makes smaller tiles of its own, without padding. Tiles of one shape within one
tensor form a *block*. The *tiled vector* is float32 [dim]: tensor by tensor, block by block, tile by tile, each tile
in C order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .method import F32

I64 = npt.NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A grid of `down` x `across` tiles of one shape within one tensor."""

    tensor: int
    top: int
    left: int
    down: int
    across: int
    height: int
    width: int
    start: int
    """Where it begins in the tiled vector."""
    first_tile: int

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def n_tiles(self) -> int:
        return self.down * self.across

    def tiles(self, tiled: F32) -> F32:
        """The block's part of a tiled vector as [down, across, height, width], sharing its memory."""
        part = tiled[self.start : self.start + self.n_tiles * self.area]
        return part.reshape(self.down, self.across, self.height, self.width)

    def of_matrix(self, matrix: F32) -> F32:
        """The block's elements of the matrix as [down, across, height, width], sharing its memory."""
        rows, columns = self.down * self.height, self.across * self.width
        part = matrix[self.top : self.top + rows, self.left : self.left + columns]
        return part.reshape(self.down, self.height, self.across, self.width).transpose(0, 2, 1, 3)


class Tiling:
    """How tensors of given shapes are cut."""

    def __init__(self, shapes: Sequence[Shape], size: int) -> None:
        self.matrices = [matrix_shape(shape) for shape in shapes]
        self.blocks = tuple(_blocks(self.matrices, size))
        self.dim = sum(rows * columns for rows, columns in self.matrices)
        n_tiles = np.array([block.n_tiles for block in self.blocks], np.int64)
        self.areas: I64 = np.repeat(np.array([block.area for block in self.blocks], np.int64), n_tiles)
        """Of each tile, int64 [n_tiles]."""
        self.starts: I64 = np.cumsum(self.areas) - self.areas
        """Where each tile begins in the tiled vector, int64 [n_tiles]."""
        self.tensors: I64 = np.repeat(np.array([block.tensor for block in self.blocks], np.int64), n_tiles)
        """The tensor that each tile belongs to, int64 [n_tiles]."""

    @property
    def n_tiles(self) -> int:
        return len(self.areas)

    def blocks_of(self, tensor: int) -> list[Block]:
        return [block for block in self.blocks if block.tensor == tensor]

    def parts(self, tiled: F32) -> list[F32]:
        """Each tensor's part of a tiled vector, sharing its memory."""
        edges = np.cumsum([rows * columns for rows, columns in self.matrices])
        return np.split(tiled, edges[:-1]) if self.matrices else []

    def gather(self, matrices: Sequence[F32]) -> F32:
        """The tiled vector, fresh, of one matrix (or any array of as many elements) for each tensor."""
        tiled = np.empty(self.dim, np.float32)
        shaped = [m.reshape(shape) for m, shape in zip(matrices, self.matrices, strict=True)]
        for block in self.blocks:
            block.tiles(tiled)[...] = block.of_matrix(shaped[block.tensor])
        return tiled

    def scatter(self, tiled: F32) -> list[F32]:
        """The matrices again, fresh."""
        matrices = [np.empty(shape, np.float32) for shape in self.matrices]
        for block in self.blocks:
            block.of_matrix(matrices[block.tensor])[...] = block.tiles(tiled)
        return matrices


def matrix_shape(shape: Shape) -> tuple[int, int]:
    """The matrix as which a tensor is viewed.

    >>> matrix_shape((8, 3, 5, 5)), matrix_shape((7,)), matrix_shape(())
    ((8, 75), (7, 1), (1, 1))
    """
    return (shape[0] if shape else 1, math.prod(shape[1:]))


def _blocks(matrices: Sequence[tuple[int, int]], size: int) -> Iterator[Block]:
    start, first_tile = 0, 0
    for tensor, (rows, columns) in enumerate(matrices):
        for top, down, height in _spans(rows, size):
            for left, across, width in _spans(columns, size):
                block = Block(
                    tensor=tensor,
                    top=top,
                    left=left,
                    down=down,
                    across=across,
                    height=height,
                    width=width,
                    start=start,
                    first_tile=first_tile,
                )
                yield block
                start += block.n_tiles * block.area
                first_tile += block.n_tiles


def _spans(length: int, size: int) -> Iterator[tuple[int, int, int]]:
    """(start, how many, how long) of the whole tiles along a side, and of the remainder."""
    whole, rest = divmod(length, size)
    if whole:
        yield 0, whole, size
    if rest:
        yield whole * size, 1, rest
