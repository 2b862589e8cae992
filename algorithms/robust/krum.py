"""Krum and Multi-Krum (Blanchard et al. 2017, arXiv:1703.02757): trust the vector that is close to many.

    score(i) = sum of the n - f - 2 smallest squared distances from vector i to the others

Krum takes the vector of least score, Multi-Krum the mean of the n - f of least score. At least 2f + 3 vectors are
needed, so that even a liar's nearest n - f - 2 include honest ones.

Assumes that honest vectors scatter about the same mean. Krum learns from one peer's samples only, however many there
are; it withstands gross errors, not liars that stay within the honest scatter (arXiv:1902.06156).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..method import F32
from .distances import F64, squared_distances
from .ordered import trimmed_mean
from .rule import Aggregated, Rule


def krum_scores(vectors: Sequence[F32], n_liars: int) -> F64:
    """Each vector's score, float64 [n]; n >= n_liars + 3."""
    n_near = len(vectors) - n_liars - 2
    nearest = np.sort(squared_distances(vectors), axis=1)[:, 1 : 1 + n_near]
    # In order of size: the same sum, to the bit, in whatever order the vectors come.
    scores: F64 = np.cumsum(nearest, axis=1)[:, -1]
    return scores


class Krum(Rule):
    """The one vector of least score; of equal ones the first."""

    @property
    def n_min(self) -> int:
        return 2 * self.n_liars + 3

    def aggregate(self, vectors: Sequence[F32], reference: F32) -> Aggregated:
        ranking = np.argsort(krum_scores(vectors, self.n_liars), kind="stable").tolist()
        kept = sorted(ranking[: self._n_kept(len(vectors))])
        dropped = tuple(i for i in range(len(vectors)) if i not in kept)
        return Aggregated(vector=trimmed_mean([vectors[i] for i in kept], 0), dropped=dropped)

    def _n_kept(self, n: int) -> int:
        return 1


class MultiKrum(Krum):
    """The mean of all but the `n_liars` of greatest score."""

    def _n_kept(self, n: int) -> int:
        return n - self.n_liars
