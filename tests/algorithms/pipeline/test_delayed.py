"""Momentum SGD with late gradients, against the equations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.algorithms import BadOption, Schedule
from gossamer.algorithms.descent import Descent
from gossamer.algorithms.optimizers import OptimizerOptions
from gossamer.algorithms.pipeline.delayed import DelayedOptions, DelayedSGD, compensation

LR = 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("delay", [0, 1, 3, 7])
def test_a_late_impulse_with_spike_compensation_ends_where_an_undelayed_one_does(momentum: float, delay: int) -> None:
    undelayed = _response(DelayedOptions(momentum=momentum), arrives=0, delay=0)

    compensated = _response(DelayedOptions(momentum=momentum, compensate=True), arrives=delay, delay=delay)

    for t in range(delay, 20):
        assert compensated[t] == pytest.approx(undelayed[t], abs=1e-12)
    assert all(compensated[t] == 0 for t in range(delay))


def test_without_compensation_the_late_impulse_stays_behind() -> None:
    undelayed = _response(DelayedOptions(), arrives=0, delay=0)

    late = _response(DelayedOptions(), arrives=3, delay=3)

    assert late[3] == pytest.approx(-LR)
    assert abs(late[10] - undelayed[10]) > LR


def test_shares_of_velocity_and_gradient() -> None:
    assert compensation(0.9, 0) == (1.0, 0.0)
    assert compensation(0.5, 2) == (0.25, 1.5)


def test_prediction_goes_on_along_the_velocity() -> None:
    w = torch.tensor([1.0], dtype=torch.float64)
    optimizer = DelayedSGD({"w": w}, DelayedOptions(momentum=0.5, predict=True))
    optimizer.step({"w": torch.tensor([2.0], dtype=torch.float64)}, lr=LR, delay=0)

    predicted = optimizer.predicted(lr=LR, delay=3)

    # v = 2, w = 1 - .1 * 2 = .8, and three more steps of .1 * 2.
    assert float(w) == pytest.approx(0.8)
    assert float(predicted["w"]) == pytest.approx(0.2)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_must_forget(momentum: float) -> None:
    with pytest.raises(BadOption, match="momentum"):
        DelayedOptions(momentum=momentum)


def _response(options: DelayedOptions, *, arrives: int, delay: int) -> list[float]:
    """The weight after each of 20 updates, when a gradient of 1 comes at one of them."""
    w = torch.zeros(1, dtype=torch.float64)
    optimizer = DelayedSGD({"w": w}, options)
    trace = []
    for t in range(20):
        gradient: Tensor = torch.full((1,), float(t == arrives), dtype=torch.float64)
        optimizer.step({"w": gradient}, lr=LR, delay=delay)
        trace.append(float(w))
    return trace


def test_the_flat_optimizer_of_allreduce_makes_the_same_steps() -> None:
    generator = torch.Generator().manual_seed(0)
    w, flat = torch.zeros(5), torch.nn.Parameter(torch.zeros(5))
    late = DelayedSGD({"w": w}, DelayedOptions(momentum=0.5, compensate=True))
    descent = Descent({"w": flat}, OptimizerOptions(optimizer="sgd", momentum=0.5, clip=0.0), Schedule(lr=LR))
    assert descent.momentum is not None

    for step, delay in enumerate((0, 1, 2, 0, 1)):
        gradient = torch.randn(5, generator=generator)
        late.step({"w": gradient}, lr=LR, delay=delay)
        descent.momentum.delay = delay
        descent.update(gradient.clone(), step)

    torch.testing.assert_close(flat.detach(), w, rtol=0, atol=1e-6)
    torch.testing.assert_close(descent.predicted(5, 3)["w"], late.predicted(lr=LR, delay=3)["w"], rtol=0, atol=1e-6)
