"""First weights of a network: made once by the run's owner and sent, since other machines may draw other numbers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .network import Network

F32 = npt.NDArray[np.float32]


def initial_weights(network: Network, rng: np.random.Generator) -> F32:
    """He's normal weights (2015, arXiv:1502.01852) and zero biases, float32 [n_parameters]."""
    weights = np.zeros(network.n_parameters, np.float32)
    for parameter in network.parameters():
        if len(parameter.shape) > 1:
            scale = math.sqrt(2 / math.prod(parameter.shape[1:]))
            weights[parameter.start : parameter.stop] = scale * rng.standard_normal(parameter.size)
    return weights
