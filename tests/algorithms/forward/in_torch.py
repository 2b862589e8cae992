"""The same networks in torch: an independent forward pass, and backpropagation to compare with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from gossamer.algorithms.forward import Batch, Network
from gossamer.algorithms.forward.network import (
    Conv,
    Flatten,
    GlobalAveragePool,
    Hardswish,
    Layer,
    Linear,
    MaxPool,
    ReLU,
)

F32 = npt.NDArray[np.float32]


def torch_network(network: Network, weights: F32) -> nn.Sequential:
    model = nn.Sequential(*(_module(layer) for layer in network.layers))
    nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), model.parameters())
    return model


def torch_logits(network: Network, weights: F32, inputs: F32) -> F32:
    with torch.no_grad():
        logits: F32 = torch_network(network, weights)(torch.from_numpy(inputs)).numpy()
    return logits


def torch_gradient(network: Network, weights: F32, batch: Batch) -> F32:
    model = torch_network(network, weights)
    F.cross_entropy(model(torch.from_numpy(batch.inputs)), torch.from_numpy(batch.labels)).backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad.numpy().reshape(-1) for parameter in model.parameters() if parameter.grad is not None]
    flat: F32 = np.concatenate(gradients)
    return flat


def _module(layer: Layer) -> nn.Module:
    module: nn.Module
    match layer:
        case Linear():
            module = nn.Linear(layer.n_in, layer.n_out)
        case Conv():
            module = nn.Conv2d(layer.n_in, layer.n_out, layer.kernel, padding=layer.padding)
        case MaxPool():
            module = nn.MaxPool2d(layer.size)
        case GlobalAveragePool():
            module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Flatten() | ReLU() | Hardswish():
            module = {Flatten: nn.Flatten, ReLU: nn.ReLU, Hardswish: nn.Hardswish}[type(layer)]()
    return module
