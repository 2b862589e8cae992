"""Rules for sparse contributions, whose supports hardly overlap.

reject   norm clipping as in `sparse_sum`; besides, a contributor counts only if the others agree with it: dropped is
         who has a median inner product with them of 0 or less, but the best max(3, ceil(n / 2)) are always kept.
         Assumes that honest peers have similar data; it is the only one that notices a flipped sign.
vote     the sum of signs, an absent coefficient counting as 0. One peer, one vote on what it sends: sizes do not
         matter at all, neither a liar's nor an honest one's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..method import F32
from ..payload import Coefficients
from ..sparse_sum import clip_weights

F64 = npt.NDArray[np.float64]
N_KEPT_MIN = 3


def agreeing_weights(contributions: Sequence[Coefficients], dim: int, n_tensors: int) -> tuple[F32, tuple[int, ...]]:
    """Weights that clip and reject, float32 [n, n_tensors], and the indices of who was rejected."""
    weights = clip_weights(contributions, n_tensors)
    dropped = disagreeing(inner_products(contributions, weights, dim))
    weights[list(dropped)] = 0
    return weights, dropped


def signs_of(contributions: Sequence[Coefficients]) -> list[Coefficients]:
    """Each contribution reduced to the signs of its coefficients."""
    return [replace(c, values=np.sign(c.values)) for c in contributions]


def inner_products(contributions: Sequence[Coefficients], weights: F32, dim: int) -> F64:
    """Of every two clipped contributions, float64 [n, n], symmetric to the bit; the diagonal is 0."""
    n = len(contributions)
    clipped = [c.values.astype(np.float64) * w[c.tensors] for c, w in zip(contributions, weights, strict=True)]
    products = np.zeros((n, n))
    spread = np.zeros(dim)
    for i in range(n - 1):
        spread[contributions[i].positions] = clipped[i]
        for j in range(i + 1, n):
            products[i, j] = products[j, i] = np.dot(spread[contributions[j].positions], clipped[j])
        spread[contributions[i].positions] = 0.0
    return products


def disagreeing(products: F64) -> tuple[int, ...]:
    """Who has a median inner product with the others of 0 or less and is not among the best that always stay."""
    n = len(products)
    if n <= N_KEPT_MIN:
        return ()
    others = products[~np.eye(n, dtype=np.bool_)].reshape(n, n - 1)
    medians = np.median(others, axis=1)
    best = np.argsort(-medians, kind="stable")[: max(N_KEPT_MIN, math.ceil(n / 2))].tolist()
    return tuple(i for i in range(n) if medians[i] <= 0 and i not in best)
