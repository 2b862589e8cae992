"""A stage that passes a step ahead: each pass with the weights that it means, and none that are older."""

from __future__ import annotations

import pytest
import torch

from gossamer.peer.pipeline.double_buffered import DoubleBuffered, Weights
from gossamer.peer.pipeline.microbatches import MicrobatchId, boundaries
from gossamer.protocol.errors import StaleStage
from gossamer.tasks import Cut, build_stage
from gossamer.tests.peer.pipeline.chains import Chain

CUT = Cut(starts=(0, 3), n_layers=7)
TASK = Chain()
X = TASK.inputs(torch.arange(4).numpy())


def first_stage(ahead: Weights | None = None) -> DoubleBuffered:
    stage, *copies = (build_stage(TASK, 0, CUT, 0) for _ in range(3))
    kinds = boundaries(TASK, CUT)[0]
    made = DoubleBuffered(
        stage, kinds, run_seed=0, held_max=8, copies=(copies[0], copies[1]), ahead=lambda: ahead or {}
    )
    made.renew(0)
    return made


def update(stage: DoubleBuffered, version: int) -> None:
    with torch.no_grad():
        for parameter in stage.stage.owned.values():
            parameter.add_(1.0)
    stage.renew(version)


def test_a_microbatch_that_is_a_step_ahead_keeps_the_weights_it_was_begun_with() -> None:
    stage = first_stage()
    name = MicrobatchId(step=1, index=0)

    before = stage.forward(name, 0, X)
    update(stage, 1)
    after = stage.forward(name, 0, X)
    fresh = stage.forward(name, 1, X)

    assert torch.equal(before, after)
    assert not torch.equal(before, fresh)


def test_gradients_taken_ahead_outlive_the_update_and_count_in_their_step() -> None:
    stage = first_stage()
    now, ahead = MicrobatchId(step=0, index=0), MicrobatchId(step=1, index=0)
    out = stage.forward(now, 0, X)

    for name in (now, ahead):
        stage.backward(name, 0, X, torch.ones_like(out))
    expected = stage.collect([now]).gradients
    update(stage, -1)  # borrowed tensors are not here yet
    update(stage, 1)
    stage.forget(unless=lambda name: False)

    assert stage.held == (ahead,)
    assert all(torch.equal(stage.collect([ahead]).gradients[name], expected[name]) for name in expected)


def test_what_is_older_than_one_update_is_refused() -> None:
    stage = first_stage()
    update(stage, 1)
    update(stage, 2)

    for step, version in ((1, 0), (0, 0), (1, 1), (4, 3)):
        with pytest.raises(StaleStage):
            stage.forward(MicrobatchId(step=step, index=0), version, X)
    stage.forward(MicrobatchId(step=2, index=0), 1, X)


def test_passes_ahead_use_predicted_weights_and_others_the_agreed_ones() -> None:
    agreed = first_stage()
    predicted = {name: torch.zeros_like(parameter) for name, parameter in agreed.stage.owned.items()}
    stage = first_stage(predicted)

    now, ahead = (stage.forward(MicrobatchId(step=step, index=0), 0, X) for step in (0, 1))

    assert torch.equal(now, agreed.forward(MicrobatchId(step=0, index=0), 0, X))
    assert float(ahead.abs().max()) == 0


def test_a_pass_ahead_leaves_the_present_version_and_its_weights_in_sight() -> None:
    stage = first_stage()
    update(stage, 1)
    own, seen = stage.stage, []
    for copy in stage._copies:
        copy.stage.register_forward_hook(lambda *_: seen.append((stage.version, stage.stage is own)))

    for name in (MicrobatchId(step=1, index=0), MicrobatchId(step=2, index=0)):
        out = stage.forward(name, name.step - 1, X)
        stage.backward(name, name.step - 1, X, torch.ones_like(out))

    assert seen == [(1, True)] * 4


def test_weights_that_come_from_elsewhere_leave_nothing_of_the_old_ones() -> None:
    stage = first_stage()
    out = stage.forward(MicrobatchId(step=1, index=0), 0, X)
    stage.backward(MicrobatchId(step=1, index=0), 0, X, torch.ones_like(out))

    stage.clear()
    stage.renew(7)

    assert stage.held == ()
    with pytest.raises(StaleStage):
        stage.forward(MicrobatchId(step=1, index=0), 0, X)
