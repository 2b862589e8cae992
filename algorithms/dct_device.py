"""The transforms of `dct` as matrix products in torch, for tensors on accelerators.

They equal the kernels' up to rounding, and signs near 0 depend on rounding: the replicas of a run use one of both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .dct import basis
from .tiles import Block


def forward(matrix: torch.Tensor, blocks: Sequence[Block]) -> torch.Tensor:
    """One tensor's part of the tiled vector, on the matrix's device, fresh.

    Args:
        matrix: float32 [rows, columns].
        blocks: all of the tensor's.
    """
    parts = [_transform(_tiles(matrix, block), block, inverse=False).reshape(-1) for block in blocks]
    return torch.cat(parts) if parts else matrix.new_zeros(0)


def inverse(part: torch.Tensor, blocks: Sequence[Block]) -> torch.Tensor:
    """The matrix, float32 [rows, columns], that a tensor's part of the tiled vector came from."""
    rows = max((block.top + block.down * block.height for block in blocks), default=0)
    columns = max((block.left + block.across * block.width for block in blocks), default=0)
    matrix = part.new_zeros((rows, columns))
    first = blocks[0].start if blocks else 0
    for block in blocks:
        tiles = part[block.start - first :][: block.n_tiles * block.area]
        tiles = tiles.reshape(block.down, block.across, block.height, block.width)
        _tiles(matrix, block).copy_(_transform(tiles, block, inverse=True))
    return matrix


def _tiles(matrix: torch.Tensor, block: Block) -> torch.Tensor:
    """The block as [down, across, height, width], sharing the matrix's memory."""
    rows, columns = block.down * block.height, block.across * block.width
    part = matrix[block.top : block.top + rows, block.left : block.left + columns]
    strides = (block.height * part.stride(0), block.width * part.stride(1), part.stride(0), part.stride(1))
    shape = (block.down, block.across, block.height, block.width)
    return part.as_strided(shape, strides, part.storage_offset())


def _transform(tiles: torch.Tensor, block: Block, *, inverse: bool) -> torch.Tensor:
    columns, rows = _matrix(block.height, tiles.device), _matrix(block.width, tiles.device)
    return columns.T @ tiles @ rows if inverse else columns @ tiles @ rows.T


def _matrix(n: int, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.array(basis(n)).reshape(n, n)).to(device)
