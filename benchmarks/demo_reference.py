"""DeMo step by step as its paper's published code does it, in plain torch: what the kernels are measured against.

Written from the definition (arXiv:2411.19870, algorithm 1, and its repository bloc97/DeMo): the momentum is kept as it
is, transformed as a whole by einsum with the DCT's matrix, and what was sent is decoded into dense arrays, once to
take it out of the momentum and once for the update. Indices travel as int64 here and as float32 the values.
"""

from __future__ import annotations

import math

import torch


class DemoReference:
    """One 2-D parameter whose sides are multiples of the chunk.

    Args:
        parameter: float32 [rows, columns], updated in place.
        beta, k, chunk: the paper's compression_decay, compression_topk and compression_chunk.
    """

    def __init__(self, parameter: torch.Tensor, *, lr: float, beta: float, k: int, chunk: int) -> None:
        self.parameter = parameter
        self.delta = torch.zeros_like(parameter)
        self._lr, self._beta, self._k, self._chunk = lr, beta, k, chunk
        self._basis = dct_matrix(chunk)

    def encode(self, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices and values of the largest coefficients; what they stand for leaves the momentum."""
        self.delta.mul_(self._beta).add_(gradient, alpha=self._lr)
        coefficients = self._transform(self.delta)
        flat = coefficients.flatten(2)
        indices = torch.topk(flat.abs(), k=self._k, dim=-1, largest=True, sorted=False).indices
        values = torch.gather(flat, dim=-1, index=indices)
        self.delta.sub_(self._inverse(self._scatter(indices, values)))
        return indices, values

    def decode(self, gathered: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Average what was gathered over its senders, and take a step against the sign of its inverse transform."""
        indices = torch.cat([indices for indices, _ in gathered], dim=-1)
        values = torch.cat([values for _, values in gathered], dim=-1)
        update = self._inverse(self._scatter(indices, values)).sign_()
        self.parameter.sub_(update, alpha=self._lr)

    def _transform(self, matrix: torch.Tensor) -> torch.Tensor:
        """[down, across, chunk, chunk]."""
        rows, columns = matrix.shape
        chunked = matrix.view(rows // self._chunk, self._chunk, columns // self._chunk, self._chunk)
        return torch.einsum("yhxw,hb,wd->yxbd", chunked, self._basis.T, self._basis.T)

    def _inverse(self, coefficients: torch.Tensor) -> torch.Tensor:
        chunked = torch.einsum("yxbd,bh,dw->yhxw", coefficients, self._basis, self._basis)
        return chunked.reshape(self.delta.shape)

    def _scatter(self, indices: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        down, across = indices.shape[:2]
        dense = torch.zeros(down, across, self._chunk**2)
        dense.scatter_reduce_(dim=-1, index=indices, src=values, reduce="mean", include_self=False)
        return dense.view(down, across, self._chunk, self._chunk)


def dct_matrix(n: int) -> torch.Tensor:
    """The orthonormal DCT-II, float32 [n, n]: row k is the k-th cosine."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None, :]
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix.float()
