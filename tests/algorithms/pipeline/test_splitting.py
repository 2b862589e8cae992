"""Backward passes in two parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gossamer.algorithms.pipeline.splitting import Split, split_backward, whole_backward
from gossamer.tasks.gpt import Shape, build_gpt
from gossamer.tasks.operations import OperationCounter

Build = Callable[[], nn.Module]


def _blocks() -> nn.Module:
    model = build_gpt(Shape(n_vocabulary=9, context=8, d_model=16, n_layers=2, n_heads=2), 0)
    assert isinstance(model.blocks, nn.ModuleList)
    return nn.Sequential(*model.blocks)


def _convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv1d(8, 8, 3, padding=1), nn.GELU(), nn.BatchNorm1d(8), nn.Flatten(), nn.Linear(128, 3))


def _repeating() -> nn.Module:
    layer = nn.Linear(16, 16)
    return nn.Sequential(layer, nn.Tanh(), layer)


def _tied() -> nn.Module:
    layer = nn.Linear(16, 16, bias=False)
    return nn.Sequential(layer, nn.Tanh(), layer)


class _Normed(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return torch.div(weight, weight.norm())


def _derived() -> nn.Module:
    """A weight that is computed from another one, which it depends on in two ways."""
    layer = nn.Linear(16, 16)
    nn.utils.parametrize.register_parametrization(layer, "weight", _Normed())
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(16, 16))


@pytest.mark.parametrize("build", [_blocks, _convolutions, _derived, _repeating, _tied])
def test_both_parts_give_the_gradients_of_one_whole_pass(build: Build) -> None:
    module, x, gradient = _example(build)
    expected_x, expected = whole_backward(module(x), gradient, x, dict(module.named_parameters()))

    split = split_backward(module(x), gradient, x, dict(module.named_parameters()))
    found = split.weight_gradients()

    assert expected_x is not None
    torch.testing.assert_close(split.input_gradient, expected_x, rtol=1e-6, atol=1e-6)
    assert list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("build", [_blocks, _convolutions, _derived])
def test_both_parts_multiply_as_often_as_one_whole_pass(build: Build) -> None:
    module, x, gradient = _example(build)
    parameters = dict(module.named_parameters())
    outputs = [module(x), module(x)]
    whole = _counted(lambda: whole_backward(outputs[0], gradient, x, parameters))

    splits: list[Split] = []
    first = _counted(lambda: splits.append(split_backward(outputs[1], gradient, x, parameters)))
    second = _counted(splits[0].weight_gradients)

    assert first + second == whole
    assert 0 < second < whole


@pytest.mark.parametrize("build", [_repeating, _tied])
def test_a_weight_that_is_used_twice_is_not_split_off(build: Build) -> None:
    module, x, gradient = _example(build)
    split = split_backward(module(x), gradient, x, dict(module.named_parameters()))

    assert _counted(split.weight_gradients) == 0


def test_a_parameter_without_influence_has_no_gradient() -> None:
    x, used, unused = (torch.ones(2, requires_grad=True) for _ in range(3))

    split = split_backward((x * used).sum(), None, x, {"unused": unused, "used": used})

    assert list(split.weight_gradients()) == ["used"]


def _example(build: Build) -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    module = build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    x = torch.randn(5, 8, 16, generator=generator).requires_grad_()
    out: Tensor = module(x)
    return module, x, torch.randn(out.shape, generator=generator)


def _counted(work: Callable[[], object]) -> int:
    with OperationCounter() as counter:
        work()
    return counter.n_products
