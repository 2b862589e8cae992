"""Models cut into stages."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer.algorithms import OptionValue
from gossamer.tasks import (
    CannotCut,
    Cut,
    Indices,
    Stage,
    Staged,
    Task,
    assemble,
    build_stage,
    build_task,
    cut_by_cost,
    estimate_costs,
    measure_costs,
    owned_names,
)

SMALL = {"d_model": 32, "n_layers": 4, "n_heads": 2, "context": 32}
BATCH = np.array([0, 7, 1000])


class Repeating(Staged):
    """A chain in which one layer comes twice, and that is built without gossamer's help."""

    name = "repeating"

    def __init__(self, *, options: Mapping[str, OptionValue], data: Path | None = None) -> None:
        self._x = torch.linspace(-1, 1, 32).reshape(8, 4)

    @property
    def n_train(self) -> int:
        return 8

    def build_model(self, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        twice = nn.Linear(4, 4)
        model = nn.Sequential(twice, nn.Sequential(nn.Tanh(), nn.Linear(4, 4)), twice, nn.Linear(4, 1))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(generator=generator)
        return model

    def inputs(self, indices: Indices) -> Tensor:
        return self._x[torch.from_numpy(indices)]

    def targets(self, indices: Indices) -> Tensor:
        return self.inputs(indices).sum(1, keepdim=True)

    def output_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()

    def held_out_batch(self) -> tuple[Tensor, Tensor]:
        return self._x, self._x.sum(1, keepdim=True)

    def fingerprint(self) -> str:
        return "0" * 64


@pytest.fixture(scope="module")
def chars() -> Staged:
    return _staged(build_task("chars", SMALL))


@pytest.mark.parametrize("n_stages", [1, 2, 3, 6])
def test_gradients_through_any_cut_are_those_of_the_whole_model(chars: Staged, n_stages: int) -> None:
    stages = _stages(chars, cut_by_cost(chars, n_stages))

    gradients = _gradients_by_stages(chars, stages, BATCH)

    _assert_equal_to_whole(chars, gradients, BATCH)


@pytest.mark.parametrize("starts", [(0,), (0, 1), (0, 1, 2, 3, 4), (0, 2, 4)])
def test_a_layer_that_comes_twice_is_updated_by_one_stage_only(starts: tuple[int, ...]) -> None:
    task = Repeating(options={})
    stages = _stages(task, Cut(starts=starts, n_layers=5))

    gradients = _gradients_by_stages(task, stages, np.arange(8))

    _assert_equal_to_whole(task, gradients, np.arange(8))


@pytest.mark.parametrize("n_stages", [1, 2, 3, 6])
def test_stages_own_together_exactly_the_whole_model_with_its_initial_bits(chars: Staged, n_stages: int) -> None:
    whole = dict(chars.build_model(5).named_parameters())
    cut = cut_by_cost(chars, n_stages)

    stages = [build_stage(chars, 5, cut, index) for index in range(n_stages)]

    parts = [dict(stage.owned) for stage in stages]
    tensors = assemble(parts, list(whole))
    assert list(tensors) == list(whole)
    assert all(torch.equal(tensors[name], whole[name]) for name in whole)
    assert owned_names(chars, cut) == tuple(tuple(part) for part in parts)
    # What is borrowed begins with the owner's bits, too.
    assert all(torch.equal(stage.borrowed[name], whole[name]) for stage in stages for name in stage.borrowed)


def test_the_tied_embedding_is_owned_by_the_first_stage_and_borrowed_by_the_last(chars: Staged) -> None:
    first, _, last = _stages(chars, cut_by_cost(chars, 3))

    assert "token.weight" in first.owned
    assert last.lenders == {"token.weight": 0}
    assert list(last.trained)[-1] == "token.weight"


def test_a_stage_has_no_memory_for_the_weights_of_the_others(chars: Staged) -> None:
    whole = sum(parameter.numel() for parameter in chars.build_model(0).parameters())
    middle = build_stage(chars, 0, Cut(starts=(0, 2, 3), n_layers=6), 1)

    held = [parameter for parameter in middle.parameters() if parameter.device.type != "meta"]

    assert len(held) == len(list(middle.parameters())) == len(middle.owned)
    assert sum(parameter.numel() for parameter in held) == 12 * 32 * 32 + 2 * 32 < whole / 4
    assert all(parameter.device.type == "meta" for parameter in chars.build_skeleton().parameters())


def test_a_sequential_is_cut_where_its_operations_are_halved() -> None:
    task = _staged(build_task("digits", {"hidden": 32}))

    cut = cut_by_cost(task, 2)

    # 64 x 32 products against 32 x 10: the first linear layer stands alone.
    assert cut.starts == (0, 1)
    assert [cost.flops for cost in estimate_costs(task)] == [2 * 64 * 32, 32, 2 * 32 * 10]


def test_the_estimate_agrees_with_the_formula_of_the_task(chars: Staged) -> None:
    forward = sum(cost.flops for cost in estimate_costs(chars))

    # The formula counts causal attention's useful half, the kernel's count all of it, and written elements.
    assert forward == pytest.approx(chars.flops_per_sample() / 3, rel=0.1)


def test_measured_costs_are_the_best_time_of_a_layer_per_sample(chars: Staged) -> None:
    ticks = iter(range(10_000))

    costs = measure_costs(chars, clock=lambda: float(next(ticks)), n_samples=4, n_repeats=2)

    assert [cost.forward_s for cost in costs] == [0.25] * 6


def test_layers_of_a_sequential_run_as_they_are_nested() -> None:
    task = Repeating(options={})
    model = task.build_model(0)

    layers = task.layers(model)

    assert [layer.name for layer in layers] == ["0", "1.0", "1.1", "2", "3"]


def test_too_many_stages_are_refused(chars: Staged) -> None:
    with pytest.raises(CannotCut, match="every stage needs a layer"):
        cut_by_cost(chars, 7)


@pytest.mark.parametrize("starts", [(), (1,), (0, 0), (0, 3, 2), (0, 6)])
def test_impossible_cuts_are_refused(starts: tuple[int, ...]) -> None:
    with pytest.raises(CannotCut):
        Cut(starts=starts, n_layers=6)


def test_a_cut_of_another_model_is_refused(chars: Staged) -> None:
    with pytest.raises(CannotCut, match="has 6"):
        build_stage(chars, 0, Cut(starts=(0, 3), n_layers=7), 0)


def test_parameters_that_no_layer_uses_are_found(chars: Staged) -> None:
    model = chars.build_model(0)

    with pytest.raises(CannotCut, match=r"position\.weight"):
        Stage(model, chars.layers(model)[1:], Cut(starts=(0,), n_layers=5), 0, chars.output_loss)


def test_an_incomplete_set_of_stages_is_no_model(chars: Staged) -> None:
    stages = _stages(chars, cut_by_cost(chars, 3))
    names = [name for name, _ in chars.build_model(0).named_parameters()]

    with pytest.raises(CannotCut, match="missing"):
        assemble([stages[0].owned, stages[2].owned], names)


def _staged(task: Task) -> Staged:
    assert isinstance(task, Staged)
    return task


def _stages(task: Staged, cut: Cut) -> list[Stage]:
    return [build_stage(task, 0, cut, index) for index in range(cut.n_stages)]


def _gradients_by_stages(task: Staged, stages: list[Stage], batch: Indices) -> dict[str, Tensor]:
    """Each stage's backward pass alone, with nothing but tensors passed between them; tied gradients are added."""
    inputs = [task.inputs(batch)]
    for stage in stages[:-1]:
        inputs.append(stage(inputs[-1]).detach().requires_grad_())
    assert stages[-1].loss is not None
    assert all(stage.loss is None for stage in stages[:-1])
    outputs = stages[-1].loss(stages[-1](inputs[-1]), task.targets(batch))
    received: Tensor | None = None
    gradients: dict[str, Tensor] = {}
    for stage, x in reversed(list(zip(stages, inputs, strict=True))):
        out = outputs if stage.is_last else stage(x)
        wanted = [*stage.trained.values(), *([] if stage.is_first else [x])]
        found = torch.autograd.grad(out, wanted, received)
        for name, gradient in zip(stage.trained, found, strict=False):
            gradients[name] = gradients.get(name, torch.zeros(())) + gradient
        received = found[-1]
    assert all(first.index + 1 == second.index for first, second in pairwise(stages))
    return gradients


def _assert_equal_to_whole(task: Staged, gradients: dict[str, Tensor], batch: Indices) -> None:
    model = task.build_model(0)
    task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
    parameters = dict(model.named_parameters())
    assert set(gradients) == set(parameters)
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-6, atol=1e-6)
