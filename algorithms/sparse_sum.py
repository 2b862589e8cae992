"""Sums of sparse contributions, in roster order.

normclip   each contribution is scaled, tensor by tensor, to at most the median L2 norm of all contributions;
           then they are summed, an absent coefficient counting as 0. A minority cannot outweigh the others.
senders    the mean over those that sent the coefficient (arXiv:2411.19870). One liar that sends what nobody else
           does owns that coordinate: for comparison only.
reject, vote   see `robust.sparse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from .method import F32
from .payload import Coefficients

COMBINES: Final = ("normclip", "reject", "vote", "senders")


def sum_clipped(contributions: Sequence[Coefficients], dim: int, n_tensors: int) -> F32:
    """The sum after norm clipping, float32 [dim]."""
    return sum_weighted(contributions, clip_weights(contributions, n_tensors), dim)


def clip_weights(contributions: Sequence[Coefficients], n_tensors: int) -> F32:
    """What takes each tensor of each contribution to at most its median norm, float32 [n, n_tensors]."""
    norms = np.stack([tensor_norms(c, n_tensors) for c in contributions])
    bound = np.median(norms, axis=0)
    return np.divide(bound, norms, out=np.ones_like(norms), where=norms > bound).astype(np.float32)


def sum_weighted(contributions: Sequence[Coefficients], weights: F32, dim: int) -> F32:
    """The sum of contributions, each tensor of each scaled by its weight, float32 [dim]."""
    total = np.zeros(dim, np.float32)
    for contribution, weight in zip(contributions, weights, strict=True):
        total[contribution.positions] += contribution.values * weight[contribution.tensors]
    return total


def mean_of_senders(contributions: Sequence[Coefficients], dim: int) -> F32:
    """The mean of each coefficient over those that sent it, float32 [dim]; 0 where nobody did."""
    total = np.zeros(dim, np.float32)
    n_senders = np.zeros(dim, np.float32)
    for contribution in contributions:
        total[contribution.positions] += contribution.values
        n_senders[contribution.positions] += 1
    total /= np.maximum(n_senders, 1)
    return total


def tensor_norms(contribution: Coefficients, n_tensors: int) -> npt.NDArray[np.float64]:
    """The L2 norm of each tensor's part, float64 [n_tensors]."""
    squares = contribution.values.astype(np.float64) ** 2
    return np.sqrt(np.bincount(contribution.tensors, weights=squares, minlength=n_tensors))
