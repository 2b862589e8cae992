"""A momentum that lives in the DCT domain, tile by tile: what DeMo's method and its torch optimizer share.

On the CPU each tile goes through the fused kernels of `dct`: gradient to momentum in one pass, contributions to
parameter in another, and no array of the model's size comes into being. On other devices the transforms are matrix
products there (`dct_device`), and momentum and payloads stay with the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from . import dct, dct_device
from .method import F32
from .payload import Coefficients, PayloadFormat
from .robust.sparse import agreeing_weights, signs_of
from .sparse_sum import Combination, clip_weights
from .tiles import Shape, Tiling


class FrequencyMomentum:
    """The momentum of some tensors, and payloads of its largest coefficients.

    Args:
        size: side of a tile, at most 64.
        k: coefficients sent of a whole tile.
        value_bits: 32, 8 or 1.
    """

    def __init__(self, shapes: Sequence[Shape], *, size: int, k: int, value_bits: int) -> None:
        self.tiling = Tiling(shapes, size)
        self.format = PayloadFormat(self.tiling, size=size, k=k, value_bits=value_bits)
        self.tensor = torch.zeros(self.tiling.dim)
        """The tiled vector, float32 [dim]."""
        self._value_bits = value_bits
        self._parts = self.parts()
        self._blocks = [self.tiling.blocks_of(tensor) for tensor in range(len(shapes))]

    @property
    def array(self) -> F32:
        """The tiled vector as numpy, sharing memory."""
        array: F32 = self.tensor.numpy()
        return array

    def absorb(self, tensor: int, gradient: torch.Tensor | None, *, decay: float, rate: float) -> None:
        """momentum = decay * momentum + rate * DCT(gradient), for one tensor; None is zeros."""
        part = self._parts[tensor]
        if gradient is None:
            part.mul_(decay)
            return
        matrix = gradient.detach().to(torch.float32).reshape(self.tiling.matrices[tensor])
        if matrix.device.type != "cpu":
            part.mul_(decay).add_(dct_device.forward(matrix, self._blocks[tensor]).cpu(), alpha=rate)
            return
        array = matrix.contiguous().numpy()
        for block in self._blocks[tensor]:
            dct.absorb(block, array, self.array, decay=decay, rate=rate)

    def parts(self) -> list[torch.Tensor]:
        """Each tensor's part of the tiled vector, sharing its memory."""
        return [torch.from_numpy(part) for part in self.tiling.parts(self.array)]

    def encode(self) -> bytes:
        return self.format.encode(self.array)

    def combine(self, contributions: Sequence[Coefficients], rule: str) -> tuple[Combination, tuple[int, ...]]:
        """The group's coefficients by one of COMBINES, and the indices of who was left out of them."""
        n_tensors = len(self.tiling.matrices)
        if rule == "senders":
            return Combination.mean_of_senders(contributions, self.tiling), ()
        if rule == "vote":
            ones = np.ones((len(contributions), n_tensors), np.float32)
            return Combination.of(signs_of(contributions), ones, self.tiling), ()
        if rule == "reject":
            weights, dropped = agreeing_weights(contributions, self.tiling.dim, n_tensors)
            return Combination.of(contributions, weights, self.tiling), dropped
        return Combination.of(contributions, clip_weights(contributions, n_tensors), self.tiling), ()

    @torch.no_grad()
    def descend(
        self, tensor: int, parameter: torch.Tensor, combination: Combination, *, lr: float, weight_decay: float
    ) -> None:
        """p = (1 - lr * weight_decay) * p - lr * sign(IDCT(combination)), for one tensor."""
        keep = 1 - lr * weight_decay
        if parameter.device.type != "cpu":
            total = torch.from_numpy(combination.total(self._blocks[tensor]))
            update = dct_device.inverse(total.to(parameter.device), self._blocks[tensor]).sign_()
            parameter.mul_(keep).sub_(update.reshape(parameter.shape), alpha=lr)
            return
        if parameter.dtype != torch.float32 or not parameter.is_contiguous():
            copy = parameter.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
            self.descend(tensor, copy, combination, lr=lr, weight_decay=weight_decay)
            parameter.copy_(copy)
            return
        matrix = parameter.detach().numpy().reshape(self.tiling.matrices[tensor])
        for block in self._blocks[tensor]:
            dct.descend(block, matrix, combination, keep=keep, rate=lr)

    def retire(self, sent: Coefficients) -> None:
        """Take out what was sent: with 1 bit the coefficients that the signs stood for, else the decoded values."""
        if self._value_bits == 1:
            self.array[sent.positions] = 0
        else:
            self.array[sent.positions] -= sent.values
