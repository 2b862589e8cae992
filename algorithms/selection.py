"""The k largest coefficients of each tile, with ties decided the same everywhere."""

from __future__ import annotations

import numpy as np

from .method import F32
from .tiles import I64, Tiling


def largest(tiled: F32, tiling: Tiling, quotas: I64, *, skips_zeros: bool) -> tuple[I64, I64]:
    """Where the `quotas[t]` largest |coefficients| of each tile stand, exact zeros left out.

    Among equal magnitudes the lowest index wins. A tile whose quota is its area is taken whole, with its zeros
    unless `skips_zeros`.

    Args:
        tiled: finite float32 [dim].
        quotas: int64 [n_tiles], 1 <= quota <= area.
    Returns: (counts, positions): how many of each tile, int64 [n_tiles]; indices into `tiled`, int64 [n], ascending.
    """
    from .kernels.choose import choose

    counts, positions = np.empty(tiling.n_tiles, np.int64), np.empty(int(quotas.sum()), np.int64)
    n = choose(tiled.view(np.uint32), tiling.starts, tiling.areas, quotas, skips_zeros, counts, positions)
    return counts, positions[:n]
