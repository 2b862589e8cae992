"""The engine on onnxruntime. Weights are inputs of the graph, so a perturbation needs no new session.

onnxruntime is optional (`pip install gossamer[edge]`): building this engine without it raises ImportError.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from .batch import Batch, refuse_misfit
from .cross_entropy import cross_entropy
from .engine import Engine
from .network import Network
from .onnx_graph import Graph, blocked_graph, plain_graph
from .onnx_session import Session
from .stream import Directions

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

BLOCKS: Final = (16, 8)
"""Channels that onnxruntime's blocked convolutions take together: with AVX-512, and without."""
_TOLERANCE: Final = 1e-3
_TOGETHER: Final = 8
"""Evaluations whose losses are computed at a time: enough to be quick, whatever K is."""


class OnnxEngine(Engine):
    """Forward passes in onnxruntime, float32, one thread.

    Args:
        network: what to evaluate.
        blocked: try the blocked convolutions first; they are used only if they compute what the plain ones do.
    Raises: ImportError without onnxruntime.
    """

    def __init__(self, network: Network, *, blocked: bool = True) -> None:
        self.network = network
        self._graph = plain_graph(network)
        self._session = Session(self._graph.model)
        if blocked:
            self._try_blocked()
        self.name = f"onnxruntime, blocks of {self._graph.block}" if self._graph.block else "onnxruntime"

    def logits(self, weights: F32, inputs: F32) -> F32:
        self.n_forwards += 1
        logits: F32 = _run(self._session, self._graph, weights, inputs)
        return logits

    def perturbed_losses(self, weights: F32, batch: Batch, directions: Directions, *, ks: range, step: float) -> F64:
        refuse_misfit(self.network, weights, batch)
        perturbed = np.empty((1, len(weights)), np.float32)
        logits = np.empty((_TOGETHER, len(batch), self.network.n_classes), np.float32)
        losses = np.empty(len(ks), np.float64)
        # Views where the layout allows it: writing to `perturbed` changes what the session is fed.
        feeds, inputs = self._graph.feeds(perturbed[0]), np.ascontiguousarray(batch.inputs)
        for start in range(0, len(ks), _TOGETHER):
            chosen = ks[start : start + _TOGETHER]
            for index, k in enumerate(chosen):
                directions.perturb(weights, range(k, k + 1), step, perturbed)
                self._graph.rearrange(perturbed[0], feeds)
                logits[index] = self._session.run({"x": inputs, **feeds})
            losses[start : start + len(chosen)] = cross_entropy(logits[: len(chosen)], batch.labels)
        self.n_forwards += len(ks)
        return losses

    def _try_blocked(self) -> None:
        """Take the first blocked graph that agrees with the plain one on this machine.

        The block size is the library's own affair and follows from the processor, so it is found by trying.
        """
        rng = np.random.default_rng(0)
        inputs = rng.standard_normal((2, *self.network.input_shape), np.float32)
        weights = rng.standard_normal(self.network.n_parameters, np.float32)
        expected = _run(self._session, self._graph, weights, inputs)
        for block in BLOCKS:
            graph = blocked_graph(self.network, block)
            if graph is None:
                continue
            session = Session.if_possible(graph.model)
            if session is None:
                return
            found = _run(session, graph, weights, inputs)
            if np.abs(found - expected).max() <= _TOLERANCE * np.abs(expected).max():
                self._session, self._graph = session, graph
                return


def _run(session: Session, graph: Graph, weights: F32, inputs: F32) -> F32:
    feeds = graph.feeds(weights)
    graph.rearrange(weights, feeds)
    logits: F32 = session.run({"x": np.ascontiguousarray(inputs), **feeds})
    return logits
