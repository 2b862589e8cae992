"""Guided, kernel-wise and sharpness-aware votes: in integers, the same on every replica and engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gossamer.algorithms.forward import BadPlan, Network, PerturbationStream
from gossamer.algorithms.forward.fixedpoint import (
    FixedPointOptions,
    FloatKernel,
    IntegerEngine,
    IntegerReplica,
    NumpyKernel,
    OnnxKernel,
    Plan,
    VoteReplay,
    cast_vote,
    cast_votes,
)
from gossamer.algorithms.forward.fixedpoint.guidance import guided_signs, moved_momentum, uphill_signs
from gossamer.algorithms.forward.fixedpoint.kernelwise import proportions, scaled
from gossamer.algorithms.forward.fixedpoint.training import perturb
from gossamer.algorithms.forward.stream import Directions

from ..devices import RUN_ID, seed_of
from .cases import CONV, MLP, calibrated, integer_batch, vote_round

ALL = FixedPointOptions(n_rounds=50, guidance=1, sharpness=0.01, kernelwise=True)


def _directions(plan: Plan) -> Directions:
    return PerturbationStream(seed_of(0), RUN_ID).at(round_index=0, slot=0, n=plan.n_weights)


@pytest.mark.parametrize("network", [MLP, CONV])
def test_every_engine_and_replica_ends_with_the_same_bytes(network: Network) -> None:
    pytest.importorskip("onnxruntime")
    plan, start = calibrated(network, ALL)
    parts, digests = [integer_batch(network, 4, seed) for seed in range(3)], set()

    for kernel in (NumpyKernel(), OnnxKernel(), FloatKernel()):
        gateway, device = (IntegerReplica(start, Plan.from_dict(plan.to_dict()), RUN_ID) for _ in range(2))
        for _ in range(6):
            replay = vote_round(IntegerEngine(plan, kernel), gateway, parts)
            device.apply(VoteReplay.from_bytes(replay.to_bytes(), n_votes=3))
        assert device.momentum.tobytes() == gateway.momentum.tobytes()
        digests |= {device.digest(), gateway.digest()}

    assert len(digests) == 1
    assert digests != {IntegerReplica(start, plan, RUN_ID).digest()}


def test_momentum_follows_the_votes_with_an_arithmetic_shift() -> None:
    momentum = np.array([0, 0, 1000, -1000, 2**30], np.int32)
    sums = np.array([3, -3, 0, 0, 2**31])

    assert moved_momentum(momentum, sums).tolist() == [48, -48, 938, -937, 2**30]


def test_a_sign_follows_the_momentum_as_often_as_the_plan_says() -> None:
    plan, _ = calibrated(MLP, FixedPointOptions(n_rounds=50, guidance=2))
    directions, n = _directions(plan), plan.n_weights
    plain = directions.signs(range(3))

    assert np.array_equal(guided_signs(plan, directions, range(3), np.zeros(n, np.int32)), plain)
    for side in (5, -5):
        guided = guided_signs(plan, directions, range(3), np.full(n, side, np.int32))
        turned = guided != plain
        assert (guided[turned] == np.sign(side)).all()
        # A quarter follows, and half of those point that way already.
        assert turned.mean() == pytest.approx(1 / 8, abs=0.03)
    with pytest.raises(BadPlan, match="momentum"):
        guided_signs(plan, directions, range(3), None)


def test_steps_are_in_proportion_to_each_kernels_weights() -> None:
    rows = np.array([[10, -10], [30, 30], [0, 0], [20, 20]], np.int16)

    shares = proportions(rows)

    # Sums 20, 60, 0, 40, their mean 30; nobody has less than a quarter.
    assert shares.tolist() == [170, 512, 64, 341]
    assert scaled(100, shares).tolist() == [66, 200, 25, 133]
    assert proportions(np.zeros((2, 3), np.int16)).tolist() == [64, 64]


def test_kernel_wise_perturbation_and_update_take_each_kernels_share() -> None:
    plan, start = calibrated(MLP, FixedPointOptions(n_rounds=50, kernelwise=True, epsilon=1.0, eta=1.0))
    matrix, layer = plan.matrices()[0], plan.layers[0]
    rows = start[: matrix.stop].reshape(matrix.shape)
    shares = proportions(rows)
    replica, sums = IntegerReplica(start, plan, RUN_ID), np.ones(plan.n_weights, np.int64)

    moved = perturb(plan, start, np.ones(plan.n_weights, np.int8), 1).astype(int) - start
    replica.descend(sums)

    lengths = scaled(layer.perturbation, shares)
    clear = np.abs(rows.astype(int) + lengths[:, None]) < 32_639
    assert (moved[: matrix.stop].reshape(matrix.shape) == lengths[:, None])[clear].all()
    steps = (start.astype(int) - replica.weights)[: matrix.stop].reshape(matrix.shape)
    assert (steps == ((scaled(layer.update, shares) + 128) >> 8)[:, None]).all()


def test_a_sharpness_aware_vote_is_cast_uphill_and_takes_twice_the_passes() -> None:
    plan, weights = calibrated(MLP, FixedPointOptions(n_rounds=50, sharpness=0.05))
    batch, engine = integer_batch(MLP, 8), IntegerEngine(plan, NumpyKernel())
    directions = _directions(plan)

    votes = cast_votes(engine, weights, batch, directions)

    assert engine.n_forwards == plan.n_forwards == 4 * plan.n_votes
    level = IntegerEngine(replace(plan, layers=tuple(replace(layer, ascent=0) for layer in plan.layers)), NumpyKernel())
    for i, vote in enumerate(votes):
        uphill = uphill_signs(plan, directions, i)
        sides = [level.loss(perturb(level.plan, weights, uphill, side), batch) for side in (1, -1)]
        climbed = weights.astype(int)
        for matrix, layer in zip(plan.matrices(), plan.layers, strict=True):
            part = slice(matrix.start, matrix.stop)
            climbed[part] += np.sign(sides[0] - sides[1]) * layer.ascent * uphill[part]
        assert cast_vote(level, climbed.astype(np.int16), batch, directions, i)[0] == vote


def test_a_plan_without_enhancements_is_written_as_before() -> None:
    plain = calibrated(MLP, FixedPointOptions(n_rounds=50))[0].to_dict()

    assert set(plain) == {"network", "layers", "n_rounds", "n_votes"}
    assert all(set(layer) == {"multiplier", "shift", "perturbation", "update"} for layer in plain["layers"])


@pytest.mark.parametrize("changes", [{"guidance": -1}, {"guidance": 17}, {"kernelwise": 2}, {"kernelwise": True}])
def test_enhancements_that_nobody_knows_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadPlan):
        Plan.from_dict({**calibrated(MLP, ALL)[0].to_dict(), **changes})
