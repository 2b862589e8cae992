"""BatchNorm's running statistics: no part of the agreed state, and yet the same on every replica."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gossamer.peer.buffers import Buffers
from gossamer.tasks import Evaluation, Indices, Task, build_initialised


class Normed(Task):
    """A line through a batch norm, on samples with mean 3 and deviation 2."""

    name = "tests:Normed"
    n_train = 4096

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = 3 + 2 * torch.randn(4096, 1, generator=generator)

    def build_model(self, seed: int) -> torch.nn.Module:
        return build_initialised(lambda: torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 1)), seed)

    def loss(self, model: torch.nn.Module, indices: Indices) -> torch.Tensor:
        return F.mse_loss(model(self.inputs[torch.from_numpy(indices)]), torch.zeros(len(indices), 1))

    def evaluate(self, model: torch.nn.Module) -> Evaluation:
        return Evaluation(loss=float(self.loss(model, np.arange(64))))

    def fingerprint(self) -> str:
        return "0" * 64


def _trained_on(task: Normed, first: int) -> tuple[torch.nn.Module, Buffers]:
    model = task.build_model(0)
    buffers = Buffers(model)
    for step in range(5):
        task.loss(model, np.arange(first + step, first + step + 16))
    return model, buffers


def test_what_training_does_to_buffers_is_undone() -> None:
    model, buffers = _trained_on(Normed(), 0)
    moved = model.state_dict()["0.running_mean"].clone()

    buffers.restore()

    assert float(moved) != 0
    assert float(model.state_dict()["0.running_mean"]) == 0
    assert int(model.state_dict()["0.num_batches_tracked"]) == 0


def test_equal_parameters_get_equal_statistics_whatever_they_were_trained_on() -> None:
    task = Normed()
    one, other = (_trained_on(task, first) for first in (0, 1000))

    for _, buffers in (one, other):
        buffers.estimate(task, seed=7, batch_size=256)

    statistics = [{name: t for name, t in model.state_dict().items() if "running" in name} for model, _ in (one, other)]
    assert float(statistics[0]["0.running_mean"]) == pytest.approx(3, abs=0.2)
    assert float(statistics[0]["0.running_var"]) == pytest.approx(4, abs=0.4)
    assert all(torch.equal(statistics[0][name], statistics[1][name]) for name in statistics[0])


def test_a_model_without_buffers_is_left_alone() -> None:
    task = Normed()
    model = torch.nn.Linear(1, 1)

    buffers = Buffers(model)
    buffers.estimate(task, seed=0, batch_size=4)

    assert buffers.tensors() == {}
