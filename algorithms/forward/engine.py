"""What evaluates a network on a device: the loss at given weights, and at many perturbed ones."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from .batch import Batch, refuse_misfit
from .cross_entropy import cross_entropy
from .network import Network
from .stream import Directions

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class Engine(ABC):
    """Forward passes of one network in float32. Weights are a flat float32 vector and never changed."""

    name: str
    network: Network
    n_forwards: int = 0
    """Forward passes of the whole batch so far."""

    @abstractmethod
    def logits(self, weights: F32, inputs: F32) -> F32:
        """float32 [n_samples, n_classes] for float32 weights [n] and inputs [n_samples, ...]."""

    @abstractmethod
    def perturbed_losses(self, weights: F32, batch: Batch, directions: Directions, *, ks: range, step: float) -> F64:
        """Loss at weights + step * z_k for every k in ks, float64 [len(ks)].

        Raises: BadNetwork.
        """

    def loss(self, weights: F32, batch: Batch) -> float:
        """Mean cross-entropy over the batch, in nats.

        Raises: BadNetwork.
        """
        refuse_misfit(self.network, weights, batch)
        return float(cross_entropy(self.logits(weights, batch.inputs), batch.labels))

    def accuracy(self, weights: F32, batch: Batch) -> float:
        """Fraction of the batch whose largest logit is the label's.

        Raises: BadNetwork.
        """
        refuse_misfit(self.network, weights, batch)
        return float(np.mean(self.logits(weights, batch.inputs).argmax(axis=-1) == batch.labels))
