"""A task of one's own in one file: tell two interleaved spirals apart.

Put this file's folder on PYTHONPATH on every machine that takes part, then name the class:

    PYTHONPATH=examples gossamer up --peers 3 --task spirals:Spirals --method demo --steps 200
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from gossamer.algorithms import OptionValue
from gossamer.tasks import Evaluation, Indices, Staged, build_initialised, fingerprint

N_POINTS = 2000
N_TURNS = 1.5


class Spirals(Staged):
    """Points in the plane, an MLP 2-64-64-2; every fifth point is held out. As `Staged`, it can be cut."""

    name = "spirals"

    def __init__(self, *, options: Mapping[str, OptionValue], data: Path | None = None) -> None:
        self._options = dict(options)
        points, labels = make_spirals(noise=float(options.get("noise", 0.02)))
        is_held_out = torch.arange(len(labels)) % 5 == 4
        self._points, self._labels = points[~is_held_out], labels[~is_held_out]
        self._held_out_points, self._held_out_labels = points[is_held_out], labels[is_held_out]

    @property
    def n_train(self) -> int:
        return len(self._labels)

    def build_model(self, seed: int) -> nn.Module:
        def build() -> nn.Module:
            return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

        return build_initialised(build, seed)

    def inputs(self, indices: Indices) -> torch.Tensor:
        return self._points[torch.from_numpy(indices)]

    def targets(self, indices: Indices) -> torch.Tensor:
        return self._labels[torch.from_numpy(indices)]

    def output_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, targets)

    def held_out_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._held_out_points, self._held_out_labels

    def judge(self, outputs: torch.Tensor, targets: torch.Tensor) -> Evaluation:
        right = (outputs.argmax(1) == targets).float().mean()
        return Evaluation(loss=float(self.output_loss(outputs, targets)), accuracy=float(right))

    def fingerprint(self) -> str:
        # The points follow from the source and the options; their last bits may differ between machines.
        return fingerprint(sources=[Spirals], options=self._options, data=[])


def make_spirals(*, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Points, float32 [N_POINTS, 2], alternately of spiral 0 and 1, and which, int64 [N_POINTS]."""
    labels = np.arange(N_POINTS) % 2
    radius = np.linspace(0.1, 1.0, N_POINTS)
    angle = radius * N_TURNS * 2 * np.pi + labels * np.pi
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points += noise * np.random.Generator(np.random.Philox(key=0)).standard_normal(points.shape)
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))
