"""Local steps of a stage's replicas: receipts travel, drifts are averaged by samples, cycles follow from the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from gossamer.algorithms import Slots
from gossamer.peer.commands.stages import check_pipeline
from gossamer.peer.pipeline.decided import Decided
from gossamer.peer.pipeline.drifting import DriftingModel, receipt
from gossamer.peer.pipeline.microbatches import MicrobatchId
from gossamer.peer.pipeline.models import stage_model
from gossamer.protocol.errors import BadTensor, Diverged, InvalidManifest
from gossamer.protocol.manifest import Manifest, manifest_of

from .test_model import SMALL, chars

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0}


def first_stage(**options: Any) -> DriftingModel:
    manifest = manifest_of(
        {
            "run": {"name": "stages", "seed": 1, "steps": 10, "created": "now"},
            "task": {"name": "chars", "fingerprint": "0" * 64, "options": SMALL},
            "method": {"name": "local", "options": {"h": 2, **PLAIN, **options}},
            "schedule": {"lr": 0.1},
            "data": {"batch_size": 2},
            "pipeline": {"stages": 2, "microbatches": 4},
        }
    )
    model = stage_model(chars(), manifest, bytes(32))
    assert isinstance(model, DriftingModel)
    model.settle(0)
    return model


def passed(model: DriftingModel, *indices: int) -> tuple[MicrobatchId, ...]:
    names = tuple(MicrobatchId(step=model.step, index=index) for index in indices)
    for name in names:
        x = model.task.inputs(torch.arange(2).numpy() + 10 * name.index)
        out = model.passes.forward(name, model.step, x)
        model.passes.backward(name, model.step, x, torch.ones_like(out) * (1 + name.index))
    return names


def offered(model: DriftingModel, names: tuple[MicrobatchId, ...]) -> bytes:
    payload = model.encode(model.prepare(names, model.sums(names)))
    model.check(payload)
    return payload


def update(model: DriftingModel, payloads: Sequence[bytes], mine: int, names: tuple[MicrobatchId, ...]) -> bytes:
    slots = Slots.everybody(len(payloads))
    return model.update(Decided(payloads=payloads, mine=mine, counted=names, slots=slots, n_samples=8)).digest


def test_replicas_drift_in_a_local_step_and_meet_in_an_agreed_one() -> None:
    models = [first_stage(), first_stage()]

    digests, served = [], []
    for shares in ([(0, 1, 2), (3,)], [(0,), (1, 2, 3)]):
        names = [passed(model, *share) for model, share in zip(models, shares, strict=True)]
        payloads = [offered(model, mine) for model, mine in zip(models, names, strict=True)]
        digests.append([update(model, payloads, i, names[i]) for i, model in enumerate(models)])
        served.append([torch.cat([p.reshape(-1) for p in model.passes.stage.owned.values()]) for model in models])

    assert [len(set(pair)) for pair in digests] == [1, 1]
    assert len(payloads[0]) > 32
    assert not torch.equal(served[0][0], served[0][1])
    assert torch.equal(served[1][0], served[1][1])
    assert not any(bool(model.method.local_state()["drift"].any()) for model in models)


def test_a_drift_weighs_as_many_samples_as_stand_behind_it() -> None:
    one, other, both = first_stage(h=1), first_stage(h=1), first_stage(h=1)
    mine, theirs, all_of_them = passed(one, 0, 1, 2), passed(other, 3), passed(both, 0, 1, 2, 3)

    payloads = [offered(one, mine), offered(other, theirs)]
    update(one, payloads, 0, mine)
    update(both, [offered(both, all_of_them)], 0, all_of_them)

    for name, parameter in one.parameters.items():
        torch.testing.assert_close(parameter, both.parameters[name], rtol=0, atol=1e-6)


def test_a_local_step_that_a_replica_was_never_asked_for_is_not_made_up() -> None:
    model = first_stage()
    names = passed(model, 0, 1)
    offered(model, names)

    with pytest.raises(Diverged, match="resynchronising"):
        update(model, [receipt(names[:1])], 0, names[:1])


def test_a_state_that_names_what_the_run_has_not_made_is_refused() -> None:
    donor, taker = first_stage(), first_stage()
    taker.restore(donor.snapshot())
    donor.unsettled.tensor[0] = torch.tensor([7, 0, 3, 1])  # of the fourth step, before the first

    with pytest.raises(BadTensor, match="not made"):
        taker.restore(donor.snapshot())


def test_what_plans_of_failed_rounds_asked_for_is_not_kept() -> None:
    model = first_stage()
    names = passed(model, 0, 1)
    offered(model, names[:1])
    offered(model, names[1:])

    model.forget(unless=lambda name: name.index == 1)

    assert list(model._local_steps) == [names[1:]]


def test_cycles_that_are_too_long_to_keep_account_of_are_refused() -> None:
    def settle(h: int, n_steps: int, rule: str = "constant") -> None:
        tables = first_stage().manifest.model_dump()
        options = {**tables["method"]["options"], "h": h, "rule": rule}
        tables["method"], tables["run"]["steps"] = {"name": "local", "options": options}, n_steps
        tables["schedule"]["kind"] = "cosine"
        tables["pipeline"]["microbatches"] = 64
        stage_model(chars(), manifest_of(tables), bytes(32)).settle(1)

    settle(h=64, n_steps=1000)  # 2 * 64 microbatches * 2 stages * 64 steps = 16,384
    settle(h=500, n_steps=60)
    for h, n_steps, rule in ((65, 1000, "constant"), (4, 10_000, "qsr")):
        with pytest.raises(InvalidManifest, match="keep account of 64: use a smaller h"):
            settle(h, n_steps, rule)


def test_cycles_follow_from_the_step_wherever_a_replica_begins() -> None:
    model = first_stage(h=4)

    found = []
    for step in (0, 3, 4, 9, 2):
        model._progress[0] = step
        found.append((model.agreed_step, model.gathers))

    assert found == [(0, False), (0, True), (4, False), (8, True), (0, False)]  # the run ends at 10


def test_local_steps_and_delays_do_not_mix() -> None:
    tables = first_stage().manifest.model_dump()
    manifest = manifest_of({**tables, "pipeline": {**tables["pipeline"], "mode": "stash"}})

    with pytest.raises(InvalidManifest, match="leave mode out"):
        stage_model(chars(), manifest, bytes(32))


def test_the_command_line_takes_what_daemons_take() -> None:
    check_pipeline(tables_with(method={"name": "diloco", "options": {}}), chars())
    check_pipeline(tables_with(mode="compensate", method={"name": "allreduce", "options": PLAIN}), chars())
    for method in ("demo", "allreduce"):
        with pytest.raises(InvalidManifest, match="is defined for momentum SGD"):
            check_pipeline(tables_with(mode="predict", method={"name": method, "options": {}}), chars())


def tables_with(mode: str = "synchronous", **tables: Any) -> Manifest:
    whole = first_stage().manifest.model_dump()
    pipeline = {**whole["pipeline"], "mode": mode}
    return manifest_of({**whole, "group": {**whole["group"], "start_peers": 2}, "pipeline": pipeline, **tables})
