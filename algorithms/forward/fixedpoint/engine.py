"""The network in integers: from activations and 16-bit weights to Q12 logits and a Q16 loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import BadPlan
from ..network import Conv, Flatten, GlobalAveragePool, Linear, MaxPool
from ..numpy_forward import windows
from .arithmetic import ACTIVATION_MAX, WEIGHT_MAX, average, requantise, split, to_logits
from .kernels import Kernel
from .loss import cross_entropy
from .plan import Matrix, Plan

U8 = npt.NDArray[np.uint8]
I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class IntegerBatch:
    """Labelled samples as activations."""

    inputs: U8
    """uint8 [n, *network.input_shape], each 0..127."""
    labels: I64
    """int64 [n]."""

    def __len__(self) -> int:
        return len(self.labels)


class IntegerEngine:
    """Forward passes of a plan's network; weights are flat int16 and never changed."""

    def __init__(self, plan: Plan, kernel: Kernel) -> None:
        self.plan = plan
        self.name = kernel.name
        self.n_forwards = 0
        self._kernel = kernel
        self._matrices = plan.matrices()

    def loss(self, weights: I16, batch: IntegerBatch) -> int:
        """Sum of the samples' cross-entropies, Q16 nats.

        Raises: BadPlan if weights or samples don't fit the plan.
        """
        refuse_misfit(self.plan, weights, batch)
        return cross_entropy(self.logits(weights, batch.inputs), batch.labels)

    def accuracy(self, weights: I16, batch: IntegerBatch) -> tuple[int, int]:
        """Samples whose largest logit is the label's, and all samples."""
        refuse_misfit(self.plan, weights, batch)
        right = self.logits(weights, batch.inputs).argmax(axis=1) == batch.labels
        return int(right.sum()), len(batch)

    def logits(self, weights: I16, inputs: U8) -> I64:
        """Q12 nats, int64 [n, n_classes]."""
        self.n_forwards += 1
        high, low = split(weights)
        x = inputs.transpose(0, 2, 3, 1) if inputs.ndim == 4 else inputs
        index = 0
        for layer in self.plan.network.layers:
            if isinstance(layer, Linear | Conv):
                accumulators = self._accumulate(self._matrices[index], high, low, x)
                constants = self.plan.layers[index]
                index += 1
                if index == len(self._matrices):
                    return to_logits(accumulators, constants.multiplier, constants.shift)
                x = requantise(accumulators, constants.multiplier, constants.shift)
            elif isinstance(layer, MaxPool):
                x = _max_pool(x, layer.size)
            elif isinstance(layer, GlobalAveragePool):
                x = average(x)
            elif isinstance(layer, Flatten):
                x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).reshape(len(x), -1)
            # ReLU is part of `requantise`, and activations are never negative.
        raise AssertionError("a plan ends with a linear layer")

    def _accumulate(self, matrix: Matrix, high: I8, low: I8, x: U8) -> I64:
        """256 * acc_hi + acc_lo of one layer, int64 [..., n_out]."""
        layer = matrix.layer
        if isinstance(layer, Conv):
            x = windows(x, layer.kernel, layer.padding)
        rows = x.reshape(-1, matrix.fan_in)
        # The bias is a weight like any other: it meets a constant activation.
        constant = np.full((len(rows), 1), ACTIVATION_MAX, np.uint8)
        halves = np.concatenate([_columns(matrix, half) for half in (high, low)], axis=1)
        sums = self._kernel.multiply(np.concatenate([rows, constant], axis=1), halves)
        n_out = layer.n_out
        accumulators: I64 = (sums[:, :n_out] << 8) + sums[:, n_out:]
        return accumulators.reshape(*x.shape[:-1], n_out)


def refuse_misfit(plan: Plan, weights: I16, batch: IntegerBatch) -> None:
    """Raise BadPlan unless weights and samples have the plan's shapes, types and ranges."""
    if weights.shape != (plan.n_weights,) or weights.dtype != np.int16:
        raise BadPlan(f"{weights.dtype} weights {weights.shape}: expected int16 ({plan.n_weights},)")
    if weights.min() < -WEIGHT_MAX or weights.max() > WEIGHT_MAX:
        raise BadPlan(f"weights beyond +-{WEIGHT_MAX}")
    if batch.inputs.shape != (len(batch), *plan.network.input_shape) or batch.inputs.dtype != np.uint8:
        raise BadPlan(f"{batch.inputs.dtype} inputs {batch.inputs.shape} for {len(batch)} labels")
    if not len(batch) or batch.inputs.max() > ACTIVATION_MAX:
        raise BadPlan(f"expected at least one sample, and activations of at most {ACTIVATION_MAX}")
    if batch.labels.dtype != np.int64 or not 0 <= batch.labels.min() <= batch.labels.max() < plan.network.n_classes:
        raise BadPlan(f"labels must be int64 in [0, {plan.network.n_classes})")


def _columns(matrix: Matrix, half: I8) -> I8:
    """One half of a layer's weights as [fan_in + 1, n_out], kernels in the order of `windows`."""
    weights = half[matrix.start : matrix.stop].reshape(matrix.shape)
    layer = matrix.layer
    if isinstance(layer, Conv):
        kernels = weights[:, :-1].reshape(layer.n_out, layer.n_in, layer.kernel, layer.kernel)
        rows = kernels.transpose(0, 2, 3, 1).reshape(layer.n_out, -1)
        weights = np.concatenate([rows, weights[:, -1:]], axis=1)
    return weights.T


def _max_pool(x: U8, size: int) -> U8:
    """[n, h, w, c] -> [n, h / size, w / size, c]."""
    n, height, width, c = x.shape[0], x.shape[1] // size, x.shape[2] // size, x.shape[3]
    tiles = x[:, : height * size, : width * size].reshape(n, height, size, width, size, c)
    pooled: U8 = tiles.max(axis=(2, 4))
    return pooled
