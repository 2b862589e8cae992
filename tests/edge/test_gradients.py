"""Backpropagation on a device against differences of losses."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.algorithms.forward import Batch, Network, NumpyEngine, initial_weights, lenet_b, mlp
from gossamer.algorithms.forward.network import Conv, Flatten, Hardswish, Linear, MaxPool
from gossamer.edge.gradients import TorchGradients

CONV = Network(input_shape=(1, 6, 6), layers=(Conv(1, 2, 3, 1), Hardswish(), MaxPool(2), Flatten(), Linear(18, 3)))


@pytest.mark.parametrize("network", [mlp(5, 4, 3), CONV, lenet_b(14)])
def test_gradient_is_the_slope_of_the_engines_loss(network: Network) -> None:
    rng = np.random.default_rng(0)
    weights = initial_weights(network, rng)
    inputs = rng.standard_normal((6, *network.input_shape), np.float32)
    batch = Batch(inputs=inputs, labels=rng.integers(0, network.n_classes, 6))
    direction = rng.standard_normal(len(weights)).astype(np.float32)

    loss, gradient = TorchGradients(network).loss_and_gradient(weights, batch)

    engine, step = NumpyEngine(network), np.float32(1e-3)
    slope = (engine.loss(weights + step * direction, batch) - engine.loss(weights - step * direction, batch)) / 2e-3
    assert loss == pytest.approx(engine.loss(weights, batch), abs=1e-5)
    assert float(gradient.astype(np.float64) @ direction) == pytest.approx(slope, rel=0.02, abs=2e-3)
