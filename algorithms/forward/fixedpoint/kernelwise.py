"""Kernel-wise normalisation in integers (after arXiv:2411.04036): a kernel's steps are in proportion to its weights.

share of kernel o = (256 * n_out * sum |w_o|) // sum |w of the layer|, within 64 .. 1024
its P and U       = (P * share + 128) >> 8, P at least 1
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]

SHARE_MIN: Final = 64
SHARE_MAX: Final = 1024


def proportions(rows: I16) -> I64:
    """Each kernel's share in Q8: int16 [n_out, fan_in + 1] -> int64 [n_out]."""
    sums = np.abs(rows.astype(np.int64)).sum(axis=1)
    shares: I64 = np.clip(256 * len(rows) * sums // max(int(sums.sum()), 1), SHARE_MIN, SHARE_MAX)
    return shares


def scaled(constant: int, shares: I64) -> I64:
    """A layer's constant for each of its kernels."""
    each: I64 = (constant * shares + 128) >> 8
    return each
