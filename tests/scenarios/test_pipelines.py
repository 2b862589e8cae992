"""Pipelines of real daemons on virtual time: one step for all stages, every microbatch counted once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from gossamer.algorithms import Slots, build_method
from gossamer.peer.checkpoints import load_newest
from gossamer.peer.daemon import Result
from gossamer.peer.event_kinds import Evaluated, Resynced, StepPassed, Warned
from gossamer.peer.events import read_events
from gossamer.peer.pipeline.daemon import StageDaemon
from gossamer.peer.pipeline.flow import step_batches
from gossamer.peer.replica import schedule_of
from gossamer.simulator.world import Simulation
from gossamer.tasks import Staged, build_task

from .swarm import SimulatedSwarm, identity, signed_manifest

pytestmark = pytest.mark.scenario

SMALL = {"d_model": 16, "n_layers": 3, "n_heads": 2, "context": 16}
N_STAGES, N_MICROBATCHES = 3, 6


def chars(
    root: Path, *, sim: Simulation, seed: int = 0, layers: int = SMALL["n_layers"], **tables: Any
) -> SimulatedSwarm:
    """A swarm that trains a small language model in three stages; its first and last layers share weights."""
    task = build_task("chars", {**SMALL, "n_layers": layers})
    settings: dict[str, Any] = {
        "method": {"name": "allreduce", "options": {"clip": 0.0, "optimizer": "sgd", "momentum": 0.0}},
        "schedule": {"lr": 0.5},
        "data": {"batch_size": 4},
        "group": {"start_peers": 6},
        "pipeline": {"stages": N_STAGES, "microbatches": N_MICROBATCHES, "activations": "none"},
    }
    for name, table in tables.items():
        settings[name] = {**settings.get(name, {}), **table}
    manifest = signed_manifest(task, identity(seed, 0), **settings)
    return SimulatedSwarm(sim=sim, root=root, manifest=manifest, task=task, seed=seed, make_daemon=StageDaemon)


def events(swarm: SimulatedSwarm, number: int, kind: type[Any]) -> list[Any]:
    entries = read_events(swarm.root / str(number) / "events.jsonl")
    return [entry.event for entry in entries if isinstance(entry.event, kind)]


def counted(swarm: SimulatedSwarm) -> dict[int, int]:
    """Microbatches that count in each step; all who applied it say the same."""
    found: dict[int, int] = {}
    for number in range(len(swarm.daemons)):
        for event in events(swarm, number, StepPassed):
            assert found.setdefault(event.step, event.counted) == event.counted
    return found


def stage_of(swarm: SimulatedSwarm, number: int) -> int:
    daemon = swarm.daemons[number]
    assert isinstance(daemon, StageDaemon)
    return daemon.replica.stage


def check_stages_agree(swarm: SimulatedSwarm, results: dict[int, Result], n_stages: int = N_STAGES) -> None:
    """Replicas of one stage end with one state."""
    digests: dict[int, bytes] = {}
    for number, result in results.items():
        assert digests.setdefault(stage_of(swarm, number), result.digest) == result.digest
    assert len(digests) == n_stages


def whole_model(swarm: SimulatedSwarm) -> dict[str, torch.Tensor]:
    """Put together from the newest checkpoints."""
    parts: dict[str, torch.Tensor] = {}
    for number in range(len(swarm.daemons)):
        parts.update(load_newest(swarm.root / str(number)).checkpoint.model)
    return parts


def single_process(swarm: SimulatedSwarm, n_steps: int) -> dict[str, torch.Tensor]:
    """The same method on the whole model, from the same samples, in one process."""
    task, manifest = swarm.task, swarm.manifest.manifest
    assert isinstance(task, Staged)
    model = task.build_model(manifest.run.seed)
    parameters = dict(model.named_parameters())
    method = build_method(manifest.method.name, parameters, manifest.method.options, schedule_of(manifest))
    for step in range(n_steps):
        batches = step_batches(
            task,
            seed=manifest.run.seed,
            step=step,
            n_microbatches=manifest.pipeline.microbatches,
            n_samples=manifest.data.batch_size,
        )
        for batch in batches:
            gradients = torch.autograd.grad(task.loss(model, batch), list(parameters.values()))
            method.accumulate(dict(zip(parameters, gradients, strict=True)), len(batch))
        payload = method.encode(torch.zeros(0).numpy())
        method.combine([payload], mine=0, step=step, slots=Slots.everybody(1))
    return {name: parameter.detach() for name, parameter in parameters.items()}


def test_three_stages_on_six_peers_make_the_steps_of_one_process(tmp_path: Path) -> None:
    sim = Simulation(seed=1)
    swarm = chars(tmp_path, sim=sim, run={"steps": 8})

    async def main() -> dict[int, Result]:
        swarm.start(6)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_stages_agree(swarm, results)
    assert counted(swarm) == dict.fromkeys(range(1, 9), N_MICROBATCHES)
    found, expected = whole_model(swarm), single_process(swarm, 8)
    assert sorted(found) == sorted(expected)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-5
    losses = sorted((e.step, e.loss) for number in range(6) for e in events(swarm, number, Evaluated))
    assert [step for step, _ in losses] == [0, 8]
    assert losses[1][1] < losses[0][1]
    assert not any(events(swarm, number, Warned) for number in range(6))


@pytest.mark.parametrize("seed", range(2))
def test_a_peer_killed_at_any_instant_costs_no_microbatch_and_comes_back(tmp_path: Path, seed: int) -> None:
    sim = Simulation(seed=seed)
    swarm = chars(tmp_path, sim=sim, seed=seed, run={"steps": 16})
    victim = 1 + sim.random.randrange(5)
    wait_s = sim.random.uniform(0.0, 1.0)

    async def main() -> dict[int, Result]:
        swarm.start(6)
        await swarm.reach(5)
        await asyncio.sleep(wait_s)
        swarm.hosts[victim].kill()
        await asyncio.sleep(2.0)
        swarm.restart(victim)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_stages_agree(swarm, results)
    assert {result.step for result in results.values()} == {16}
    assert counted(swarm) == dict.fromkeys(range(1, 17), N_MICROBATCHES)
    found, expected = whole_model(swarm), single_process(swarm, 16)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-4
    assert events(swarm, victim, Resynced)


def test_a_stage_without_replicas_stops_the_step_and_nothing_is_half_applied(tmp_path: Path) -> None:
    sim = Simulation(seed=3)
    swarm = chars(tmp_path, sim=sim, run={"steps": 400})

    async def main() -> tuple[list[int], list[int], dict[int, Result]]:
        swarm.start(6)
        await swarm.reach(4)
        lost = [number for number in range(6) if stage_of(swarm, number) == 1]
        others = [number for number in range(6) if number not in lost]
        for number in lost:
            swarm.hosts[number].kill()
        await asyncio.sleep(20.0)
        before = [swarm.daemons[number].replica.step for number in others]
        await asyncio.sleep(40.0)
        after = [swarm.daemons[number].replica.step for number in others]
        for number in others:
            swarm.daemons[number].leave()
        return before, after, dict(zip(others, await swarm.finish(others), strict=True))

    before, after, results = swarm.run(main())

    check_stages_agree(swarm, results, n_stages=2)
    assert len({*before, *after}) == 1
    assert before[0] < 100


def test_a_newcomer_takes_the_state_of_the_neediest_stage_and_serves_it(tmp_path: Path) -> None:
    sim = Simulation(seed=4)
    swarm = chars(
        tmp_path,
        sim=sim,
        run={"steps": 16},
        group={"start_peers": 5},
        method={"name": "demo", "options": {"beta": 0.9}},
        schedule={"lr": 2e-3},
        pipeline={"activations": "int8"},
    )

    async def main() -> dict[int, Result]:
        swarm.start(5)
        await swarm.reach(2)
        swarm.start(1)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_stages_agree(swarm, results)
    assert sorted(stage_of(swarm, number) for number in range(6)) == [0, 0, 1, 1, 2, 2]
    assert counted(swarm) == dict.fromkeys(range(1, 17), N_MICROBATCHES)
    (taken,) = events(swarm, 5, Resynced)
    assert taken.bytes > 0
    served = [event for event in events(swarm, 5, StepPassed) if event.backward_passes]
    assert served


def test_a_committed_stop_is_resumed_as_if_nothing_had_happened(tmp_path: Path) -> None:
    sim = Simulation(seed=5)
    swarm = chars(tmp_path, sim=sim, run={"steps": 6})
    swarm.stop_at = 3

    async def main() -> dict[int, Result]:
        swarm.start(6)
        await swarm.finish(range(6))
        swarm.stop_at = None
        for number in range(6):
            swarm.restart(number)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_stages_agree(swarm, results)
    found, expected = whole_model(swarm), single_process(swarm, 6)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-5
