"""A network as an ONNX graph whose inputs are the samples `x` and every weight tensor, output `logits`.

Two forms. The plain one is portable. The blocked one uses onnxruntime's own convolutions on channels in blocks (domain
com.microsoft.nchwc), which the library otherwise reserves for constant weights: twice as fast where they fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from .network import (
    Conv,
    Flatten,
    GlobalAveragePool,
    Hardswish,
    Layer,
    Linear,
    MaxPool,
    Network,
    Parameter,
    ReLU,
    Shape,
)
from .onnx_format import FLOAT, Attribute, Constant, Node, Value, model_bytes

F32 = npt.NDArray[np.float32]

BLOCKED_DOMAIN: Final = "com.microsoft.nchwc"
CHANNELS_TOGETHER: Final = 16
"""Blocked convolutions are used for multiples of this: of every block size there is, so that a wrong guess of the size
gives wrong numbers, which are noticed, and no read beyond the weights."""
INPUT_CHANNELS_MAX: Final = 7
"""A first convolution of fewer channels than any block takes its input as it is."""
_OPERATORS: Final = {ReLU: "Relu", Hardswish: "HardSwish", Flatten: "Flatten"}


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model, and how to feed it."""

    model: bytes
    parameters: tuple[Parameter, ...]
    block: int
    """Channels in a block; 0: plain."""
    blocked: frozenset[str]
    """Names of the kernels that the model wants in blocks."""

    def feeds(self, weights: F32) -> dict[str, F32]:
        """The weight tensors: views of the flat vector, and buffers for those in blocks (see `rearrange`)."""
        return {
            p.name: np.empty(p.shape, np.float32)
            if p.name in self.blocked
            else weights[p.start : p.stop].reshape(p.shape)
            for p in self.parameters
        }

    def rearrange(self, weights: F32, feeds: dict[str, F32]) -> None:
        """Fill the buffers of `feeds` from the flat vector."""
        for p in self.parameters:
            if p.name in self.blocked:
                kernels = weights[p.start : p.stop].reshape(p.shape)
                np.copyto(feeds[p.name].reshape(_block_shape(p.shape, self.block)), _in_blocks(kernels, self.block))


def plain_graph(network: Network) -> Graph:
    """ONNX's own operators only."""
    return _graph(network, list(_nodes(network)), 0, frozenset())


def constant_model(network: Network, weights: F32) -> bytes:
    """A model with these weights built in: the library may rearrange them for its kernels, blocks of channels included.

    Args:
        weights: float32 [network.n_parameters].
    """
    samples = Value(name="x", element=FLOAT, shape=("n", *network.input_shape))
    logits = Value(name="logits", element=FLOAT, shape=("n", network.n_classes))
    constants = [
        Constant(name=p.name, shape=p.shape, data=weights[p.start : p.stop].astype("<f4").tobytes())
        for p in network.parameters()
    ]
    return model_bytes(list(_nodes(network)), [samples], [logits], constants)


def blocked_graph(network: Network, block: int) -> Graph | None:
    """Convolutions on blocks of channels up to the first layer that they do not fit; None if that is the first."""
    kernels = frozenset(f"{index}.weight" for index in _blockable(network))
    if not kernels:
        return None
    return _graph(network, list(_blocked_nodes(network)), block, kernels)


def _graph(network: Network, nodes: list[Node], block: int, blocked: frozenset[str]) -> Graph:
    samples = Value(name="x", element=FLOAT, shape=("n", *network.input_shape))
    weights = [Value(name=p.name, element=FLOAT, shape=p.shape) for p in network.parameters()]
    logits = Value(name="logits", element=FLOAT, shape=("n", network.n_classes))
    model = model_bytes(nodes, [samples, *weights], [logits])
    return Graph(model=model, parameters=network.parameters(), block=block, blocked=blocked)


def _nodes(network: Network, start: int = 0, before: str = "x") -> Iterator[Node]:
    """Plain operators from a layer on."""
    last = len(network.layers) - 1
    for index in range(start, last + 1):
        after = "logits" if index == last else f"after {index}"
        yield from _layer_nodes(network.layers[index], index, before, after)
        before = after


def _layer_nodes(layer: Layer, index: int, before: str, after: str) -> list[Node]:
    weighted = (before, f"{index}.weight", f"{index}.bias")
    match layer:
        case Linear():
            return [Node(operator="Gemm", inputs=weighted, output=after, attributes={"transB": 1})]
        case Conv():
            return [Node(operator="Conv", inputs=weighted, output=after, attributes={"pads": (layer.padding,) * 4})]
        case MaxPool():
            return [Node(operator="MaxPool", inputs=(before,), output=after, attributes=_window(layer))]
        case GlobalAveragePool():
            mean = Node(operator="GlobalAveragePool", inputs=(before,), output=f"mean {index}")
            return [mean, Node(operator="Flatten", inputs=(mean.output,), output=after)]
        case ReLU() | Hardswish() | Flatten():
            return [Node(operator=_OPERATORS[type(layer)], inputs=(before,), output=after)]


def _blockable(network: Network) -> list[int]:
    """Positions of the convolutions that can work on blocks: from the first layer on, activations and pools between."""
    found = []
    for index, layer in enumerate(network.layers):
        if isinstance(layer, Conv):
            fits_input = layer.n_in <= INPUT_CHANNELS_MAX if index == 0 else layer.n_in % CHANNELS_TOGETHER == 0
            if not fits_input or layer.n_out % CHANNELS_TOGETHER:
                break
            found.append(index)
        elif not found or not isinstance(layer, ReLU | Hardswish | MaxPool):
            break
    return found


def _blocked_nodes(network: Network) -> Iterator[Node]:
    """Convolutions with what follows them, in blocks; then back to the plain layout and operators."""
    before, index, channels = "x", 0, 0
    convolutions = _blockable(network)
    stop = _end_of_blocks(network, convolutions[-1])
    while index < stop:
        layer = network.layers[index]
        if isinstance(layer, Conv):
            attributes: dict[str, Attribute] = {"pads": (layer.padding,) * 4, "group": 1}
            following = network.layers[index + 1] if index + 1 < stop else None
            channels, output = layer.n_out, f"blocked {index}"
            inputs = (before, f"{index}.weight", f"{index}.bias")
            if isinstance(following, ReLU | Hardswish):
                attributes["activation"] = _OPERATORS[type(following)]
                index += 1
            yield Node(operator="Conv", inputs=inputs, output=output, attributes=attributes, domain=BLOCKED_DOMAIN)
        elif isinstance(layer, MaxPool):
            output = f"blocked {index}"
            attributes = _window(layer)
            yield Node(
                operator="MaxPool", inputs=(before,), output=output, attributes=attributes, domain=BLOCKED_DOMAIN
            )
        before, index = output, index + 1
    back: dict[str, Attribute] = {"channels": channels}
    yield Node(operator="ReorderOutput", inputs=(before,), output="plain", attributes=back, domain=BLOCKED_DOMAIN)
    yield from _nodes(network, stop, "plain")


def _end_of_blocks(network: Network, last_convolution: int) -> int:
    """Past the last convolution in blocks, its activation, and a pool."""
    stop = last_convolution + 1
    if stop < len(network.layers) and isinstance(network.layers[stop], ReLU | Hardswish):
        stop += 1
    if stop < len(network.layers) and isinstance(network.layers[stop], MaxPool):
        stop += 1
    return stop


def _window(layer: MaxPool) -> dict[str, Attribute]:
    return {"kernel_shape": (layer.size,) * 2, "strides": (layer.size,) * 2}


def _block_shape(shape: Shape, block: int) -> Shape:
    n_out, n_in, height, width = shape
    if n_in <= INPUT_CHANNELS_MAX:
        return (n_out // block, n_in, height, width, block)
    return (n_out // block, n_in // block, height, width, block, block)


def _in_blocks(kernels: F32, block: int) -> F32:
    """A view of [n_out, n_in, h, w] with the axes of `_block_shape`: output blocks, inputs, pixels, outputs."""
    n_out, n_in, height, width = kernels.shape
    if n_in <= INPUT_CHANNELS_MAX:
        return kernels.reshape(n_out // block, block, n_in, height, width).transpose(0, 2, 3, 4, 1)
    split = kernels.reshape(n_out // block, block, n_in // block, block, height, width)
    return split.transpose(0, 2, 4, 5, 3, 1)
