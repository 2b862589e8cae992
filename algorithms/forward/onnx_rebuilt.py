"""The engine on onnxruntime that builds a session for every evaluation, its weights being part of the graph.

A session costs a fraction of a millisecond and more; what the library makes of constant weights then may be quicker to
run. Where that pays (large batches, slow plain kernels) is found by measuring (`choice`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .batch import Batch, refuse_misfit
from .cross_entropy import cross_entropy
from .engine import Engine
from .network import Network
from .onnx_graph import constant_model
from .onnx_session import Session
from .stream import Directions

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class RebuiltOnnxEngine(Engine):
    """Forward passes in onnxruntime, float32, one thread, a session for each. Raises ImportError without it."""

    name = "onnxruntime, rebuilt"

    def __init__(self, network: Network) -> None:
        self.network = network
        self.logits(np.zeros(network.n_parameters, np.float32), np.zeros((1, *network.input_shape), np.float32))
        self.n_forwards = 0

    def logits(self, weights: F32, inputs: F32) -> F32:
        self.n_forwards += 1
        session = Session(constant_model(self.network, weights))
        logits: F32 = session.run({"x": np.ascontiguousarray(inputs)})
        return logits

    def perturbed_losses(self, weights: F32, batch: Batch, directions: Directions, *, ks: range, step: float) -> F64:
        refuse_misfit(self.network, weights, batch)
        perturbed = np.empty((1, len(weights)), np.float32)
        losses = np.empty(len(ks), np.float64)
        for index, k in enumerate(ks):
            directions.perturb(weights, range(k, k + 1), step, perturbed)
            losses[index] = cross_entropy(self.logits(perturbed[0], batch.inputs), batch.labels)
        return losses
