"""Networks as data, and what numpy and onnxruntime make of them beside torch."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gossamer.algorithms.forward import BadNetwork, Batch, Network, NumpyEngine, PerturbationStream, lenet_b, mlp
from gossamer.algorithms.forward import numpy_forward as layers
from gossamer.algorithms.forward.choice import available_engines, measure_engines
from gossamer.algorithms.forward.initialise import initial_weights
from gossamer.algorithms.forward.network import (
    Conv,
    Flatten,
    GlobalAveragePool,
    Hardswish,
    Linear,
    MaxPool,
    ReLU,
)

from .devices import RUN_ID, random_batch, seed_of
from .in_torch import torch_logits

PADDED = Network(
    input_shape=(3, 9, 11),
    layers=(Conv(3, 4, 3, 1), ReLU(), MaxPool(3), Conv(4, 6, 2), Hardswish(), Flatten(), Linear(24, 5), ReLU()),
)
WIDE = Network(
    input_shape=(2, 12, 12),
    layers=(
        Conv(2, 32, 3),
        ReLU(),
        Conv(32, 16, 3, 1),
        MaxPool(2),
        Hardswish(),
        Conv(16, 5, 2),
        Flatten(),
        Linear(80, 3),
    ),
)
NETWORKS = [mlp(7, 3), mlp(64, 32, 16, 10), lenet_b(), lenet_b(14), PADDED]


@pytest.mark.parametrize("network", NETWORKS)
def test_numpy_computes_what_torch_computes(network: Network) -> None:
    weights, batch = initial_weights(network, np.random.default_rng(0)), random_batch(network, 5)

    logits = NumpyEngine(network).logits(weights, batch.inputs)

    np.testing.assert_allclose(logits, torch_logits(network, weights, batch.inputs), rtol=1e-4, atol=1e-5)


def test_samples_in_blocks_give_what_they_give_together(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, batch = initial_weights(PADDED, np.random.default_rng(0)), random_batch(PADDED, 5)
    together = NumpyEngine(PADDED).logits(weights, batch.inputs)

    monkeypatch.setattr(layers, "BLOCK_FLOATS", 2 * layers.activation_floats(PADDED))
    in_blocks = NumpyEngine(PADDED).logits(weights, batch.inputs)

    np.testing.assert_allclose(in_blocks, together, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("network", [*NETWORKS, WIDE])
def test_onnxruntime_computes_what_numpy_computes(network: Network, blocked: bool) -> None:
    pytest.importorskip("onnxruntime")
    from gossamer.algorithms.forward.onnx_engine import OnnxEngine

    weights, batch = initial_weights(network, np.random.default_rng(0)), random_batch(network, 5)
    directions = PerturbationStream(seed_of(0), RUN_ID).at(round_index=0, slot=0, n=len(weights))
    engines = [OnnxEngine(network, blocked=blocked), NumpyEngine(network)]

    logits, expected = (engine.logits(weights, batch.inputs) for engine in engines)
    losses = [engine.perturbed_losses(weights, batch, directions, ks=range(4), step=1e-3) for engine in engines]

    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("network", [*NETWORKS, WIDE])
def test_weights_as_constants_give_what_they_give_as_inputs(network: Network) -> None:
    pytest.importorskip("onnxruntime")
    from gossamer.algorithms.forward.onnx_rebuilt import RebuiltOnnxEngine

    weights, batch = initial_weights(network, np.random.default_rng(0)), random_batch(network, 5)
    directions = PerturbationStream(seed_of(0), RUN_ID).at(round_index=0, slot=0, n=len(weights))
    engines = [RebuiltOnnxEngine(network), NumpyEngine(network)]

    losses = [engine.perturbed_losses(weights, batch, directions, ks=range(4), step=1e-3) for engine in engines]

    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=1e-6)
    assert [engine.n_forwards for engine in engines] == [4, 4]


@pytest.mark.parametrize("network", NETWORKS)
def test_models_with_constants_pass_the_checker(network: Network) -> None:
    onnx = pytest.importorskip("onnx")
    from gossamer.algorithms.forward.onnx_graph import constant_model

    model = constant_model(network, initial_weights(network, np.random.default_rng(0)))
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)


@pytest.mark.parametrize("network", NETWORKS)
def test_models_written_without_the_onnx_package_pass_its_checker(network: Network) -> None:
    onnx = pytest.importorskip("onnx")
    from gossamer.algorithms.forward.onnx_graph import plain_graph

    onnx.checker.check_model(onnx.load_from_string(plain_graph(network).model), full_check=True)


def test_lenet_b_has_26730_parameters_in_declared_order() -> None:
    parameters = lenet_b().parameters()

    assert lenet_b().n_parameters == 26_730
    assert [p.shape for p in parameters] == [(16, 1, 5, 5), (16,), (64, 16, 5, 5), (64,), (10, 64), (10,)]
    assert [(p.start, p.stop) for p in parameters][:3] == [(0, 400), (400, 416), (416, 26_016)]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_survives_json(network: Network) -> None:
    assert Network.from_dict(json.loads(json.dumps(network.to_dict()))) == network


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"input_shape": [4], "layers": []},
        {"input_shape": [4], "layers": [{"kind": "Lineal", "n_in": 4, "n_out": 2}]},
        {"input_shape": [4], "layers": [{"kind": ["Linear"]}]},
        {"input_shape": [4], "layers": [{"kind": "Linear", "n_in": 4}]},
        {"input_shape": [4], "layers": [{"kind": "Linear", "n_in": 4, "n_out": 2, "bias": 1}]},
        {"input_shape": [4], "layers": [{"kind": "Linear", "n_in": 5, "n_out": 2}]},
        {"input_shape": [4], "layers": [{"kind": "Linear", "n_in": 4, "n_out": 2.0}]},
        {"input_shape": [4], "layers": [{"kind": "Linear", "n_in": 4, "n_out": True}]},
        {"input_shape": [4], "layers": [{"kind": "Linear", "n_in": 4, "n_out": 0}]},
        {"input_shape": [4], "layers": [{"kind": "ReLU"}] * 257},
        {"input_shape": [65536], "layers": [{"kind": "Linear", "n_in": 65536, "n_out": 65536}]},
        {"input_shape": [1, 4, 4], "layers": [{"kind": "ReLU"}]},
        {"input_shape": [1, 4, 4], "layers": [{"kind": "MaxPool", "size": 5}, {"kind": "Flatten"}]},
        {"input_shape": [1, 4], "layers": [{"kind": "Flatten"}]},
        {"input_shape": "12", "layers": [{"kind": "ReLU"}]},
        {"input_shape": 4, "layers": [{"kind": "ReLU"}]},
    ],
)
def test_descriptions_that_are_no_network_are_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(BadNetwork):
        Network.from_dict(plain)


def test_layers_must_fit_one_another() -> None:
    with pytest.raises(BadNetwork, match="does not fit"):
        Network(input_shape=(1, 28, 28), layers=(Conv(1, 4, 5), GlobalAveragePool(), Linear(5, 10)))


@pytest.mark.parametrize(
    ("n_weights", "inputs", "labels"),
    [
        (N := mlp(4, 2).n_parameters, np.zeros((3, 4), np.float32), np.array([0, 1, 2])),
        (N, np.zeros((3, 4), np.float32), np.array([0, 1, -1])),
        (N, np.zeros((3, 4), np.float32), np.array([0, 1])),
        (N, np.zeros((3, 5), np.float32), np.array([0, 1, 1])),
        (N, np.zeros((3, 4), np.float64), np.array([0, 1, 1])),
        (N, np.zeros((0, 4), np.float32), np.array([], np.int64)),
        (N + 1, np.zeros((3, 4), np.float32), np.array([0, 1, 1])),
    ],
)
def test_samples_and_weights_must_fit_the_network(n_weights: int, inputs: Any, labels: Any) -> None:
    with pytest.raises(BadNetwork):
        NumpyEngine(mlp(4, 2)).loss(np.zeros(n_weights, np.float32), Batch(inputs=inputs, labels=labels))


def test_engines_are_ranked_by_the_evaluations_they_manage() -> None:
    engines = available_engines(mlp(64, 32, 10), memory_bytes=1 << 20)
    ticks = iter(range(0, 10_000, 5))

    ranked = measure_engines(engines, batch_size=8, n_trials=2, clock=lambda: float(next(ticks)))

    assert {m.engine.name for m in ranked} >= {"numpy", "numpy, 1 MiB"}
    assert all(m.evaluations_per_s == 64 / 5 for m in ranked)
