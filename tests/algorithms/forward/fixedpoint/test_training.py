"""Votes and steps: equal on every engine and replica, and audited by recomputing."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.algorithms.errors import BadPayload
from gossamer.algorithms.forward import Network, PerturbationStream
from gossamer.algorithms.forward.fixedpoint import (
    FixedPointOptions,
    IntegerEngine,
    IntegerReplica,
    NumpyKernel,
    OnnxKernel,
    VoteReplay,
    cast_votes,
)
from gossamer.algorithms.forward.fixedpoint.arithmetic import (
    WEIGHT_MAX,
    clamp,
)
from gossamer.algorithms.forward.fixedpoint.training import perturb

from ..devices import RUN_ID, seed_of
from .cases import CONV, MLP, calibrated, integer_batch, vote_round

OPTIONS = FixedPointOptions(n_rounds=50)


@pytest.mark.parametrize("network", [MLP, CONV])
def test_both_engines_train_to_the_same_bytes(network: Network) -> None:
    pytest.importorskip("onnxruntime")
    plan, start = calibrated(network, OPTIONS)
    parts = [integer_batch(network, 4, seed) for seed in range(3)]
    digests = []

    for kernel in (NumpyKernel(), OnnxKernel()):
        replica, engine = IntegerReplica(start, plan, RUN_ID), IntegerEngine(plan, kernel)
        for _ in range(12):
            vote_round(engine, replica, parts)
        digests.append(replica.digest())

    assert digests[0] == digests[1] != IntegerReplica(start, plan, RUN_ID).digest()


def test_devices_that_replay_votes_hold_the_gateways_weights() -> None:
    plan, start = calibrated(MLP, OPTIONS)
    gateway, device = IntegerReplica(start, plan, RUN_ID), IntegerReplica(start, plan, RUN_ID)
    engine, parts = IntegerEngine(plan, NumpyKernel()), [integer_batch(MLP, 4, seed) for seed in range(3)]

    for _ in range(20):
        device.apply(VoteReplay.from_bytes(vote_round(engine, gateway, parts).to_bytes(), n_votes=3))

    assert device.digest() == gateway.digest()
    with pytest.raises(BadPayload, match="cannot follow"):
        device.apply(VoteReplay(step=3, parts=()))


def test_a_submission_is_audited_by_recomputing_it() -> None:
    plan, weights = calibrated(MLP, OPTIONS)
    batch, engine = integer_batch(MLP, 8), IntegerEngine(plan, NumpyKernel())
    stream = PerturbationStream(seed_of(4), RUN_ID)

    votes = cast_votes(engine, weights, batch, stream.at(round_index=4, slot=1, n=plan.n_weights))

    n_forwards = engine.n_forwards
    again = cast_votes(engine, weights, batch, stream.at(round_index=4, slot=1, n=plan.n_weights))
    other = [
        cast_votes(engine, weights, batch, stream.at(round_index=5 + i, slot=1, n=plan.n_weights)) for i in range(6)
    ]
    assert n_forwards == 2 * plan.n_votes
    assert votes.tobytes() == again.tobytes()
    assert any(votes.tobytes() != row.tobytes() for row in other)


def test_a_vote_follows_the_sign_of_the_loss_difference() -> None:
    plan, weights = calibrated(MLP, OPTIONS)
    batch, engine = integer_batch(MLP, 8), IntegerEngine(plan, NumpyKernel())
    directions = PerturbationStream(seed_of(0), RUN_ID).at(round_index=0, slot=0, n=plan.n_weights)

    votes = cast_votes(engine, weights, batch, directions)

    for vote, z in zip(votes, directions.signs(range(3)), strict=True):
        losses = [engine.loss(perturb(plan, weights, z, side), batch) for side in (1, -1)]
        assert vote == np.sign(losses[0] - losses[1])


def test_perturbed_weights_are_clamped() -> None:
    plan, _ = calibrated(MLP, OPTIONS)
    weights = np.full(plan.n_weights, WEIGHT_MAX - 1, np.int16)

    above = perturb(plan, weights, np.ones(plan.n_weights, np.int8), 1)

    assert np.unique(above).tolist() == [WEIGHT_MAX]
    assert clamp(np.array([-40_000, 40_000])).tolist() == [-WEIGHT_MAX, WEIGHT_MAX]


def test_eight_bit_weights_freeze_where_sixteen_bits_move() -> None:
    parts = [integer_batch(MLP, 4, seed) for seed in range(10)]
    moved = []

    for weight_max in (127, WEIGHT_MAX):
        plan, start = calibrated(MLP, FixedPointOptions(n_rounds=50, eta=0.005, weight_max=weight_max))
        replica, engine = IntegerReplica(start, plan, RUN_ID), IntegerEngine(plan, NumpyKernel())
        for _ in range(5):
            vote_round(engine, replica, parts)
        moved.append(replica.weights.tobytes() != start.tobytes())

    assert moved == [False, True]


def test_frozen_layers_stay_as_they_are() -> None:
    plan, start = calibrated(MLP, FixedPointOptions(n_rounds=50, frozen=(0,)))
    replica, engine = IntegerReplica(start, plan, RUN_ID), IntegerEngine(plan, NumpyKernel())

    for _ in range(5):
        vote_round(engine, replica, [integer_batch(MLP, 4)])

    cut = plan.matrices()[0].stop
    assert replica.weights[:cut].tobytes() == start[:cut].tobytes()
    assert replica.weights[cut:].tobytes() != start[cut:].tobytes()
