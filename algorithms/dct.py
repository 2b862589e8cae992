"""The orthonormal two-dimensional DCT-II of every tile, and its inverse. Both keep the L2 norm (Parseval)."""

from __future__ import annotations

import scipy.fft

from .method import F32
from .tiles import Tiling


def forward(tiled: F32, tiling: Tiling) -> F32:
    """Transform each tile of a tiled vector in place, and return it."""
    for group in tiling.groups:
        tiles = group.tiles(tiled)
        tiles[...] = scipy.fft.dctn(tiles, type=2, norm="ortho", axes=(1, 2))
    return tiled


def inverse(tiled: F32, tiling: Tiling) -> F32:
    """Undo `forward`, in place as well."""
    for group in tiling.groups:
        tiles = group.tiles(tiled)
        tiles[...] = scipy.fft.idctn(tiles, type=2, norm="ortho", axes=(1, 2))
    return tiled
