"""Stages that step by themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossamer.algorithms.pipeline.delayed import DelayedOptions, DelayedSGD
from gossamer.algorithms.pipeline.schedules import SCHEDULES, Launcher, Pass
from gossamer.peer.pipeline.microbatches import MicrobatchId, boundaries
from gossamer.peer.pipeline.unsynchronised import UnsynchronisedStage, Updated
from gossamer.protocol.errors import BadTensor, Busy, StaleStage
from gossamer.tasks import CannotCut, Cut, Staged, build_stage, build_task
from gossamer.tests.peer.pipeline.chains import Chain, batches

LR = 0.05
PLAIN = DelayedOptions(momentum=0.5)
Log = list[tuple[int, int, Updated]]


@pytest.mark.parametrize("n_stages", [1, 2, 3, 6])
def test_under_1f1b_the_measured_delay_is_the_number_of_stages_behind(n_stages: int) -> None:
    stages = _stages(Chain(), n_stages, PLAIN)

    log = _run(Chain(), stages, 20)

    for stage in range(n_stages):
        delays = [updated.delay for s, index, updated in log if s == stage and index >= n_stages]
        assert delays == [n_stages - 1 - stage] * (20 - n_stages)


def test_one_stage_alone_is_momentum_sgd() -> None:
    task = Chain()
    (stage,) = _stages(task, 1, DelayedOptions(momentum=0.5, compensate=True, predict=True, stash=True))
    model = task.build_model(0)
    parameters = dict(model.named_parameters())
    reference = DelayedSGD(parameters, PLAIN)

    log = _run(task, [stage], 8)

    losses = []
    for batch in batches(task, 8, 4):
        loss = task.loss(model, batch)
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        reference.step(dict(zip(parameters, gradients, strict=True)), lr=LR, delay=0)
        losses.append(loss.item())
    assert [updated.loss for _, _, updated in log] == pytest.approx(losses, abs=1e-6)
    for name, parameter in parameters.items():
        torch.testing.assert_close(stage.stage.owned[name], parameter)


def test_stashed_weights_give_the_gradient_of_the_forward_pass() -> None:
    task = Chain()
    kept, newest = (_stages(task, 3, DelayedOptions(momentum=0.0, stash=stash))[0] for stash in (True, False))
    x = task.inputs(batches(task, 1, 4)[0])
    gradient = torch.ones(4, 8)
    expected = _first_gradient(task, x, gradient)

    moved = []
    for stage in (kept, newest):
        _, version = stage.forward(_name(0), x)
        _step_with_another(task, stage)
        before = stage.stage.owned["0.weight"].detach().clone()
        stage.backward(_name(0), version, x, gradient)
        moved.append((before - stage.stage.owned["0.weight"].detach()) / LR)

    # The first stage is linear in its weights up to a tanh, so the gradients differ if the weights do.
    torch.testing.assert_close(moved[0], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(moved[1], expected, rtol=1e-3)


def test_predicted_weights_serve_forward_passes_and_the_own_ones_are_put_back() -> None:
    task = Chain()
    stage = _stages(task, 3, DelayedOptions(momentum=0.5, predict=True))[0]
    x = task.inputs(batches(task, 1, 4)[0])
    twin = DelayedSGD({name: p.detach().clone() for name, p in stage.stage.owned.items()}, PLAIN)
    # Two are on their way when the first comes back: a delay of 1 is measured, and from then on expected.
    (_, first), (_, second) = stage.forward(_name(0), x), stage.forward(_name(1), x)
    for index, version in enumerate((first, second)):
        twin.step(_gradients(stage, x), lr=LR, delay=index)
        stage.backward(_name(index), version, x, torch.ones(4, 8))
    before = {name: p.detach().clone() for name, p in stage.stage.owned.items()}

    out, version = stage.forward(_name(2), x)

    ahead = twin.predicted(lr=LR, delay=1)
    expected = torch.tanh(torch.nn.functional.linear(x, ahead["0.weight"], ahead["0.bias"]))
    torch.testing.assert_close(out, expected)
    assert version == 2
    assert all(torch.equal(stage.stage.owned[name], before[name]) for name in before)


def test_a_chain_of_them_learns() -> None:
    task = Chain()
    stages = _stages(task, 3, DelayedOptions(momentum=0.5, compensate=True, predict=True))

    log = _run(task, stages, 120)

    losses = [updated.loss for _, _, updated in log if updated.loss is not None]
    assert sum(losses[-30:]) < 0.9 * sum(losses[:30])


def test_a_gradient_is_taken_in_once_and_only_for_the_version_that_it_belongs_to() -> None:
    task = Chain()
    (stage,) = _stages(task, 1, PLAIN)
    batch = batches(task, 1, 4)[0]
    x, targets = task.inputs(batch), task.targets(batch)
    _, version = stage.forward(_name(0), x)

    with pytest.raises(StaleStage):
        stage.backward(_name(0), version + 1, x, targets)
    with pytest.raises(BadTensor):
        stage.backward(_name(0), version, x, targets.float())
    stage.backward(_name(0), version, x, targets)
    with pytest.raises(StaleStage, match="taken in already"):
        stage.backward(_name(0), version, x, targets)

    assert stage.version == 1


def test_what_is_on_its_way_is_bounded() -> None:
    task = Chain()
    (stage,) = _stages(task, 1, PLAIN, in_flight_max=1)
    x = task.inputs(batches(task, 1, 4)[0])
    stage.forward(_name(0), x)

    with pytest.raises(Busy):
        stage.forward(_name(1), x)


def test_tied_weights_are_refused() -> None:
    task = build_task("chars", {"d_model": 16, "n_layers": 1, "n_heads": 2, "context": 16})
    assert isinstance(task, Staged)

    with pytest.raises(CannotCut, match=r"token\.weight"):
        _stages(task, 3, PLAIN)


def _stages(
    task: Staged, n_stages: int, options: DelayedOptions, *, in_flight_max: int = 16
) -> list[UnsynchronisedStage]:
    n_layers = len(task.layers(task.build_skeleton()))
    cut = Cut(starts=tuple(i * n_layers // n_stages for i in range(n_stages)), n_layers=n_layers)
    return [
        UnsynchronisedStage(
            build_stage(task, 0, cut, index),
            kinds,
            options,
            rate=lambda _: LR,
            run_seed=0,
            in_flight_max=in_flight_max,
        )
        for index, kinds in enumerate(boundaries(task, cut))
    ]


def _run(task: Staged, stages: list[UnsynchronisedStage], n_microbatches: int) -> Log:
    """All microbatches in the order of 1F1B; the updates in the order in which they were made."""
    launcher = Launcher(n_stages=len(stages), n_microbatches=n_microbatches, order=SCHEDULES["1f1b"])
    every = batches(task, n_microbatches, 4)
    xs = {(0, i): task.inputs(batch) for i, batch in enumerate(every)}
    arrived = {(len(stages) - 1, i): task.targets(batch) for i, batch in enumerate(every)}
    versions: dict[tuple[int, int], int] = {}
    log: Log = []
    while not launcher.finished:
        for work in launcher.begin():
            s, i = work.stage, work.microbatch
            if work.kind is Pass.FORWARD:
                xs[s + 1, i], versions[s, i] = stages[s].forward(_name(i), xs[s, i])
            else:
                updated = stages[s].backward(_name(i), versions[s, i], xs[s, i], arrived[s, i])
                log.append((s, i, updated))
                if updated.input_gradient is not None:
                    arrived[s - 1, i] = updated.input_gradient
            launcher.end(work)
    return log


def _step_with_another(task: Staged, stage: UnsynchronisedStage) -> None:
    x = task.inputs(batches(task, 2, 4)[1])
    _, version = stage.forward(_name(99), x)
    stage.backward(_name(99), version, x, torch.full((4, 8), 5.0))


def _first_gradient(task: Staged, x: Tensor, gradient: Tensor) -> Tensor:
    (stage, *_) = _stages(task, 3, PLAIN)
    return _gradients(stage, x, gradient)["0.weight"]


def _gradients(stage: UnsynchronisedStage, x: Tensor, gradient: Tensor | None = None) -> dict[str, Tensor]:
    given = torch.ones(4, 8) if gradient is None else gradient
    owned = stage.stage.owned
    return dict(zip(owned, torch.autograd.grad(stage.stage(x), list(owned.values()), given), strict=True))


def _name(index: int) -> MicrobatchId:
    return MicrobatchId(step=0, index=index)
