"""DeMo as an optimizer of torch: the method's update, and an optimizer's manners. Two processes: tests/examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gossamer.algorithms import BadGradient, BadOption, DeMo, OptionValue
from gossamer.algorithms.tiles import Shape

from .group import Replica, exchange, gradients_of, parameters_of

SHAPES: list[Shape] = [(130, 67), (7,), (), (0, 5), (6, 3, 5, 5)]


def _parameters(shapes: list[Shape] = SHAPES) -> list[torch.Tensor]:
    return [tensor.requires_grad_() for tensor in parameters_of(shapes).values()]


def _step(optimizer: DeMo, parameters: list[torch.Tensor], seed: int) -> None:
    shapes = [tuple(parameter.shape) for parameter in parameters]
    for parameter, gradient in zip(parameters, gradients_of(shapes, seed).values(), strict=True):
        parameter.grad = gradient
    optimizer.step()


def _flat(parameters: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


@pytest.mark.parametrize("value_bits", [1, 8, 32])
@pytest.mark.parametrize("combine", ["normclip", "senders"])
def test_it_makes_the_methods_update(value_bits: int, combine: str) -> None:
    options: dict[str, OptionValue] = {
        "beta": 0.9,
        "clip": 0.0,
        "value_bits": value_bits,
        "combine": combine,
        "weight_decay": 0.1,
    }
    replica, parameters = Replica("demo", SHAPES, options), _parameters()
    optimizer = DeMo(
        parameters, lr=0.1, compression_decay=0.9, weight_decay=0.1, value_bits=value_bits, combine=combine
    )

    for step in range(3):
        replica.method.accumulate(gradients_of(SHAPES, seed=step), 1)
        exchange([replica], [0], step=step)
        _step(optimizer, parameters, seed=step)

    assert torch.equal(_flat(parameters), replica.flat())
    assert 0 < optimizer.data_transmit <= replica.method.payload_bytes_max()
    assert optimizer.data_receive == 0


def test_groups_have_rates_of_their_own() -> None:
    parameters = _parameters([(64, 64), (64, 64)])
    groups: list[dict[str, Any]] = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.5}]
    optimizer = DeMo(groups, lr=0.125, compression_topk=4096)
    before = [parameter.detach().clone() for parameter in parameters]

    _step(optimizer, parameters, seed=0)

    moved = [(a - b.detach()).abs() for a, b in zip(before, parameters, strict=True)]
    assert torch.allclose(moved[0], torch.tensor(0.125))
    assert torch.allclose(moved[1], torch.tensor(0.5))


def test_a_restored_optimizer_goes_on_bit_for_bit() -> None:
    parameters, others = _parameters(), _parameters()
    groups: list[dict[str, Any]] = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.5}]
    optimizer = DeMo(groups, lr=0.1, value_bits=8)
    _step(optimizer, parameters, seed=0)
    restored = DeMo([{"params": others[:2]}, {"params": others[2:]}], lr=7.0, value_bits=8)

    restored.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        for other, parameter in zip(others, parameters, strict=True):
            other.copy_(parameter)
    for seed in (1, 2):
        _step(optimizer, parameters, seed)
        _step(restored, others, seed)

    assert torch.equal(_flat(others), _flat(parameters))
    assert float(optimizer.state[parameters[0]]["residual"].norm()) > 0


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="4 elements for a parameter of 6"):
        DeMo(_parameters([(6,)])).load_state_dict(DeMo(_parameters([(4,)])).state_dict())


def test_a_missing_gradient_counts_as_zeros_and_a_frozen_parameter_stays() -> None:
    parameters = _parameters([(4,), (4,)])
    optimizer = DeMo(parameters, lr=0.1, weight_decay=0.5)
    parameters[1].requires_grad_(False)
    before = [parameter.detach().clone() for parameter in parameters]

    optimizer.step()

    assert torch.allclose(parameters[0].detach(), before[0] * (1 - 0.1 * 0.5))
    assert torch.equal(parameters[1], before[1])


def test_the_closure_is_evaluated_with_gradients() -> None:
    (parameter,) = _parameters([(3, 3)])
    optimizer = DeMo([parameter], lr=0.01)

    def closure() -> float:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    losses = [optimizer.step(closure) for _ in range(5)]

    assert losses == sorted(losses, reverse=True)  # type: ignore[type-var]


def test_parameters_may_be_half_precision_or_not_contiguous() -> None:
    half = torch.ones(64, 64, dtype=torch.bfloat16, requires_grad=True)
    transposed = torch.ones(3, 64).T.requires_grad_()
    optimizer = DeMo([half, transposed], lr=0.25, compression_topk=4096)
    half.grad, transposed.grad = torch.ones_like(half), -torch.ones_like(transposed)

    optimizer.step()

    assert torch.equal(half.detach(), torch.full((64, 64), 0.75, dtype=torch.bfloat16))
    assert torch.equal(transposed.detach(), torch.full((64, 3), 1.25))


def test_a_gradient_that_is_not_finite_is_refused_and_changes_nothing() -> None:
    parameters = _parameters([(3,)])
    optimizer = DeMo(parameters)
    parameters[0].grad = torch.tensor([1.0, float("nan"), 0.0])
    before = _flat(parameters)

    with pytest.raises(BadGradient, match=r"ranks \[0\]"):
        optimizer.step()

    assert torch.equal(_flat(parameters), before)
    assert float(optimizer.state[parameters[0]]["residual"].norm()) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda p: DeMo(p, value_bits=4),
        lambda p: DeMo(p, combine="median"),
        lambda p: DeMo(p, compression_chunk=128),
        lambda p: DeMo(p, compression_topk=0),
    ],
)
def test_options_out_of_bounds_are_refused(make: Callable[[list[torch.Tensor]], DeMo]) -> None:
    with pytest.raises(BadOption):
        make(_parameters([(3,)]))
