"""The other side of bench_forward: the same networks in torch, as one would write them straight away."""

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
    """The network with these weights."""
    model = nn.Sequential(*(_module(layer) for layer in network.layers))
    nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), model.parameters())
    return model


@torch.no_grad()
def forward_passes(model: nn.Module, batch: Batch, n: int) -> None:
    """`n` forward passes and nothing else."""
    inputs = torch.from_numpy(batch.inputs)
    for _ in range(n):
        model(inputs)


@torch.no_grad()
def evaluations(model: nn.Module, batch: Batch, n: int) -> None:
    """`n` times: perturb by random signs, forward pass, loss, take the perturbation back (MeZO's way)."""
    inputs, labels = torch.from_numpy(batch.inputs), torch.from_numpy(batch.labels)
    generator = torch.Generator()
    for k in range(n):
        for side in (1e-3, -1e-3):
            generator.manual_seed(k)
            for parameter in model.parameters():
                signs = torch.randint(0, 2, parameter.shape, generator=generator, dtype=torch.float32)
                parameter.add_(signs.mul_(2).sub_(1), alpha=side)
            if side > 0:
                float(F.cross_entropy(model(inputs), labels))


def exact_gradient(network: Network, weights: F32, batch: Batch) -> F32:
    """Of the mean loss, by backpropagation, float32 [n_parameters]."""
    model = torch_network(network, weights)
    F.cross_entropy(model(torch.from_numpy(batch.inputs)), torch.from_numpy(batch.labels)).backward()  # type: ignore[no-untyped-call]
    return np.concatenate(
        [parameter.grad.numpy().ravel() for parameter in model.parameters() if parameter.grad is not None]
    )


def train_by_adam(
    network: Network, weights: F32, batch: Batch, *, n_steps: int, lr: float, seed: int, batch_size: int = 64
) -> F32:
    """Weights after so many steps of Adam by backpropagation."""
    model, rng = torch_network(network, weights), np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(n_steps):
        chosen = rng.integers(0, len(batch), batch_size)
        optimizer.zero_grad()
        logits = model(torch.from_numpy(batch.inputs[chosen]))
        F.cross_entropy(logits, torch.from_numpy(batch.labels[chosen])).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    trained: F32 = nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()
    return trained


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
