"""The engine on onnxruntime. Weights are inputs of the graph, so a perturbation needs no new session.

onnxruntime is optional (`pip install gossamer[edge]`): building this engine without it raises ImportError.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .batch import Batch, refuse_misfit
from .cross_entropy import cross_entropy
from .engine import Engine
from .network import Conv, Flatten, GlobalAveragePool, Hardswish, Layer, Linear, MaxPool, Network, ReLU
from .onnx_format import FLOAT, Node, Value, model_bytes
from .onnx_session import Session
from .stream import Directions

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class OnnxEngine(Engine):
    """Forward passes in onnxruntime, float32, one thread.

    Raises: ImportError without onnxruntime.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.name = "onnxruntime"
        self._session = Session(network_model(network))

    def logits(self, weights: F32, inputs: F32) -> F32:
        self.n_forwards += 1
        logits: F32 = self._session.run({"x": np.ascontiguousarray(inputs), **self._tensors(weights)})
        return logits

    def perturbed_losses(self, weights: F32, batch: Batch, directions: Directions, *, ks: range, step: float) -> F64:
        refuse_misfit(self.network, weights, batch)
        perturbed = np.empty((1, len(weights)), np.float32)
        # Views: writing to `perturbed` changes what the session is fed.
        feeds = {"x": np.ascontiguousarray(batch.inputs), **self._tensors(perturbed[0])}
        logits = np.empty((len(ks), len(batch), self.network.n_classes), np.float32)
        for index, k in enumerate(ks):
            directions.perturb(weights, range(k, k + 1), step, perturbed)
            logits[index] = self._session.run(feeds)
        self.n_forwards += len(ks)
        return cross_entropy(logits, batch.labels)

    def _tensors(self, weights: F32) -> dict[str, F32]:
        parameters = self.network.parameters()
        return {p.name: weights[p.start : p.stop].reshape(p.shape) for p in parameters}


def network_model(network: Network) -> bytes:
    """The network as an ONNX model: inputs `x` and each parameter by name, output `logits`."""
    nodes = list(_nodes(network))
    samples = Value(name="x", element=FLOAT, shape=("n", *network.input_shape))
    weights = [Value(name=p.name, element=FLOAT, shape=p.shape) for p in network.parameters()]
    logits = Value(name=nodes[-1].output, element=FLOAT, shape=("n", network.n_classes))
    return model_bytes(nodes, [samples, *weights], [logits])


def _nodes(network: Network) -> Iterator[Node]:
    name = "x"
    last = len(network.layers) - 1
    for index, layer in enumerate(network.layers):
        after = "logits" if index == last else f"after {index}"
        yield from _layer_nodes(layer, index, name, after)
        name = after


def _layer_nodes(layer: Layer, index: int, before: str, after: str) -> list[Node]:
    weighted = (before, f"{index}.weight", f"{index}.bias")
    match layer:
        case Linear():
            return [Node(operator="Gemm", inputs=weighted, output=after, attributes={"transB": 1})]
        case Conv():
            return [Node(operator="Conv", inputs=weighted, output=after, attributes={"pads": (layer.padding,) * 4})]
        case MaxPool():
            sizes: dict[str, int | tuple[int, ...]] = {"kernel_shape": (layer.size,) * 2, "strides": (layer.size,) * 2}
            return [Node(operator="MaxPool", inputs=(before,), output=after, attributes=sizes)]
        case GlobalAveragePool():
            mean = Node(operator="GlobalAveragePool", inputs=(before,), output=f"mean {index}")
            return [mean, Node(operator="Flatten", inputs=(mean.output,), output=after)]
        case ReLU() | Hardswish() | Flatten():
            operator = {ReLU: "Relu", Hardswish: "HardSwish", Flatten: "Flatten"}[type(layer)]
            return [Node(operator=operator, inputs=(before,), output=after)]
