"""A task that costs almost nothing to train: what is left of a step is the cost of agreeing on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from gossamer.tasks import Evaluation, Indices, Task


class Weightless(Task):
    """`n_params` parameters in square matrices; the gradient is a fixed pseudo-random vector."""

    name = "benchmarks.weightless:Weightless"

    def __init__(self, *, options: Mapping[str, bool | int | float | str], data: Path | None = None) -> None:
        self.n_params = n_params = int(options.get("n_params", 1_000_000))
        side = 1000
        rows = max(1, n_params // side)
        self.slope = torch.randn(rows, side, generator=torch.Generator().manual_seed(1))

    @property
    def n_train(self) -> int:
        return 1 << 20

    def build_model(self, seed: int) -> torch.nn.Module:
        model = torch.nn.Linear(1000, self.slope.shape[0], bias=False)
        with torch.no_grad():
            model.weight.zero_()
        return model

    def loss(self, model: torch.nn.Module, indices: Indices) -> torch.Tensor:
        scale = 1.0 + float(indices[0]) / self.n_train
        weight = next(iter(model.parameters()))
        return (weight * (self.slope * scale)).sum() / weight.numel()

    def evaluate(self, model: torch.nn.Module) -> Evaluation:
        return Evaluation(loss=0.0)

    def fingerprint(self) -> str:
        return hashlib.sha256(f"weightless {self.n_params}".encode()).hexdigest()
