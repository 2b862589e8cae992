"""What is trained: a model, its data, its loss and its metric.

A task is code that each machine's owner installed; a run's manifest names it and pins its `fingerprint`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from ..algorithms.options import OptionValue

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Result on held-out samples."""

    loss: float
    """Mean loss per sample (chars: nats per character)."""
    accuracy: float | None = None
    """Fraction right, where that means something."""


class Task(ABC):
    """Built once per process by `tasks.build_task`, which calls the class with `options=...` and `data=...`."""

    name: ClassVar[str]
    for_devices: ClassVar[Mapping[str, OptionValue]] = {}
    """Options that a run takes, where its owner names none, when devices that only do forward passes take part."""

    @property
    @abstractmethod
    def n_train(self) -> int:
        """Number of training samples; sample indices are 0..n_train-1."""

    @abstractmethod
    def build_model(self, seed: int) -> torch.nn.Module:
        """A fresh model whose weights follow from the seed alone (own torch.Generator, float32)."""

    @abstractmethod
    def loss(self, model: torch.nn.Module, indices: Indices) -> torch.Tensor:
        """Mean loss over these training samples, differentiable. The same indices give the same loss."""

    @abstractmethod
    def evaluate(self, model: torch.nn.Module) -> Evaluation:
        """Loss on the held-out samples, without gradients, the same samples each time."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the task's source, its options and its data."""

    def flops_per_sample(self) -> float:
        """Forward and backward, roughly; the simulator's cost model scales with it."""
        return 0.0

    def sample_text(self, model: torch.nn.Module, *, seed: int, n_chars: int = 300) -> str | None:
        """Text that the model writes, for tasks where a person would want to read it."""
        return None
