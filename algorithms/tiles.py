"""Tensors cut into tiles, and tiles of one shape put behind each other so that all can be transformed at once.

A tensor is viewed as a matrix: (shape[0], rest), 1-D as (n, 1), a scalar as (1, 1). Its tiles are `size` x `size`;
what remains at the right and lower edge makes smaller tiles of its own, without padding. The *tiled vector* is float32
[dim]: all tiles of the first shape, each in C order, then all of the next shape, and so on.
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
    """The tiles of one shape within one tensor: a grid of `down` x `across` tiles."""

    tensor: int
    top: int
    left: int
    down: int
    across: int
    height: int
    width: int

    @property
    def n_tiles(self) -> int:
        return self.down * self.across

    def view(self, matrix: F32) -> F32:
        """The block's elements as [down, across, height, width], sharing the matrix's memory."""
        rows, columns = self.down * self.height, self.across * self.width
        part = matrix[self.top : self.top + rows, self.left : self.left + columns]
        grid = part.reshape(self.down, self.height, self.across, self.width)
        return grid.transpose(0, 2, 1, 3)


@dataclass(frozen=True, kw_only=True)
class Group:
    """All tiles of one shape."""

    height: int
    width: int
    blocks: tuple[Block, ...]
    start: int
    """Where the group begins in the tiled vector."""

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def n_tiles(self) -> int:
        return sum(block.n_tiles for block in self.blocks)

    def tiles(self, tiled: F32) -> F32:
        """The group's part of a tiled vector as [n_tiles, height, width], sharing its memory."""
        part = tiled[self.start : self.start + self.n_tiles * self.area]
        return part.reshape(self.n_tiles, self.height, self.width)

    def by_block(self, tiled: F32) -> Iterator[tuple[Block, F32]]:
        """Each block with its tiles as [down, across, height, width], sharing memory."""
        tiles, first = self.tiles(tiled), 0
        for block in self.blocks:
            part = tiles[first : first + block.n_tiles]
            yield block, part.reshape(block.down, block.across, block.height, block.width)
            first += block.n_tiles


class Tiling:
    """How tensors of given shapes are cut."""

    def __init__(self, shapes: Sequence[Shape], size: int) -> None:
        self.matrices = [matrix_shape(shape) for shape in shapes]
        self.groups = _grouped(self.matrices, size)
        self.dim = sum(rows * columns for rows, columns in self.matrices)

    def gather(self, matrices: Sequence[F32]) -> F32:
        """The tiled vector, fresh, of one matrix (or any array of as many elements) for each tensor."""
        tiled = np.empty(self.dim, np.float32)
        shaped = [m.reshape(shape) for m, shape in zip(matrices, self.matrices, strict=True)]
        for group in self.groups:
            for block, tiles in group.by_block(tiled):
                tiles[...] = block.view(shaped[block.tensor])
        return tiled

    def scatter(self, tiled: F32) -> list[F32]:
        """The matrices again, fresh."""
        matrices = [np.empty(shape, np.float32) for shape in self.matrices]
        for group in self.groups:
            for block, tiles in group.by_block(tiled):
                block.view(matrices[block.tensor])[...] = tiles
        return matrices

    def tensor_of_tile(self) -> I64:
        """The tensor that each tile belongs to, int64 [n_tiles]."""
        blocks = [block for group in self.groups for block in group.blocks]
        return np.repeat(
            np.array([block.tensor for block in blocks], np.int64),
            np.array([block.n_tiles for block in blocks], np.int64),
        )


def matrix_shape(shape: Shape) -> tuple[int, int]:
    """The matrix as which a tensor is viewed.

    >>> matrix_shape((8, 3, 5, 5)), matrix_shape((7,)), matrix_shape(())
    ((8, 75), (7, 1), (1, 1))
    """
    return (shape[0] if shape else 1, math.prod(shape[1:]))


def _grouped(matrices: Sequence[tuple[int, int]], size: int) -> tuple[Group, ...]:
    by_shape: dict[tuple[int, int], list[Block]] = {}
    for tensor, (rows, columns) in enumerate(matrices):
        for block in _blocks(tensor, rows, columns, size):
            by_shape.setdefault((block.height, block.width), []).append(block)
    groups, start = [], 0
    for (height, width), blocks in by_shape.items():
        group = Group(height=height, width=width, blocks=tuple(blocks), start=start)
        groups.append(group)
        start += group.n_tiles * group.area
    return tuple(groups)


def _blocks(tensor: int, rows: int, columns: int, size: int) -> Iterator[Block]:
    for top, down, height in _spans(rows, size):
        for left, across, width in _spans(columns, size):
            yield Block(tensor=tensor, top=top, left=left, down=down, across=across, height=height, width=width)


def _spans(length: int, size: int) -> Iterator[tuple[int, int, int]]:
    """(start, how many, how long) of the whole tiles along a side, and of the remainder."""
    whole, rest = divmod(length, size)
    if whole:
        yield 0, whole, size
    if rest:
        yield whole * size, 1, rest
