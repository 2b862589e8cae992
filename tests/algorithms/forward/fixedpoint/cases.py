"""Small fixed-point runs for the tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gossamer.algorithms.forward import Network, PerturbationStream, mlp
from gossamer.algorithms.forward.fixedpoint import (
    FixedPointOptions,
    IntegerBatch,
    IntegerEngine,
    IntegerReplica,
    Plan,
    VotePart,
    VoteReplay,
    calibrate,
    cast_votes,
)
from gossamer.algorithms.forward.initialise import initial_weights
from gossamer.algorithms.forward.network import Conv, Flatten, GlobalAveragePool, Linear, MaxPool, ReLU

from ..devices import RUN_ID, seed_of

I16 = npt.NDArray[np.int16]

MLP = mlp(49, 16, 10)
CONV = Network(
    input_shape=(2, 9, 8),
    layers=(Conv(2, 4, 3, 1), ReLU(), MaxPool(2), Conv(4, 6, 2), ReLU(), Flatten(), Linear(54, 5)),
)
POOLED = Network(input_shape=(1, 8, 8), layers=(Conv(1, 6, 3), ReLU(), GlobalAveragePool(), Linear(6, 4)))


def calibrated(network: Network, options: FixedPointOptions) -> tuple[Plan, I16]:
    rng = np.random.default_rng(0)
    weights = initial_weights(network, rng)
    for parameter in network.parameters():
        if len(parameter.shape) == 1:
            weights[parameter.start : parameter.stop] = 0.1 * rng.standard_normal(parameter.size)
    return calibrate(network, weights, rng.random((64, *network.input_shape), np.float32), options)


def integer_batch(network: Network, n: int, seed: int = 0) -> IntegerBatch:
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 128, (n, *network.input_shape)).astype(np.uint8)
    return IntegerBatch(inputs=inputs, labels=rng.integers(0, network.n_classes, n))


def vote_round(engine: IntegerEngine, replica: IntegerReplica, parts: list[IntegerBatch]) -> VoteReplay:
    """One round of all devices, each on its whole part; the replica takes the step."""
    index = replica.step
    stream = PerturbationStream(seed_of(index), RUN_ID)
    votes = [
        cast_votes(
            engine,
            replica.weights,
            part,
            stream.at(round_index=index, slot=slot, n=engine.plan.n_weights),
            replica.momentum,
        )
        for slot, part in enumerate(parts)
    ]
    slots = tuple(range(len(parts)))
    part = VotePart(
        round_seed=seed_of(index), round_index=index, n_slots=len(parts), slots=slots, votes=np.array(votes)
    )
    replay = VoteReplay(step=index, parts=(part,))
    replica.apply(replay)
    return replay
