"""Momentum SGD with late gradients, against the equations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.algorithms import BadOption
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
