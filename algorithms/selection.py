"""The k largest coefficients of each tile, with ties decided the same everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .method import F32

I64 = npt.NDArray[np.int64]


def largest(tiles: F32, k: int) -> tuple[I64, I64]:
    """Where the k largest |coefficients| of each row stand, exact zeros left out.

    Among equal magnitudes the lowest index wins.

    Args:
        tiles: finite float32 [n_tiles, area].
        k: 1 <= k <= area.
    Returns: (tile, index), int64 [n] each, sorted by tile, then index; at most k for each tile.
    """
    n_tiles, area = tiles.shape
    magnitude = np.abs(tiles)
    threshold = np.partition(magnitude, area - k, axis=1)[:, area - k]
    wanted = magnitude >= np.maximum(threshold, np.finfo(np.float32).smallest_subnormal)[:, None]
    tile, index = np.divmod(np.flatnonzero(wanted), area)
    keep = _without_surplus_ties(tile, magnitude[tile, index] == threshold[tile], n_tiles, k)
    return tile[keep], index[keep]


def _without_surplus_ties(tile: I64, is_tie: npt.NDArray[np.bool_], n_tiles: int, k: int) -> npt.NDArray[np.bool_]:
    """Keep what is above its tile's threshold, and of those that equal it only the first that still fit."""
    n_above = np.bincount(tile[~is_tie], minlength=n_tiles)
    n_ties = np.bincount(tile[is_tie], minlength=n_tiles)
    ties_before = np.cumsum(n_ties) - n_ties
    rank_among_ties = np.cumsum(is_tie) - 1 - ties_before[tile]
    keep: npt.NDArray[np.bool_] = ~is_tie | (rank_among_ties < (k - n_above)[tile])
    return keep
