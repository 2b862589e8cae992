"""Sign-m-SPSA in integers (after arXiv:2411.04036): a device votes on m directions; all replicas add the votes up.

vote     = sign(L(w + P z) - L(w - P z)) in {-1, 0, 1}, weights clamped
S        = sum of votes * z over slots, then i
w        = clamp(w - ((U * S + 128) >> 8))
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from ...errors import BadPayload
from ..errors import BadPlan
from ..stream import Directions, PerturbationStream
from .arithmetic import WEIGHT_MAX, clamp, displacement
from .engine import IntegerBatch, IntegerEngine
from .plan import Plan
from .votes import VoteReplay

I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]


def cast_votes(engine: IntegerEngine, weights: I16, batch: IntegerBatch, directions: Directions) -> I8:
    """A device's work in one round: 2 m forward passes; weights are unchanged.

    Whoever has the same batch gets the same votes on any machine and engine: that is how a submission is audited.
    Returns: int8 [m] of -1, 0 and 1.
    Raises: BadPlan.
    """
    return np.array([cast_vote(engine, weights, batch, directions, i)[0] for i in range(engine.plan.n_votes)], np.int8)


def cast_vote(
    engine: IntegerEngine, weights: I16, batch: IntegerBatch, directions: Directions, i: int
) -> tuple[int, int]:
    """The vote on direction i, and the sum of its two losses (over the batch, Q16 nats): 2 forward passes.

    Raises: BadPlan.
    """
    signs = directions.signs(range(i, i + 1))[0]
    above = engine.loss(perturb(engine.plan, weights, signs, 1), batch)
    below = engine.loss(perturb(engine.plan, weights, signs, -1), batch)
    return (above > below) - (above < below), above + below


def perturb(plan: Plan, weights: I16, signs: I8, side: int) -> I16:
    """clamp(w + side * P * z), side +1 or -1."""
    shifted = weights.astype(np.int32)
    for matrix, layer in zip(plan.matrices(), plan.layers, strict=True):
        part = slice(matrix.start, matrix.stop)
        shifted[part] += np.multiply(signs[part], side * layer.perturbation, dtype=np.int32)
    return clamp(shifted)


class IntegerReplica:
    """The weights that gateway and devices hold alike.

    Args:
        weights: int16 [plan.n_weights] within +-32,639, copied.
        run_id: 32 bytes, for the perturbation stream.
    Raises: BadPlan.
    """

    def __init__(self, weights: I16, plan: Plan, run_id: bytes) -> None:
        if weights.shape != (plan.n_weights,) or weights.dtype != np.int16:
            raise BadPlan(f"{weights.dtype} weights {weights.shape}: expected int16 ({plan.n_weights},)")
        if weights.min() < -WEIGHT_MAX or weights.max() > WEIGHT_MAX:
            raise BadPlan(f"weights beyond +-{WEIGHT_MAX}")
        self.weights: I16 = weights.copy()
        self.plan = plan
        self.step = 0
        self._run_id = run_id

    def apply(self, replay: VoteReplay) -> None:
        """Take one step.

        Raises: BadPayload if it is not the next one; nothing has changed then.
        """
        if replay.step != self.step:
            raise BadPayload(f"a replay of step {replay.step} cannot follow {self.step} steps: fetch the missing ones")
        self.descend(sum_votes(replay, self._run_id, len(self.weights)))

    def descend(self, sums: npt.NDArray[np.int64]) -> None:
        """One step from the sums of all votes on every weight, int64 [n]. The weights stay the same array."""
        moved = self.weights.astype(np.int64)
        for index, matrix in enumerate(self.plan.matrices()):
            part = slice(matrix.start, matrix.stop)
            moved[part] -= displacement(self.plan.update_at(index, self.step), sums[part])
        self.weights[:] = clamp(moved)
        self.step += 1

    def digest(self) -> str:
        """SHA-256 (hex) of the weights as little-endian int16."""
        return hashlib.sha256(self.weights.astype("<i2").tobytes()).hexdigest()


def sum_votes(replay: VoteReplay, run_id: bytes, n: int) -> npt.NDArray[np.int64]:
    """S of every weight, int64 [n]."""
    total = np.zeros(n, np.int64)
    for part in replay.parts:
        stream = PerturbationStream(part.round_seed, run_id)
        for slot, votes in zip(part.slots, part.votes, strict=True):
            signs = stream.signs(round_index=part.round_index, slot=slot, ks=range(len(votes)), n=n)
            # Integers: the order of the additions does not matter.
            total += votes.astype(np.int32) @ signs.astype(np.int32)
    return total
