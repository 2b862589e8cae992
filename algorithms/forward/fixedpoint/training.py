"""Sign-m-SPSA in integers (after arXiv:2411.04036): a device votes on m directions; all replicas add the votes up.

vote     = sign(L(w + P z) - L(w - P z)) in {-1, 0, 1}, weights clamped
S        = sum of votes * z over slots, then i
w        = clamp(w - ((U * S + 128) >> 8))

With the paper's enhancements, where the plan has them: z as `guidance` draws it; P and U times each kernel's share
(`kernelwise`); and the vote cast at w + R a y, a the vote on another direction y at w (sharpness-aware).
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
from .guidance import fresh_momentum, guided_signs, moved_momentum, uphill_signs
from .kernelwise import proportions, scaled
from .plan import Plan
from .votes import VoteReplay

I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


def cast_votes(
    engine: IntegerEngine, weights: I16, batch: IntegerBatch, directions: Directions, momentum: I32 | None = None
) -> I8:
    """A device's work in one round: 2 m forward passes (sharpness-aware: 4 m); weights are unchanged.

    Whoever has the same batch gets the same votes on any machine and engine: that is how a submission is audited.

    Args:
        momentum: the replica's, int32 [n]; only guided runs need it.
    Returns: int8 [m] of -1, 0 and 1.
    Raises: BadPlan.
    """
    votes = [cast_vote(engine, weights, batch, directions, i, momentum)[0] for i in range(engine.plan.n_votes)]
    return np.array(votes, np.int8)


def cast_vote(
    engine: IntegerEngine,
    weights: I16,
    batch: IntegerBatch,
    directions: Directions,
    i: int,
    momentum: I32 | None = None,
) -> tuple[int, int]:
    """The vote on direction i, and the sum of its two losses (over the batch, Q16 nats): 2 or 4 forward passes.

    Raises: BadPlan.
    """
    plan = engine.plan
    if plan.climbs:
        uphill = uphill_signs(plan, directions, i)
        side, _ = _compare(engine, weights, batch, uphill)
        weights = _climb(plan, weights, uphill, side)
    return _compare(engine, weights, batch, guided_signs(plan, directions, range(i, i + 1), momentum)[0])


def _compare(engine: IntegerEngine, weights: I16, batch: IntegerBatch, signs: I8) -> tuple[int, int]:
    above = engine.loss(perturb(engine.plan, weights, signs, 1), batch)
    below = engine.loss(perturb(engine.plan, weights, signs, -1), batch)
    return (above > below) - (above < below), above + below


def perturb(plan: Plan, weights: I16, signs: I8, side: int) -> I16:
    """clamp(w + side * P * z), side +1 or -1; kernel-wise P is each kernel's own."""
    shifted = weights.astype(np.int32)
    for matrix, layer in zip(plan.matrices(), plan.layers, strict=True):
        part = slice(matrix.start, matrix.stop)
        if plan.kernelwise and layer.perturbation:
            rows = weights[part].reshape(matrix.shape)
            lengths = np.maximum(scaled(layer.perturbation, proportions(rows)), 1).astype(np.int32)
            shifted[part] += (side * lengths[:, None] * signs[part].reshape(matrix.shape)).reshape(-1)
        else:
            shifted[part] += np.multiply(signs[part], side * layer.perturbation, dtype=np.int32)
    return clamp(shifted)


def _climb(plan: Plan, weights: I16, signs: I8, side: int) -> I16:
    """clamp(w + side * R * y)."""
    shifted = weights.astype(np.int32)
    for matrix, layer in zip(plan.matrices(), plan.layers, strict=True):
        part = slice(matrix.start, matrix.stop)
        shifted[part] += np.multiply(signs[part], side * layer.ascent, dtype=np.int32)
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
        self.momentum = fresh_momentum(plan)
        """Of the votes, int32 [n]; empty where nothing is guided by it."""
        self.plan = plan
        self.step = 0
        self.run_id = run_id

    def apply(self, replay: VoteReplay) -> None:
        """Take one step.

        Raises: BadPayload if it is not the next one; nothing has changed then.
        """
        if replay.step != self.step:
            raise BadPayload(f"a replay of step {replay.step} cannot follow {self.step} steps: fetch the missing ones")
        self.descend(self.sum_votes(replay))

    def sum_votes(self, replay: VoteReplay) -> I64:
        """S of every weight, int64 [n]. Guided signs follow the momentum of now, on all replicas alike."""
        n = len(self.weights)
        total = np.zeros(n, np.int64)
        for part in replay.parts:
            stream = PerturbationStream(part.round_seed, self.run_id)
            for slot, votes in zip(part.slots, part.votes, strict=True):
                directions = stream.at(round_index=part.round_index, slot=slot, n=n)
                signs = guided_signs(self.plan, directions, range(len(votes)), self.momentum)
                # Integers: the order of the additions does not matter.
                total += votes.astype(np.int32) @ signs.astype(np.int32)
        return total

    def descend(self, sums: I64) -> None:
        """One step from the sums of all votes on every weight, int64 [n]. The weights stay the same array."""
        moved = self.weights.astype(np.int64)
        for index, matrix in enumerate(self.plan.matrices()):
            part, update = slice(matrix.start, matrix.stop), self.plan.update_at(index, self.step)
            if self.plan.kernelwise:
                updates = scaled(update, proportions(self.weights[part].reshape(matrix.shape)))
                moved[part] -= displacement(np.repeat(updates, matrix.fan_in + 1), sums[part])
            else:
                moved[part] -= displacement(update, sums[part])
        self.weights[:] = clamp(moved)
        if len(self.momentum):
            self.momentum[:] = moved_momentum(self.momentum, sums)
        self.step += 1

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Copies of all that a newcomer needs to go on from here."""
        momentum = {"momentum": self.momentum.copy()} if len(self.momentum) else {}
        return {"weights": self.weights.copy(), **momentum, "step": np.array([self.step], np.int64)}

    def digest(self) -> str:
        """SHA-256 (hex) of the weights as little-endian int16."""
        return hashlib.sha256(self.weights.astype("<i2").tobytes()).hexdigest()
