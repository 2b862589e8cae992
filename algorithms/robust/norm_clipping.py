"""Norm clipping: no vector counts for more than the median one.

Each vector is scaled to at most the median L2 norm of all, then all are averaged. A minority cannot raise the median
beyond the honest norms, so f of n liars add at most f/n of an honest norm. Cheap, and right where peers hold data of
different kinds; it bounds what liars do to a round, but a persistent bias stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..method import F32
from .distances import F64, norms_from
from .ordered import Rows, mean_of_rows
from .rule import Aggregated, Rule


class NormClipping(Rule):
    """The mean of vectors that are scaled to at most their median norm."""

    def aggregate(self, vectors: Sequence[F32], reference: F32) -> Aggregated:
        norms = norms_from(vectors)
        weights = scales(norms, float(np.median(norms)))

        def rows(part: slice) -> Rows:
            return [scaled(vector[part], weight) for vector, weight in zip(vectors, weights, strict=True)]

        return Aggregated(vector=mean_of_rows(rows, len(vectors[0])))


def scales(norms: F64, bound: float) -> list[float]:
    """What takes each norm to at most `bound`; 1 for those that are within."""
    factors = np.divide(bound, norms, out=np.ones_like(norms), where=norms > bound)
    return [float(factor) for factor in factors]


def scaled(values: F32 | F64, weight: float) -> F32:
    """In float64, lest a vector of 1e30 times a weight of 1e-30 loses what it had; -0 becomes 0."""
    product: F32 = (np.multiply(values, weight, dtype=np.float64) + 0.0).astype(np.float32)
    return product
