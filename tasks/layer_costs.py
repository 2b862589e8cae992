"""What each layer of a model costs: estimated from its operations, or measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ..algorithms.partition import balanced_starts
from .initialise import with_memory
from .layers import Layer
from .operations import OperationCounter
from .staged import Staged
from .stages import Cut


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """Of one layer, for one sample."""

    name: str
    flops: float
    """Of the forward pass."""
    output_shape: tuple[int, ...]
    """Of what goes to the next layer, without the dimension of the samples."""
    parameters: Mapping[str, int]
    """Elements of each parameter that it uses, by name: tied layers in one stage hold them once."""
    forward_s: float | None = None
    """Measured; None: not measured."""

    @property
    def output_elements(self) -> int:
        return math.prod(self.output_shape)


def estimate_costs(task: Staged) -> tuple[LayerCost, ...]:
    """Count the operations of one sample's forward pass: as `OperationCounter` does.

    Where the task builds a skeleton, memory is taken for one layer at a time. Layers are run on the CPU, for torch's
    meta kernels load a compiler.
    """
    model = task.build_skeleton()
    x = task.inputs(np.zeros(1, np.int64))
    costs = []
    with torch.no_grad():
        for layer in task.layers(model):
            modules = [_with_memory(model.get_submodule(path)) for path in layer.uses]
            with OperationCounter() as counter:
                x = layer.run(modules, x)
            costs.append(_cost(model, layer, counter.flops, x))
    return tuple(costs)


def measure_costs(
    task: Staged, *, clock: Callable[[], float], n_samples: int = 8, n_repeats: int = 5
) -> tuple[LayerCost, ...]:
    """`estimate_costs`, and beside it the time of a forward pass on this machine, best of so many."""
    estimated = estimate_costs(task)
    model = task.build_model(0)
    x = task.inputs(np.arange(n_samples, dtype=np.int64) % task.n_train)
    costs = []
    with torch.no_grad():
        for layer, cost in zip(task.layers(model), estimated, strict=True):
            times_s = []
            for _ in range(n_repeats + 1):  # the first one pays for kernels and caches
                started_s = clock()
                y = layer(model, x)
                times_s.append(clock() - started_s)
            x = y
            costs.append(replace(cost, forward_s=min(times_s[1:]) / n_samples))
    return tuple(costs)


def cut_by_cost(task: Staged, n_stages: int, costs: tuple[LayerCost, ...] | None = None) -> Cut:
    """Cut a task's model so that the dearest stage is as cheap as can be, by estimated operations.

    Args:
        costs: the estimate, where it is known already.
    Raises: CannotCut if there are fewer layers than stages.
    """
    costs = costs or estimate_costs(task)
    n_fewer = min(n_stages, len(costs))  # more stages than layers: the cut says so
    starts = balanced_starts([cost.flops for cost in costs], n_fewer)
    return Cut(starts=(*starts, *[len(costs)] * (n_stages - n_fewer)), n_layers=len(costs))


def _cost(model: nn.Module, layer: Layer, flops: float, out: Tensor) -> LayerCost:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    used = [parameter for path in layer.uses for parameter in model.get_submodule(path).parameters()]
    return LayerCost(
        name=layer.name,
        flops=flops,
        output_shape=tuple(out.shape[1:]),
        parameters={names[id(parameter)]: parameter.numel() for parameter in used},
    )


def _with_memory(module: nn.Module) -> nn.Module:
    """The module, or if it has no memory a copy that has, with any values."""
    if any(tensor.is_meta for tensor in module.state_dict().values()):
        return with_memory(module)
    return module
