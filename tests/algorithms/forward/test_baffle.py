"""BAFFLE on a device: what it costs, what it leaves alone, and how well it points downhill."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.algorithms.forward import (
    BaffleOptions,
    Batch,
    Network,
    NumpyEngine,
    PerturbationStream,
    gradient_of,
    lenet_b,
    measure,
    mlp,
)
from gossamer.algorithms.forward.aggregation import Contribution, aggregate
from gossamer.algorithms.forward.cross_entropy import cross_entropy
from gossamer.algorithms.forward.initialise import initial_weights
from gossamer.algorithms.options import BadOption

from .devices import RUN_ID, batched, key_of, random_batch, seed_of
from .in_torch import torch_gradient

F32 = npt.NDArray[np.float32]
SMALL = mlp(64, 32, 10)
UNBOUNDED = {"clip_median": 0.0, "clip_inf_norm": 0.0}


def _weights(network: Network, seed: int = 0) -> F32:
    return initial_weights(network, np.random.default_rng(seed))


@pytest.mark.parametrize(("difference", "n_forwards"), [("forward", 8), ("central", 14)])
@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_a_round_takes_exactly_the_stated_forward_passes(difference: str, n_forwards: int, memory_bytes: int) -> None:
    options = BaffleOptions(K=7, difference=difference)
    engine = NumpyEngine(SMALL, memory_bytes=memory_bytes)
    directions = PerturbationStream(seed_of(0), RUN_ID).at(round_index=0, slot=0, n=SMALL.n_parameters)

    measured = measure(engine, _weights(SMALL), random_batch(SMALL, 32), directions, options)

    assert measured.differences.shape == (7,)
    assert engine.n_forwards == options.n_forwards == n_forwards


@pytest.mark.parametrize("difference", ["forward", "central"])
def test_differences_are_those_of_losses_at_perturbed_weights(difference: str) -> None:
    options = BaffleOptions(K=5, sigma=1e-2, difference=difference)
    weights, batch, engine = _weights(SMALL), random_batch(SMALL, 16), NumpyEngine(SMALL)
    before = weights.tobytes()
    stream = PerturbationStream(seed_of(3), RUN_ID)

    measured = measure(engine, weights, batch, stream.at(round_index=3, slot=2, n=len(weights)), options)

    step = np.float32(1e-2)
    signs = stream.signs(round_index=3, slot=2, ks=range(5), n=len(weights)).astype(np.float32)
    low = weights if difference == "forward" else None
    for z, found in zip(signs, measured.differences, strict=True):
        below = weights - step * z if low is None else low
        expected = engine.loss(weights + step * z, batch) - engine.loss(below, batch)
        assert found == pytest.approx(expected, abs=1e-7)
    assert weights.tobytes() == before


@pytest.mark.parametrize("network", [mlp(20, 11, 7, 5), lenet_b(14)])
def test_batched_evaluation_equals_one_at_a_time(network: Network) -> None:
    weights, batch = _weights(network), random_batch(network, 8)
    directions = PerturbationStream(seed_of(0), RUN_ID).at(round_index=0, slot=0, n=len(weights))

    losses = [
        engine.perturbed_losses(weights, batch, directions, ks=range(3, 30), step=1e-3)
        for engine in (NumpyEngine(network), NumpyEngine(network, memory_bytes=4 << 20))
    ]

    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("network", "K", "n_devices", "n_trials", "difference"),
    [
        (SMALL, 100, 1, 16, "forward"),
        (SMALL, 50, 10, 16, "forward"),
        (SMALL, 100, 1, 16, "central"),
        (lenet_b(14), 50, 4, 16, "forward"),
    ],
)
def test_the_estimate_obeys_the_cosine_law(
    network: Network, K: int, n_devices: int, n_trials: int, difference: str
) -> None:
    options = BaffleOptions(K=K, difference=difference, **UNBOUNDED)  # type: ignore[arg-type]
    weights, batch, engine, n = _weights(network), random_batch(network, 8), batched(network), network.n_parameters
    exact = torch_gradient(network, weights, batch)

    cosines = [
        _cosine(_estimate(engine, weights, batch, options, trial, n_devices), exact) for trial in range(n_trials)
    ]

    law = math.sqrt(K * n_devices / (K * n_devices + n))
    assert np.mean(cosines) == pytest.approx(law, rel=0.07)


def test_shared_perturbations_count_once() -> None:
    options = BaffleOptions(K=100, perturbations="shared", **UNBOUNDED)  # type: ignore[arg-type]
    weights, batch = _weights(SMALL), random_batch(SMALL, 8)
    exact = torch_gradient(SMALL, weights, batch)

    cosines = [_cosine(_estimate(batched(SMALL), weights, batch, options, t, 10), exact) for t in range(16)]

    assert np.mean(cosines) == pytest.approx(math.sqrt(100 / (100 + SMALL.n_parameters)), rel=0.07)


@pytest.mark.parametrize("network", [mlp(784, 256, 10), lenet_b()])
@pytest.mark.parametrize("K", [4, 40])
def test_training_takes_an_inference_and_one_copy_of_the_weights_whatever_k(network: Network, K: int) -> None:
    weights, batch, engine = _weights(network), random_batch(network, 32), NumpyEngine(network)
    directions = PerturbationStream(seed_of(0), RUN_ID).at(round_index=0, slot=0, n=len(weights))
    held = weights.nbytes + batch.inputs.nbytes

    inference = held + _peak_bytes(lambda: engine.loss(weights, batch))
    training = held + _peak_bytes(lambda: measure(engine, weights, batch, directions, BaffleOptions(K=K)))

    assert training <= 1.1 * inference + weights.nbytes


def test_batched_evaluation_stays_within_its_budget() -> None:
    weights, batch, budget = _weights(SMALL), random_batch(SMALL, 32), 2 << 20
    engine = NumpyEngine(SMALL, memory_bytes=budget)
    directions = PerturbationStream(seed_of(0), RUN_ID).at(round_index=0, slot=0, n=len(weights))

    peak = _peak_bytes(lambda: engine.perturbed_losses(weights, batch, directions, ks=range(1000), step=1e-3))

    assert engine.evaluations_at_once(32) > 10
    assert peak <= 1.1 * budget


@pytest.mark.parametrize("scale", [1.0, 200.0, 1e4, 1e30])
def test_losses_are_exact_whatever_the_size_of_the_logits(scale: float) -> None:
    logits = (scale * np.random.default_rng(0).standard_normal((3, 4, 5))).astype(np.float32)
    labels = np.array([0, 4, 2, 2])

    losses = cross_entropy(logits, labels)

    for found, rows in zip(losses, logits.tolist(), strict=True):
        exact = [
            max(row) + math.log(math.fsum(math.exp(z - max(row)) for z in row)) - row[label]
            for row, label in zip(rows, labels, strict=True)
        ]
        assert found == pytest.approx(math.fsum(exact) / 4, rel=1e-12)


@pytest.mark.parametrize(
    "options", [{"K": 0}, {"K": 65_537}, {"sigma": 0.0}, {"difference": "backward"}, {"value": "fp64"}, {"ema": 1.0}]
)
def test_options_out_of_bounds_are_refused(options: dict[str, float | str]) -> None:
    with pytest.raises(BadOption):
        BaffleOptions(**options)  # type: ignore[arg-type]


def _estimate(
    engine: NumpyEngine, weights: F32, batch: Batch, options: BaffleOptions, round_index: int, n_devices: int
) -> F32:
    stream = PerturbationStream(seed_of(round_index), RUN_ID)
    contributions = []
    for slot in range(n_devices):
        directions = stream.at(round_index=round_index, slot=options.slot(slot), n=len(weights))
        differences = measure(engine, weights, batch, directions, options).differences
        contributions.append(Contribution(key=key_of(round_index, n_devices), slot=slot, differences=differences))
    replay = aggregate(contributions, options, step=0, learning_rate=0.1, run_id=RUN_ID, n=len(weights))
    return gradient_of(replay, RUN_ID, len(weights))


def _cosine(a: F32, b: F32) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _peak_bytes(work: Callable[[], object]) -> int:
    """The most that numpy and Python held at a time during the work."""
    work()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
