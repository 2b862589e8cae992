"""Gradient coding: who works through whose samples, so that the sum survives any s stragglers.

Fractional repetition   members are cut into subgroups of s + 1 or more; each works through its whole subgroup's
                        samples and sends their sum. One payload of each subgroup suffices, and it is the same
                        bytes whoever of the subgroup sends it.
Cyclic repetition       member i works through the samples of i, i + 1, ... i + s (mod n) and sends a combination of
                        them (Tandon et al. 2016, arXiv:1612.03301, algorithm 2). Any n - s payloads combine to the
                        sum, for every n, up to rounding.

The paper's fractional repetition needs that s + 1 divides n. Rosters change, so here the remainder is spread: there are
n // (s + 1) subgroups, at least one, of sizes that differ by one at most. With fewer than s + 1 members there is one
subgroup of all, which survives all but one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

RESIDUAL_MAX: Final = 1e-6
"""Decoding weights that miss the sum by more than this decode nothing."""


def subgroups(n_members: int, n_stragglers: int) -> tuple[range, ...]:
    """The subgroups' slots.

    >>> subgroups(8, 2), subgroups(2, 2)
    ((range(0, 4), range(4, 8)), (range(0, 2),))
    """
    n_groups = max(1, n_members // (n_stragglers + 1))
    edges = [group * n_members // n_groups for group in range(n_groups + 1)]
    return tuple(range(start, stop) for start, stop in itertools.pairwise(edges))


def subgroup_of(slot: int, n_members: int, n_stragglers: int) -> int:
    """Index of the subgroup that a slot is in."""
    return next(index for index, slots in enumerate(subgroups(n_members, n_stragglers)) if slot in slots)


def cyclic_shares(slot: int, n_members: int, n_stragglers: int) -> tuple[int, ...]:
    """Whose samples a member works through under the cyclic code."""
    return tuple((slot + i) % n_members for i in range(min(n_stragglers, n_members - 1) + 1))


@lru_cache(maxsize=64)
def cyclic_code(n_members: int, n_stragglers: int) -> F64:
    """What each member (row) multiplies each member's gradient (column) with, float64 [n, n].

    Every row has its n_stragglers + 1 non-zeros on `cyclic_shares`, the first of them 1. The rows are drawn from the
    null space of a pseudo-random matrix whose columns add up to 0, so the vector of ones is in the span of any
    n - n_stragglers of them. The same on all machines up to rounding.
    """
    s = min(n_stragglers, n_members - 1)
    null = _uniform(s, n_members)
    null[:, -1] = -null[:, :-1].sum(axis=1)
    code = np.zeros((n_members, n_members))
    for slot in range(n_members):
        first, *others = cyclic_shares(slot, n_members, s)
        code[slot, first] = 1.0
        code[slot, others] = -np.linalg.solve(null[:, others], null[:, first])
    return code


def decoding_weights(code: F64, slots: Sequence[int]) -> F64 | None:
    """Weights with which the payloads of some slots add up to the sum of all gradients, float64 [len(slots)].

    None if there are none.
    """
    if not slots:
        return None
    rows = code[list(slots)]
    weights = np.linalg.lstsq(rows.T, np.ones(len(code)), rcond=None)[0]
    if not np.abs(weights @ rows - 1).max() <= RESIDUAL_MAX:
        return None
    return weights.astype(np.float64)


def _uniform(n_rows: int, n_columns: int) -> F64:
    """Pseudo-random in [-.5, .5), from raw bits, which numpy promises never to change."""
    bits = np.random.Philox(key=np.array([n_rows, n_columns], np.uint64)).random_raw(n_rows * n_columns)
    return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 0.5).reshape(n_rows, n_columns)
