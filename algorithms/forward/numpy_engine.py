"""The engine that runs wherever numpy does: one perturbation at a time, or as many as fit a memory budget."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .batch import Batch, refuse_misfit
from .cross_entropy import cross_entropy
from .engine import Engine
from .network import Network
from .numpy_forward import NumpyForward, activation_floats
from .stream import Directions

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class NumpyEngine(Engine):
    """Forward passes in numpy.

    Args:
        network: what to evaluate.
        memory_bytes: what perturbed weights and activations may take together. 0 evaluates one perturbation at a
            time: a forward pass and one copy of the weights, however many perturbations there are.
    """

    def __init__(self, network: Network, *, memory_bytes: int = 0) -> None:
        self.network = network
        self.memory_bytes = memory_bytes
        self.name = f"numpy, {memory_bytes >> 20} MiB" if memory_bytes else "numpy"

    def logits(self, weights: F32, inputs: F32) -> F32:
        self.n_forwards += 1
        logits: F32 = NumpyForward(self.network, inputs)(weights[None])[0]
        return logits

    def perturbed_losses(self, weights: F32, batch: Batch, directions: Directions, *, ks: range, step: float) -> F64:
        refuse_misfit(self.network, weights, batch)
        forward = NumpyForward(self.network, batch.inputs)
        at_once = min(max(1, len(ks)), self.evaluations_at_once(len(batch)))
        perturbed = np.empty((at_once, len(weights)), np.float32)
        losses = np.empty(len(ks), np.float64)
        for start in range(0, len(ks), at_once):
            chosen = ks[start : start + at_once]
            rows = perturbed[: len(chosen)]
            directions.perturb(weights, chosen, step, rows)
            losses[start : start + len(chosen)] = cross_entropy(forward(rows), batch.labels)
        self.n_forwards += len(ks)
        return losses

    def evaluations_at_once(self, n_samples: int) -> int:
        """How many perturbations fit the budget, at least 1."""
        each = self.network.n_parameters + n_samples * activation_floats(self.network)
        return max(1, self.memory_bytes // (4 * each))
