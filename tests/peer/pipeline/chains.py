"""Small pipelines for tests: a chain with dropout, and passes through all of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gossamer.algorithms import OptionValue
from gossamer.peer.pipeline.microbatches import MicrobatchId, boundaries
from gossamer.peer.pipeline.stage import StageReplica
from gossamer.tasks import Cut, Indices, Staged, build_stage, global_batch


class Chain(Staged):
    """Four linear layers, one with dropout after it."""

    name = "chain"

    def __init__(self, *, options: Mapping[str, OptionValue] | None = None, data: Path | None = None) -> None:
        self._p = float((options or {}).get("dropout", 0.0))
        self._x = torch.linspace(-1, 1, 64 * 4).reshape(64, 4).sin()
        self._y = torch.arange(64) % 3

    @property
    def n_train(self) -> int:
        return 64

    def build_model(self, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(4, 8),
            nn.Sequential(nn.Tanh(), nn.Dropout(self._p)),
            nn.Linear(8, 8),
            nn.Tanh(),
            nn.Linear(8, 8),
            nn.Linear(8, 3),
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.5, generator=generator)
        return model

    def inputs(self, indices: Indices) -> Tensor:
        return self._x[torch.from_numpy(indices)]

    def targets(self, indices: Indices) -> Tensor:
        return self._y[torch.from_numpy(indices)]

    def output_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def held_out_batch(self) -> tuple[Tensor, Tensor]:
        return self._x, self._y

    def fingerprint(self) -> str:
        return "0" * 64


def replicas(
    task: Staged, n_stages: int, *, held_max: int = 64, run_seed: int = 9, starts: Sequence[int] | None = None
) -> list[StageReplica]:
    """One replica of each stage, with the run's initial weights."""
    n_layers = len(task.layers(task.build_skeleton()))
    cut = Cut(starts=tuple(starts or (i * n_layers // n_stages for i in range(n_stages))), n_layers=n_layers)
    return [
        StageReplica(build_stage(task, 0, cut, index), kinds, run_seed=run_seed, held_max=held_max)
        for index, kinds in enumerate(boundaries(task, cut))
    ]


def batches(task: Staged, n_microbatches: int, n_samples: int) -> list[Indices]:
    """The samples of each microbatch of the first global batch."""
    every = global_batch(seed=0, round_index=0, size=n_microbatches * n_samples, n_train=task.n_train)
    return list(every.reshape(n_microbatches, n_samples))


def run_microbatch(
    task: Staged, route: Sequence[StageReplica], index: int, batch: Indices, *, defer_weights: bool = False
) -> float:
    """Forward through all stages but the last, then backward through all. The loss."""
    name, version = MicrobatchId(step=route[0].version, index=index), route[0].version
    xs = [task.inputs(batch)]
    for replica in route[:-1]:
        xs.append(replica.forward(name, version, xs[-1]))
    arrived, loss = task.targets(batch), 0.0
    for replica, x in zip(reversed(route), reversed(xs), strict=True):
        passed = replica.backward(name, version, x, arrived, defer_weights=defer_weights)
        loss = passed.loss if passed.loss is not None else loss
        if passed.input_gradient is not None:
            arrived = passed.input_gradient
    return loss
