"""A model of equal stages by its sizes and costs only: what passes between stages has its size, and each pass its time.

For the daemons as they are, with the methods of `simulator/analytic.py`. The weights are few, so a newcomer's download
and a step's arithmetic are cheaper than in truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gossamer.algorithms import OptionValue
from gossamer.algorithms.options import read_options, require
from gossamer.simulator.analytic import N_HELD
from gossamer.tasks import Evaluation, Indices, Staged


@dataclass(frozen=True, kw_only=True)
class ChainOptions:
    """Options of `SizedChain`."""

    n_layers: int = 8
    flops_per_sample: float = 1e6
    """Forward and backward of the whole chain."""
    activation_elements: int = 64
    """Of a sample, between two layers."""

    def __post_init__(self) -> None:
        require(1 <= self.n_layers <= 1024, "n_layers", "between 1 and 1024", self.n_layers)
        require(0 <= self.flops_per_sample <= 1e18, "flops_per_sample", "between 0 and 1e18", self.flops_per_sample)
        n_elements = self.activation_elements
        require(1 <= n_elements <= 1 << 20, "activation_elements", "between 1 and 2^20", n_elements)


class SizedChain(Staged):
    """A chain of a size. Its loss falls with the updates made, and shows nothing else."""

    name = f"{__name__}:SizedChain"

    def __init__(self, *, options: Mapping[str, OptionValue], data: Path | None = None) -> None:
        self._options = read_options(ChainOptions, options, owner="task 'sized chain'")

    @property
    def n_train(self) -> int:
        return 1 << 30

    def build_model(self, seed: int) -> nn.Module:
        return nn.Sequential(*(_Link() for _ in range(self._options.n_layers)))

    def inputs(self, indices: Indices) -> torch.Tensor:
        return torch.zeros(len(indices), self._options.activation_elements)

    def targets(self, indices: Indices) -> torch.Tensor:
        return torch.zeros(len(indices), 1)

    def output_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 1.0 / (1.0 + outputs.mean())

    def held_out_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1, self._options.activation_elements), torch.zeros(1, 1)

    def judge(self, outputs: torch.Tensor, targets: torch.Tensor) -> Evaluation:
        return Evaluation(loss=float(self.output_loss(outputs, targets)))

    def fingerprint(self) -> str:
        return hashlib.sha256(f"sized chain {self._options}".encode()).hexdigest()

    def flops_per_sample(self) -> float:
        return self._options.flops_per_sample


class _Link(nn.Module):
    """Adds the mean of its weights: both have a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.held = nn.Parameter(torch.zeros(N_HELD))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.held.mean()
