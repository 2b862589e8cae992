"""Pipelines whose trainers don't wait for a step's decision: the equations with the delay that was measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from gossamer.algorithms.pipeline.delayed import compensation
from gossamer.peer.daemon import Result
from gossamer.peer.event_kinds import Evaluated, StepPassed, Warned
from gossamer.peer.pipeline.daemon import StageDaemon
from gossamer.peer.pipeline.flow import step_batches
from gossamer.peer.pipeline.model import StageModel
from gossamer.protocol.network import Cost
from gossamer.simulator.network import SimulatedNetwork
from gossamer.simulator.world import Simulation
from gossamer.tasks import Staged, build_task

from .swarm import SimulatedSwarm, identity, signed_manifest
from .test_pipelines import N_MICROBATCHES, chars, check_stages_agree, counted, events, whole_model

pytestmark = pytest.mark.scenario

T = TypeVar("T")
LR, MOMENTUM, N_STEPS = 0.05, 0.9, 8


def digits(root: Path, mode: str) -> SimulatedSwarm:
    """Two stages of a small net without tied weights, by momentum SGD."""
    task = build_task("digits", {})
    manifest = signed_manifest(
        task,
        identity(0, 0),
        run={"steps": N_STEPS},
        method={"name": "allreduce", "options": {"clip": 0.0, "optimizer": "sgd", "momentum": MOMENTUM}},
        schedule={"lr": LR},
        data={"batch_size": 4},
        group={"start_peers": 4},
        pipeline={"stages": 2, "microbatches": N_MICROBATCHES, "activations": "none", "mode": mode},
    )
    return SimulatedSwarm(sim=Simulation(seed=31), root=root, manifest=manifest, task=task, make_daemon=StageDaemon)


def delays(swarm: SimulatedSwarm) -> dict[int, float]:
    """Measured in each step; all replicas measure the same."""
    found: dict[int, float] = {}
    for number in range(len(swarm.daemons)):
        for event in events(swarm, number, StepPassed):
            assert found.setdefault(event.step, event.delay) == event.delay
    return found


@pytest.mark.parametrize("mode", ["synchronous", "stash", "compensate", "predict", "compensate-predict"])
def test_the_steps_are_those_of_the_equations_with_the_measured_delay(tmp_path: Path, mode: str) -> None:
    swarm = digits(tmp_path, mode)

    async def main() -> dict[int, Result]:
        swarm.start(4)
        return dict(enumerate(await swarm.finish(range(4))))

    results = swarm.run(main())

    check_stages_agree(swarm, results, n_stages=2)
    assert counted(swarm) == dict.fromkeys(range(1, N_STEPS + 1), N_MICROBATCHES)
    late = 0.0 if mode == "synchronous" else 1.0
    assert delays(swarm) == {1: 0.0, **dict.fromkeys(range(2, N_STEPS + 1), late)}
    found, expected = whole_model(swarm), single_process(swarm, mode, delays(swarm))
    assert sorted(found) == sorted(expected)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-5
    assert not any(events(swarm, number, Warned) for number in range(4))


def single_process(swarm: SimulatedSwarm, mode: str, delays: dict[int, float]) -> dict[str, torch.Tensor]:
    """The equations of `algorithms/pipeline/delayed.py`, written out for the whole model."""
    task, seed = swarm.task, swarm.manifest.manifest.run.seed
    assert isinstance(task, Staged)
    model = task.build_model(seed)
    w = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    v = {name: torch.zeros_like(tensor) for name, tensor in w.items()}
    ahead = w
    for step in range(N_STEPS):
        delay = delays[step + 1]
        g = gradient(task, model, seed, step, ahead if delay else w)
        ahead = {name: w[name] - LR * v[name] if "predict" in mode else w[name] for name in w}
        v = {name: MOMENTUM * v[name] + g[name] for name in w}
        a, b = compensation(MOMENTUM, delay) if "compensate" in mode else (1.0, 0.0)
        w = {name: w[name] - LR * (a * v[name] + b * g[name]) for name in w}
    return w


def gradient(
    task: Staged, model: torch.nn.Module, seed: int, step: int, weights: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Of the mean loss over a step's samples at these weights."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    batches = step_batches(task, seed=seed, step=step, n_microbatches=N_MICROBATCHES, n_samples=4)
    loss = torch.stack([task.loss(model, batch) for batch in batches]).mean()
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


@pytest.mark.parametrize("seed", [41, 42])
def test_a_peer_killed_and_back_costs_no_microbatch_though_trainers_run_ahead(tmp_path: Path, seed: int) -> None:
    sim = Simulation(seed=seed)
    swarm = chars(
        tmp_path,
        sim=sim,
        seed=seed,
        run={"steps": 16},
        method={"options": {"clip": 1.0, "optimizer": "sgd", "momentum": MOMENTUM}},
        schedule={"lr": LR},
        pipeline={"activations": "int8", "mode": "compensate-predict"},
    )
    victim, wait_s = 1 + sim.random.randrange(5), sim.random.uniform(0.0, 1.0)

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
    assert counted(swarm) == dict.fromkeys(range(1, 17), N_MICROBATCHES)
    measured = delays(swarm)
    assert measured[1] == 0
    assert 0.5 < sum(measured.values()) / len(measured) < 1
    losses = sorted((e.step, e.loss) for number in range(6) for e in events(swarm, number, Evaluated))
    assert losses[-1][1] < losses[0][1]


def test_what_passes_touch_is_changed_lent_and_dropped_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[bool] = [False]
    found: dict[str, set[bool]] = {}
    compute = SimulatedNetwork.compute

    async def watched(network: SimulatedNetwork, work: Callable[[], T], cost: Cost) -> T:
        def in_turn() -> T:
            inside[0] = True
            try:
                return work()
            finally:
                inside[0] = False

        return await compute(network, in_turn, cost)

    def note(name: str) -> None:
        method = getattr(StageModel, name)

        def noted(*args: Any, **options: Any) -> Any:
            found.setdefault(name, set()).add(inside[0])
            return method(*args, **options)

        monkeypatch.setattr(StageModel, name, noted)

    monkeypatch.setattr(SimulatedNetwork, "compute", watched)
    names = ("sums", "prepare", "update", "lend", "borrow", "forget")
    for name in names:
        note(name)
    swarm = chars(tmp_path, sim=Simulation(seed=44), run={"steps": 3}, pipeline={"mode": "stash"})

    async def main() -> None:
        swarm.start(6)
        await swarm.finish(range(6))

    swarm.run(main())

    assert found == {name: {True} for name in names}


def test_not_waiting_saves_time(tmp_path: Path) -> None:
    def seconds(mode: str) -> float:
        swarm = chars(tmp_path / mode, sim=Simulation(seed=43), run={"steps": 12}, pipeline={"mode": mode})

        async def main() -> float:
            swarm.start(6)
            await swarm.reach(2)
            started_s = asyncio.get_running_loop().time()
            await swarm.finish(range(6))
            return asyncio.get_running_loop().time() - started_s

        return swarm.run(main())

    waiting, ahead = seconds("synchronous"), seconds("stash")

    assert ahead / waiting < 0.75  # .63 of virtual time; without a model's change it is the same each time
