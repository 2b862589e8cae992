"""A task's model as data that a device can build: the layers that `algorithms.forward` has."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ...algorithms.forward import Network
from ...algorithms.forward.network import Conv, Flatten, GlobalAveragePool, Hardswish, Layer, Linear, MaxPool, ReLU
from ...protocol.errors import UsageError
from ...tasks import Task
from ...tasks.classification import Classification


def describe(task: Task, model: nn.Module) -> Network:
    """The network that computes what a task's `model` computes.

    Raises: UsageError for a task or layer that devices do not have.
    """
    if not isinstance(task, Classification):
        raise UsageError(f"task {task.name!r} is not for devices: they classify samples")
    if not isinstance(model, nn.Sequential):
        raise UsageError(f"a {type(model).__name__} cannot be sent to devices: build the model as nn.Sequential")
    try:
        network = Network(input_shape=tuple(task.train.inputs.shape[1:]), layers=tuple(_layers(model)))
    except ValueError as error:
        raise UsageError(f"the model cannot be sent to devices: {error}") from None
    ours = [parameter.shape for parameter in network.parameters()]
    theirs = [tuple(parameter.shape) for parameter in model.parameters()]
    if ours != theirs:
        raise UsageError("the model's parameters are not those of its layers: devices cannot build it")
    return network


def _layers(model: nn.Sequential) -> Iterator[Layer]:
    for module in model:
        if isinstance(module, nn.Linear) and module.bias is not None:
            yield Linear(module.in_features, module.out_features)
        elif isinstance(module, nn.Conv2d) and _is_plain(module):
            yield Conv(module.in_channels, module.out_channels, module.kernel_size[0], int(module.padding[0]))
        elif isinstance(module, nn.MaxPool2d):
            yield MaxPool(int(module.kernel_size))  # type: ignore[arg-type]  # checked by Network
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            yield GlobalAveragePool()
        elif isinstance(module, nn.Flatten):
            if not _follows_pooling(model, module):
                yield Flatten()
        elif isinstance(module, nn.ReLU):
            yield ReLU()
        elif isinstance(module, nn.Hardswish):
            yield Hardswish()
        else:
            raise UsageError(f"a layer {module} is not for devices: use Linear, Conv2d (stride 1), pooling, ReLU")


def _is_plain(module: nn.Conv2d) -> bool:
    square = len({*module.kernel_size}) == 1 and len({*module.padding}) == 1 and not isinstance(module.padding, str)
    return square and set(module.stride) == {1} and set(module.dilation) == {1} and module.groups == 1


def _follows_pooling(model: nn.Sequential, module: nn.Module) -> bool:
    """Global pooling leaves a flat vector here, and 1 x 1 images in torch."""
    modules = list(model)
    index = modules.index(module)
    return index > 0 and isinstance(modules[index - 1], nn.AdaptiveAvgPool2d)
