"""Sums of sparse contributions, in roster order.

normclip   each contribution is scaled, tensor by tensor, to at most the median L2 norm of all contributions;
           then they are summed, an absent coefficient counting as 0. A minority cannot outweigh the others.
reject, vote   see `robust.sparse`.
senders    the mean over those that sent the coefficient (arXiv:2411.19870). One liar that sends what nobody else
           does owns that coordinate: for comparison only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from .method import F32
from .payload import Coefficients
from .tiles import I64, Block, Tiling

COMBINES: Final = ("normclip", "reject", "vote", "senders")


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Contributions behind each other and what to make of them: a sum that is only ever formed tile by tile."""

    positions: I64
    """Of all contributions, in roster order, int64 [n]."""
    values: F32
    firsts: I64
    """Where each contribution's tiles begin in those, and where they end: int64 [n_contributions * (n_tiles + 1)]."""
    n_tiles: int
    weights: F32
    """Of each contribution's tensors, float32 [n_contributions, n_tensors]."""
    of_senders: bool = False
    """The mean over those that sent a coefficient, not the sum."""

    @classmethod
    def of(cls, contributions: Sequence[Coefficients], weights: F32, tiling: Tiling) -> Combination:
        """The sum of contributions, each tensor of each scaled by its weight."""
        ends = np.cumsum([len(c.positions) for c in contributions])
        edges = np.append(tiling.starts, tiling.dim)
        firsts = [
            np.searchsorted(c.positions, edges) + end - len(c.positions)
            for c, end in zip(contributions, ends, strict=True)
        ]
        return cls(
            positions=np.concatenate([c.positions for c in contributions]),
            values=np.concatenate([c.values for c in contributions]),
            firsts=np.concatenate(firsts).astype(np.int64),
            n_tiles=tiling.n_tiles,
            weights=weights,
        )

    @classmethod
    def mean_of_senders(cls, contributions: Sequence[Coefficients], tiling: Tiling) -> Combination:
        weights = np.ones((len(contributions), len(tiling.matrices)), np.float32)
        return replace(cls.of(contributions, weights, tiling), of_senders=True)

    @classmethod
    def of_dense(cls, tiled: F32, tiling: Tiling) -> Combination:
        """A tiled vector as it stands."""
        positions = np.arange(tiling.dim)
        whole = Coefficients(positions=positions, values=tiled, tensors=np.repeat(tiling.tensors, tiling.areas))
        return cls.of([whole], np.ones((1, len(tiling.matrices)), np.float32), tiling)

    def total(self, blocks: Sequence[Block]) -> F32:
        """The combined tiled vector of one tensor, whose blocks these are, as an array."""
        dim = sum(block.n_tiles * block.area for block in blocks)
        total, n_senders = np.zeros(dim, np.float32), np.zeros(dim, np.float32)
        if not blocks:
            return total
        first, last = blocks[0].first_tile, blocks[-1].first_tile + blocks[-1].n_tiles
        for edges, weight in zip(self.firsts.reshape(-1, self.n_tiles + 1), self.weights, strict=True):
            part = slice(edges[first], edges[last])
            positions = self.positions[part] - blocks[0].start
            total[positions] += weight[blocks[0].tensor] * self.values[part]
            n_senders[positions] += 1
        if self.of_senders:
            total /= np.maximum(n_senders, 1)
        return total


def clip_weights(contributions: Sequence[Coefficients], n_tensors: int) -> F32:
    """What takes each tensor of each contribution to at most its median norm, float32 [n, n_tensors]."""
    norms = np.stack([tensor_norms(c, n_tensors) for c in contributions])
    bound = np.median(norms, axis=0)
    return np.divide(bound, norms, out=np.ones_like(norms), where=norms > bound).astype(np.float32)


def tensor_norms(contribution: Coefficients, n_tensors: int) -> npt.NDArray[np.float64]:
    """The L2 norm of each tensor's part, float64 [n_tensors]."""
    squares = contribution.values.astype(np.float64) ** 2
    return np.sqrt(np.bincount(contribution.tensors, weights=squares, minlength=n_tensors))
