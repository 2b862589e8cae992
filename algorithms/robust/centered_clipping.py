"""Centered clipping (Karimireddy et al. 2021, arXiv:2012.10333): move from the last result, by bounded steps.

    v = v + mean over i of (x_i - v) * min(1, radius / ||x_i - v||)

v starts as the result of the round before, which all replicas hold alike, and each repetition brings it closer. A liar
moves v by at most radius / n. On purpose unlike the paper, the radius is the median distance from v unless it is
given: gradients shrink by orders of magnitude in training, and a fixed radius is wrong for most of it.

Assumes that honest vectors change little from one round to the next. They do where peers average momentum, as the
paper has it; of bare gradients with small batches v is hardly better a center than zero, which is norm clipping.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..method import F32
from .distances import norms_from
from .norm_clipping import scaled, scales
from .ordered import Rows, mean_of_rows
from .rule import Aggregated, Rule


class CenteredClipping(Rule):
    """Bounded steps away from the result of the round before.

    Args:
        radius: longest step that one vector can ask for; 0: the median distance from v.
        n_repeats: steps in one round.
    """

    keeps_reference = True

    def __init__(self, n_liars: int, *, radius: float = 0.0, n_repeats: int = 1) -> None:
        super().__init__(n_liars)
        self._radius = radius
        self._n_repeats = n_repeats

    def aggregate(self, vectors: Sequence[F32], reference: F32) -> Aggregated:
        center = reference.copy()
        for _ in range(self._n_repeats):
            center += self._step(vectors, center)
        return Aggregated(vector=center)

    def _step(self, vectors: Sequence[F32], center: F32) -> F32:
        distances = norms_from(vectors, center)
        weights = scales(distances, self._radius or float(np.median(distances)))

        def rows(part: slice) -> Rows:
            middle = center[part].astype(np.float64)
            return [scaled(vector[part] - middle, weight) for vector, weight in zip(vectors, weights, strict=True)]

        return mean_of_rows(rows, len(center))
