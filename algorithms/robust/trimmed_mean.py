"""Coordinate-wise trimmed mean and median (Yin et al. 2018, arXiv:1803.01498).

In every coordinate the largest and smallest values are left out and the rest averaged; the median leaves out all but
the middle one or two. Liars among n vectors, fewer than half, cannot move a coordinate beyond the range of its honest
values: with f of them and f left out at each end, whatever is kept lies between two honest values.

Assumes that honest vectors scatter about the same mean: where each peer has data of its own kind, the coordinate that
only one peer cares about is trimmed away. The median errs by one honest deviation even without liars.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..method import F32
from .ordered import trimmed_mean
from .rule import Aggregated, Rule


class TrimmedMean(Rule):
    """Leaves out the `n_liars` largest and smallest values of each coordinate."""

    per_coordinate = True

    def aggregate(self, vectors: Sequence[F32], reference: F32) -> Aggregated:
        return Aggregated(vector=trimmed_mean(vectors, self.n_liars))


class Median(Rule):
    """The middle value of each coordinate; the mean of the two middle ones if their number is even."""

    per_coordinate = True

    def aggregate(self, vectors: Sequence[F32], reference: F32) -> Aggregated:
        return Aggregated(vector=trimmed_mean(vectors, (len(vectors) - 1) // 2))
