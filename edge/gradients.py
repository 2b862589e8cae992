"""Backpropagation with torch, for devices that have it: the only file of the edge that knows of torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ..algorithms.forward import Batch, Network
from ..algorithms.forward.batch import refuse_misfit
from ..algorithms.forward.network import Conv, Flatten, GlobalAveragePool, Hardswish, Linear, MaxPool, ReLU

F32 = npt.NDArray[np.float32]


class TorchGradients:
    """Loss and gradient of a network at flat float32 weights, on one thread."""

    name = "torch"

    def __init__(self, network: Network) -> None:
        self.network = network

    def loss_and_gradient(self, weights: F32, batch: Batch) -> tuple[float, F32]:
        """Mean cross-entropy over the batch, and its gradient, float32 [n]. Raises BadNetwork."""
        refuse_misfit(self.network, weights, batch)
        flat = torch.from_numpy(weights.copy()).requires_grad_()
        loss = F.cross_entropy(self._logits(flat, torch.from_numpy(batch.inputs)), torch.from_numpy(batch.labels))
        (gradient,) = torch.autograd.grad(loss, flat)
        found: F32 = gradient.numpy()
        return float(loss.detach()), found

    def _logits(self, flat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        tensors = iter(flat[p.start : p.stop].view(p.shape) for p in self.network.parameters())
        for layer in self.network.layers:
            match layer:
                case Linear():
                    x = F.linear(x, next(tensors), next(tensors))
                case Conv():
                    x = F.conv2d(x, next(tensors), next(tensors), padding=layer.padding)
                case MaxPool():
                    x = F.max_pool2d(x, layer.size)
                case GlobalAveragePool():
                    x = x.mean(dim=(2, 3))
                case Flatten():
                    x = x.flatten(1)
                case ReLU():
                    x = F.relu(x)
                case Hardswish():
                    x = F.hardswish(x)
        return x


def use_one_thread() -> None:
    """For the whole process: called once, where it begins."""
    torch.set_num_threads(1)  # noqa: TID251 - this is for the entry point, which cannot import torch itself
