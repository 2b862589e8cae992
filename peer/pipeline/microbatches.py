"""What travels through a pipeline, and how it is checked when it comes from outside."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...protocol.errors import BadTensor
from ...tasks import Cut, Staged, estimate_costs
from ..lent_generator import lent_generator


@dataclass(frozen=True, kw_only=True, order=True)
class MicrobatchId:
    """Names a microbatch for good, however often it is sent."""

    step: int
    """The global step that it counts for."""
    index: int
    """Its place in that step's global batch."""
    take: int = 0
    """How often it was begun anew from a boundary between stages: another route may give other last bits. Random
    layers draw the same in every take."""


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """What passes between two stages: [n, *shape]."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def check(self, tensor: Tensor, what: str) -> None:
        """Refuse a tensor that is not of this kind. Raises BadTensor."""
        if tensor.dtype != self.dtype or tuple(tensor.shape[1:]) != self.shape or not tensor.shape[0]:
            raise BadTensor(
                f"{what} is {tensor.dtype} of shape {tuple(tensor.shape)}, expected {self.dtype} of (n, "
                f"{', '.join(map(str, self.shape))}): both sides must train the same task, cut alike"
            )


@dataclass(frozen=True, kw_only=True)
class Boundaries:
    """What a stage takes in and gives out."""

    input: Boundary
    output: Boundary
    """Of the last stage: the targets."""


def boundaries(task: Staged, cut: Cut) -> tuple[Boundaries, ...]:
    """For each stage of a cut."""
    first = np.zeros(1, np.int64)
    kinds = [_kind(task.inputs(first))]
    costs = estimate_costs(task)
    kinds += [Boundary(shape=costs[start - 1].output_shape, dtype=torch.float32) for start in cut.starts[1:]]
    kinds.append(_kind(task.targets(first)))
    return tuple(Boundaries(input=a, output=b) for a, b in pairwise(kinds))


def content_hash(*tensors: Tensor) -> bytes:
    """SHA-256 over shapes and elements: tells a repeated message from another one under the same name."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.digest()


def seeded(run_seed: int, stage: int, microbatch: MicrobatchId) -> AbstractContextManager[None]:
    """Random layers draw what follows from these numbers."""
    return lent_generator(f"gossamer/stage/v1 {run_seed} {stage} {microbatch.step} {microbatch.index}")


def _kind(example: Tensor) -> Boundary:
    return Boundary(shape=tuple(example.shape[1:]), dtype=example.dtype)
