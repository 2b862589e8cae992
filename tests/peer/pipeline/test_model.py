"""A stage with its method: what counts once leaves once, and methods that do not fit are refused with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from gossamer.algorithms import Slots
from gossamer.peer.pipeline.decided import Decided
from gossamer.peer.pipeline.microbatches import MicrobatchId
from gossamer.peer.pipeline.model import NOT_SERVED, StageModel
from gossamer.protocol.errors import InvalidManifest, StaleStage
from gossamer.protocol.manifest import Manifest, manifest_of
from gossamer.tasks import Staged, build_task

SMALL = {"d_model": 16, "n_layers": 2, "n_heads": 2, "context": 8}


def manifest(method: str = "allreduce", **options: Any) -> Manifest:
    return manifest_of(
        {
            "run": {"name": "stages", "seed": 1, "steps": 10, "created": "now"},
            "task": {"name": "chars", "fingerprint": "0" * 64, "options": SMALL},
            "method": {"name": method, "options": options},
            "schedule": {"lr": 0.1},
            "data": {"batch_size": 2},
            "pipeline": {"stages": 2, "microbatches": 4},
        }
    )


def chars() -> Staged:
    task = build_task("chars", SMALL)
    assert isinstance(task, Staged)
    return task


def first_stage(task: Staged, method: str = "allreduce", **options: Any) -> tuple[StageModel, list[MicrobatchId]]:
    """The first stage, and the names of two microbatches whose gradients it holds."""
    model = StageModel(task, manifest(method, **options), bytes(32))
    model.settle(0)
    names = [MicrobatchId(step=0, index=index) for index in range(2)]
    for name in names:
        x = task.inputs(torch.arange(2).numpy() + 10 * name.index)
        out = model.passes.forward(name, 0, x)
        model.passes.backward(name, 0, x, torch.ones_like(out) * (1 + name.index))
    return model, names


def payload_of(model: StageModel, names: Sequence[MicrobatchId]) -> bytes:
    return model.encode(model.prepare(tuple(names), model.sums(names)))


def decided(payloads: Sequence[bytes], counted: Sequence[MicrobatchId]) -> Decided:
    """A decision that counts one contributor, us."""
    return Decided(
        payloads=payloads,
        mine=0,
        counted=tuple(counted),
        slots=Slots.everybody(1),
        n_samples=2 * len(counted),
    )


@pytest.mark.parametrize("method", ["allreduce", "demo", "terngrad"])
def test_what_was_made_for_a_plan_that_was_replaced_leaves_no_trace(method: str) -> None:
    task = chars()
    replaced, names = first_stage(task, method)
    straight, _ = first_stage(task, method)

    payload_of(replaced, names)
    after = payload_of(replaced, names[1:])
    payload = payload_of(straight, names[1:])
    results = [model.update(decided([data], names[1:])) for model, data in ((replaced, after), (straight, payload))]

    assert after == payload
    assert results[0] == results[1]
    assert results[0].n_discarded == 1
    assert all(torch.equal(a, b) for a, b in zip(replaced.local().values(), straight.local().values(), strict=True))


def test_a_borrower_serves_again_once_it_has_the_owners_bits() -> None:
    task = chars()
    owner, names = first_stage(task)
    borrower = StageModel(task, manifest(), bytes(32))
    borrower.settle(1)
    payload = payload_of(owner, names)
    owner.update(decided([payload], names))

    borrower.restore(_at_step_one(borrower))
    before = borrower.passes.version
    borrower.borrow({0: owner.lend(1, 1)})

    assert borrower.lenders == (0,)
    assert before == NOT_SERVED
    assert borrower.passes.version == 1
    with pytest.raises(StaleStage):
        owner.lend(1, 0)
    for name in owner.lent_names(1):
        assert torch.equal(borrower.passes.stage.borrowed[name], owner.parameters[name])


def _at_step_one(model: StageModel) -> bytes:
    model._progress += torch.tensor([1, 4])
    return model.snapshot()


@pytest.mark.parametrize(
    ("method", "options", "why"),
    [
        ("sparseloco", {}, "drift apart"),
        ("coded", {}, "deals samples out|more contributions"),
        ("allreduce", {"aggregate": "trimmed"}, "more contributions"),
    ],
)
def test_methods_that_do_not_fit_a_pipeline_are_refused(method: str, options: dict[str, Any], why: str) -> None:
    model = StageModel(chars(), manifest(method, **options), bytes(32))

    with pytest.raises(InvalidManifest, match=why):
        model.settle(0)
