"""Between float weights and the integers that stand for them. Where the run is set up and evaluated, not on devices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import BadPlan
from .arithmetic import clamp
from .plan import Matrix, Plan

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class LayerScale:
    """What 1 in a layer's integers stands for."""

    weight: float
    bias: float
    """The last column meets an activation of 127."""
    offset: float = 0.0
    """What an input activation of 0 stands for; the integer bias includes it times the sum of the kernel."""

    def __post_init__(self) -> None:
        # NaN fails the comparisons.
        if not (0 < self.weight < 1e30 and 0 < self.bias < 1e30 and abs(self.offset) < 1e30):
            raise BadPlan(f"a layer's scales are positive and finite, not {self}")


def quantise(plan: Plan, scales: Sequence[LayerScale], weights: F32) -> I16:
    """Integer weights of float ones, int16 [plan.n_weights]; those beyond the range are clamped.

    Args:
        weights: float32 [plan.network.n_parameters].
    Each element is divided and rounded by itself, so that every machine gets the same bits.
    """
    matrices = []
    for matrix, scale, kernel, bias in _layers(plan, scales, weights):
        shifted = bias.astype(np.float64) + scale.offset * _row_sums(kernel)
        wide = np.column_stack([kernel.astype(np.float64) / scale.weight, shifted / scale.bias])
        matrices.append(clamp(np.rint(wide)).reshape(matrix.stop - matrix.start))
    return np.concatenate(matrices)


def dequantise(plan: Plan, scales: Sequence[LayerScale], integers: I16) -> F32:
    """The float weights that integers stand for, float32 [plan.network.n_parameters]."""
    weights = np.empty(plan.network.n_parameters, np.float32)
    for matrix, scale, kernel, bias in _layers(plan, scales, weights):
        own = integers[matrix.start : matrix.stop].reshape(matrix.shape).astype(np.float64)
        kernel[:] = own[:, :-1] * scale.weight
        bias[:] = own[:, -1] * scale.bias - scale.offset * _row_sums(kernel)
    return weights


def _row_sums(kernel: F32) -> npt.NDArray[np.float64]:
    """Exact, in whatever order a machine would add."""
    return np.array([math.fsum(row) for row in kernel.tolist()])


def _layers(plan: Plan, scales: Sequence[LayerScale], weights: F32) -> Iterator[tuple[Matrix, LayerScale, F32, F32]]:
    """Every layer with views of its kernel [n_out, fan_in] and bias [n_out]."""
    parts = [weights[parameter.start : parameter.stop] for parameter in plan.network.parameters()]
    for index, (matrix, scale) in enumerate(zip(plan.matrices(), scales, strict=True)):
        yield matrix, scale, parts[2 * index].reshape(matrix.layer.n_out, -1), parts[2 * index + 1]
