"""Momentum-guided sampling in integers (after arXiv:2411.04036): directions lean towards where votes have pointed.

momentum  = M + ((256 S - M + 8) >> 4), an arithmetic shift, within +-2^30; S the sums of an update's votes
z'        = sign(M) where the bits of g more streams are all 1 and M is not 0, else z: with probability 2^-g

The stream of vote i is k = i, as ever; those of its bits are k = m j + i, j = 1 .. g, and what a sharpness-aware vote
climbs along is k = m (g + 1) + i. A late vote's direction is drawn again from the momentum at the time of the update:
nearly the same, and the same on every replica.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import BadPlan
from ..stream import Directions
from .plan import Plan

I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

MOMENTUM_SHIFT: Final = 4
MOMENTUM_MAX: Final = 2**30


def fresh_momentum(plan: Plan) -> I32:
    """Zeros, int32 [n_weights]; empty where nothing is guided."""
    return np.zeros(plan.n_weights if plan.guidance else 0, np.int32)


def moved_momentum(momentum: I32, sums: I64) -> I32:
    """The momentum after an update."""
    wide = momentum.astype(np.int64)
    moved = wide + (((sums << 8) - wide + (1 << (MOMENTUM_SHIFT - 1))) >> MOMENTUM_SHIFT)
    bounded: I32 = np.clip(moved, -MOMENTUM_MAX, MOMENTUM_MAX).astype(np.int32)
    return bounded


def guided_signs(plan: Plan, directions: Directions, votes: range, momentum: I32 | None) -> I8:
    """The directions that are voted on, int8 [len(votes), n] of +1 and -1.

    Raises: BadPlan if the plan is guided and there is no momentum.
    """
    signs = directions.signs(votes)
    if not plan.guidance:
        return signs
    if momentum is None or len(momentum) != plan.n_weights:
        raise BadPlan("a guided run needs the momentum of the votes")
    follows = np.broadcast_to(momentum != 0, signs.shape)
    for turn in range(1, plan.guidance + 1):
        start = plan.n_votes * turn
        follows = follows & (directions.signs(range(start + votes.start, start + votes.stop)) < 0)
    guided: I8 = np.where(follows, np.sign(momentum).astype(np.int8), signs)
    return guided


def uphill_signs(plan: Plan, directions: Directions, i: int) -> I8:
    """The direction along which vote i climbs before it is cast, int8 [n]."""
    k = plan.n_votes * (plan.guidance + 1) + i
    signs: I8 = directions.signs(range(k, k + 1))[0]
    return signs
