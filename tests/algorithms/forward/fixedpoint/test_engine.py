"""Integer forward passes: against Python's integers, the float network, and engine against engine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.algorithms.forward import Network, NumpyEngine
from gossamer.algorithms.forward.fixedpoint import (
    FixedPointOptions,
    IntegerBatch,
    IntegerEngine,
    Kernel,
    LayerPlan,
    NumpyKernel,
    OnnxKernel,
    Plan,
)
from gossamer.algorithms.forward.fixedpoint.arithmetic import (
    WEIGHT_MAX,
)

from .cases import CONV, MLP, POOLED, calibrated, integer_batch

I16 = npt.NDArray[np.int16]
NETWORKS = [MLP, CONV, POOLED]
OPTIONS = FixedPointOptions(n_rounds=50)


def test_an_mlp_equals_python_integers() -> None:
    plan, weights = calibrated(MLP, OPTIONS)
    batch = integer_batch(MLP, 3)

    logits = IntegerEngine(plan, NumpyKernel()).logits(weights, batch.inputs)

    matrices = [weights[m.start : m.stop].reshape(m.shape).tolist() for m in plan.matrices()]
    for sample, found in zip(batch.inputs.tolist(), logits.tolist(), strict=True):
        first, last = plan.layers
        hidden = [
            min(127, (max(acc, 0) * first.multiplier + 2 ** (first.shift - 1)) >> first.shift)
            for acc in _accumulate_naively(matrices[0], sample)
        ]
        expected = [
            max(-(2**17), min(2**17, (acc * last.multiplier + 2 ** (last.shift - 1)) >> last.shift))
            for acc in _accumulate_naively(matrices[1], hidden)
        ]
        assert found == expected


def test_convolutions_equal_python_integers() -> None:
    """CONV: 3 x 3 with padding, ReLU, pooling by 2, 2 x 2, ReLU, linear; all sums written out."""
    plan, weights = calibrated(CONV, OPTIONS)
    batch = integer_batch(CONV, 2)

    logits = IntegerEngine(plan, NumpyKernel()).logits(weights, batch.inputs)

    kernels = [weights[m.start : m.stop].reshape(m.shape).tolist() for m in plan.matrices()]
    first, second, last = plan.layers
    for sample, found in zip(batch.inputs.tolist(), logits.tolist(), strict=True):
        x = _pool_naively(_requantise_naively(_convolve_naively(kernels[0], sample, size=3, padding=1), first))
        x = _requantise_naively(_convolve_naively(kernels[1], x, size=2, padding=0), second)
        flat = [value for channel in x for row in channel for value in row]
        sums = _accumulate_naively(kernels[2], flat)
        assert found == [
            max(-(2**17), min(2**17, (acc * last.multiplier + 2 ** (last.shift - 1)) >> last.shift)) for acc in sums
        ]


@pytest.mark.parametrize("network", NETWORKS)
def test_integer_logits_follow_the_float_network(network: Network) -> None:
    plan, weights = calibrated(network, OPTIONS)
    batch = integer_batch(network, 20)

    logits = IntegerEngine(plan, NumpyKernel()).logits(weights, batch.inputs) / 2**12

    floats = NumpyEngine(network).logits(_float_weights(plan, weights), (batch.inputs * np.float32(2 / 255)))
    assert np.corrcoef(logits.reshape(-1), floats.reshape(-1))[0, 1] > 0.995


@pytest.mark.parametrize("network", NETWORKS)
def test_numpy_and_onnxruntime_agree_bit_for_bit(network: Network) -> None:
    pytest.importorskip("onnxruntime")
    plan, calibrated_weights = calibrated(network, OPTIONS)
    rng = np.random.default_rng(0)
    extreme = rng.choice(np.array([-WEIGHT_MAX, WEIGHT_MAX, -128, 127, 0], np.int16), plan.n_weights)
    loud = IntegerBatch(inputs=np.full((4, *network.input_shape), 127, np.uint8), labels=np.zeros(4, np.int64))
    kernels: list[Kernel] = [NumpyKernel(), OnnxKernel()]

    for weights in (calibrated_weights, extreme, np.full(plan.n_weights, WEIGHT_MAX, np.int16)):
        for batch in (integer_batch(network, 7), loud):
            by_numpy, by_onnx = (IntegerEngine(plan, kernel).logits(weights, batch.inputs) for kernel in kernels)
            assert by_numpy.tobytes() == by_onnx.tobytes()


@pytest.mark.parametrize("columns", [1, 3, 64])
@pytest.mark.parametrize("n", [1, 2, 197, 4097])
def test_kernels_do_not_saturate(n: int, columns: int) -> None:
    pytest.importorskip("onnxruntime")
    activations = np.full((3, n), 127, np.uint8)
    weights = np.full((n, columns), -127, np.int8)

    for kernel in (NumpyKernel(), OnnxKernel()):
        assert np.unique(kernel.multiply(activations, weights)).tolist() == [-127 * 127 * n]


def _accumulate_naively(weights: list[list[int]], x: list[int]) -> list[int]:
    return [sum(w * a for w, a in zip(row, [*x, 127], strict=True)) for row in weights]


Pictures = list[list[list[int]]]


def _convolve_naively(kernels: list[list[int]], x: Pictures, *, size: int, padding: int) -> Pictures:
    """Channel by channel, with black outside; a kernel's last number is its bias."""
    height, width = len(x[0]), len(x[0][0])

    def pixel(c: int, row: int, column: int) -> int:
        row, column = row - padding, column - padding
        return x[c][row][column] if 0 <= row < height and 0 <= column < width else 0

    places = [(c, i, j) for c in range(len(x)) for i in range(size) for j in range(size)]
    return [
        [
            [
                sum(w * pixel(c, r + i, q + j) for w, (c, i, j) in zip(kernel, places, strict=False)) + 127 * kernel[-1]
                for q in range(width + 2 * padding - size + 1)
            ]
            for r in range(height + 2 * padding - size + 1)
        ]
        for kernel in kernels
    ]


def _requantise_naively(sums: Pictures, layer: LayerPlan) -> Pictures:
    half = 2 ** (layer.shift - 1)
    return [
        [[min(127, (max(acc, 0) * layer.multiplier + half) >> layer.shift) for acc in row] for row in channel]
        for channel in sums
    ]


def _pool_naively(x: Pictures) -> Pictures:
    return [
        [
            [max(c[2 * r + i][2 * q + j] for i in (0, 1) for j in (0, 1)) for q in range(len(c[0]) // 2)]
            for r in range(len(c) // 2)
        ]
        for c in x
    ]


def _float_weights(plan: Plan, weights: I16) -> npt.NDArray[np.float32]:
    """The float network that `calibrated` started from has these weights, up to rounding."""
    rng = np.random.default_rng(0)
    from gossamer.algorithms.forward.initialise import initial_weights

    floats = initial_weights(plan.network, rng)
    for parameter in plan.network.parameters():
        if len(parameter.shape) == 1:
            floats[parameter.start : parameter.stop] = 0.1 * rng.standard_normal(parameter.size)
    assert len(weights) == len(floats)
    return floats
