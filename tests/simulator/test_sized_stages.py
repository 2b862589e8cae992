"""Stages of a sized model: their own derivatives are those that automatic differentiation finds."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gossamer.peer.pipeline.microbatches import MicrobatchId, boundaries
from gossamer.peer.pipeline.stage import StageReplica
from gossamer.simulator.analytic import Sized
from gossamer.tasks import Cut, build_stage

NAME = MicrobatchId(step=0, index=0)
TASK = Sized(options={"n_layers": 5, "activation_elements": 6})
CUT = Cut(starts=(0, 1, 3), n_layers=5)


def _replica(stage: int, *, by_autograd: bool) -> StageReplica:
    built = build_stage(TASK, 0, CUT, stage)
    with torch.no_grad():
        for number, parameter in enumerate(built.parameters()):
            parameter.fill_(1.5 + number)
    if by_autograd:
        built.derive = None
    return StageReplica(built, boundaries(TASK, CUT)[stage], run_seed=0, held_max=1)


@pytest.mark.parametrize("defer_weights", [False, True])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_sized_stage_knows_what_autograd_finds(stage: int, defer_weights: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    kinds = boundaries(TASK, CUT)[stage]
    x, arrived = [
        (1.0 + torch.rand(3, *kind.shape, generator=generator)).to(kind.dtype) for kind in (kinds.input, kinds.output)
    ]

    known, found = [
        dataclasses.asdict(replica.backward(NAME, 0, x, arrived, defer_weights=defer_weights))
        | {"deferred": replica.n_deferred, "forward": replica.forward(NAME, 0, x)}
        | replica.collect([NAME]).gradients
        for replica in (_replica(stage, by_autograd=False), _replica(stage, by_autograd=True))
    ]

    assert (known["input_gradient"] is None) == (stage == 0)
    assert (known["loss"] is None) == (stage < 2)
    torch.testing.assert_close(known, found)
