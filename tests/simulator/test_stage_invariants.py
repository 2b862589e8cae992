"""What the simulator finds wrong with a pipeline: a model that is not that of one process, a stage left empty."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from gossamer.peer.daemon import Daemon
from gossamer.peer.event_kinds import StepPassed
from gossamer.peer.pipeline.model import StageModel
from gossamer.protocol.errors import UsageError
from gossamer.protocol.identity import Identity
from gossamer.protocol.manifest import Manifest, manifest_of
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of
from gossamer.simulator.stage_invariants import Vacancies, model_of_one_process, stage_violations
from gossamer.simulator.tables import Expectation
from gossamer.tasks import Staged, build_task

OPTIONS = {"d_model": 16, "n_layers": 2, "n_heads": 2, "context": 16}
EXACT = Expectation(one_process_within=1e-6)


def test_peers_with_the_model_of_one_process_break_nothing() -> None:
    assert list(stage_violations([], Vacancies(2), [_trained(stage) for stage in range(2)], EXACT)) == []


def test_a_microbatch_that_counts_twice_is_found_in_the_model() -> None:
    model = _trained(0)
    with torch.no_grad():
        next(iter(cast(StageModel, model.replica).parameters.values())).add_(1e-3)

    (found,) = stage_violations([], Vacancies(2), [model], EXACT)

    assert "one process: stage 0" in found
    assert "0.001 off" in found


def test_not_a_number_in_the_last_parameter_is_found() -> None:
    model = _trained(0)
    with torch.no_grad():
        list(cast(StageModel, model.replica).parameters.values())[-1].fill_(torch.nan)

    (found,) = stage_violations([], Vacancies(2), [model], EXACT)

    assert "one process: stage 0" in found
    assert "nan off" in found


def test_what_nobody_finished_is_not_taken_for_right() -> None:
    (found,) = stage_violations([], Vacancies(2), [], EXACT)

    assert found.startswith("liveness: nobody that serves a stage has finished")


def test_a_pipeline_that_was_never_whole_is_told() -> None:
    vacancies = Vacancies(2)
    vacancies.look([_serving(0), _serving(0)], 1.0)

    (found,) = stage_violations([], vacancies, [], Expectation(empty_stage_s_max=0.0))

    assert found.startswith("liveness: there was no moment")


@pytest.mark.parametrize("name", ["empty_stage_s_max", "one_process_within"])
def test_nothing_is_expected_of_stages_that_there_are_not(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"expect.{name} is of pipelines: set pipeline.stages above 1"):
        play(scenario_of({"name": "whole", "expect": {name: 1.0}}), tmp_path)


def test_a_step_that_leaves_microbatches_out_is_told() -> None:
    counters = dict.fromkeys(
        ("forward_passes", "backward_passes", "n_waiting_max", "rerouted", "mended", "duplicates_refused", "discarded"),
        0,
    )
    event = StepPassed(round=7, step=8, stage=0, counted=3, expected=4, busy_s=0.0, duration_s=0.0, **counters)

    assert list(stage_violations([event], Vacancies(2), [], EXACT)) == ["microbatches: round 7 counts 3 of 4"]


def test_a_stage_is_left_empty_only_while_others_have_replicas_to_spare() -> None:
    vacancies = Vacancies(2)

    for now_s, stages in enumerate([[0], [0, 1], [0, 0], [0, 0], [0, 0], [0], [0, 0], [0, 1]]):
        vacancies.look([_serving(stage) for stage in stages], float(now_s))

    assert vacancies.longest_s == 2.0
    vacancies.look([_serving(0), _serving(0, step=5)], 10.0)
    vacancies.look([_serving(0), _serving(0)], 20.0)
    assert vacancies.longest_s == 2.0  # one had finished the run
    (found,) = stage_violations([], vacancies, [], Expectation(empty_stage_s_max=1.0))
    assert found.startswith("empty stage: one had no replica for 2.0 s")


def _manifest() -> tuple[Staged, Manifest]:
    task = build_task("chars", OPTIONS)
    assert isinstance(task, Staged)
    return task, manifest_of(
        {
            "run": {"name": "test", "seed": 3, "steps": 2, "created": "now"},
            "task": {"name": "chars", "fingerprint": task.fingerprint(), "options": OPTIONS},
            "method": {"name": "allreduce", "options": {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0}},
            "schedule": {"lr": 0.5, "kind": "constant"},
            "data": {"batch_size": 2},
            "pipeline": {"stages": 2, "microbatches": 3, "activations": "none"},
        }
    )


def _trained(stage: int) -> Daemon:
    """What a peer that has served a stage for two steps is to the invariants."""
    task, manifest = _manifest()
    model = StageModel(task, manifest, bytes(32))
    model.settle(stage)
    expected = model_of_one_process(task, manifest, 2)
    with torch.no_grad():
        for name, parameter in model.parameters.items():
            parameter.copy_(expected[name])
    model.count_as(2, 12, b"")
    return cast(Daemon, SimpleNamespace(replica=model, identity=Identity(bytes(32))))


def _serving(stage: int, step: int = 0) -> Daemon:
    model = StageModel.__new__(StageModel)
    model.stage, model._progress = stage, torch.tensor([step, 0])
    model._counters = model._progress.numpy()
    return cast(Daemon, SimpleNamespace(replica=model, group=object(), stop_at=5))


@pytest.mark.parametrize("n_steps", [1, 2])
def test_the_model_of_one_process_moves_with_each_step(n_steps: int) -> None:
    task, manifest = _manifest()
    before = model_of_one_process(task, manifest, n_steps - 1)

    after = model_of_one_process(task, manifest, n_steps)

    assert any(not torch.equal(before[name], after[name]) for name in before)
