"""Pipelines of real daemons on virtual time: one step for all stages, every microbatch counted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.event_kinds import Evaluated, StepPassed
from gossamer.peer.events import read_events
from gossamer.peer.pipeline.daemon import StageDaemon
from gossamer.simulator.world import Simulation
from gossamer.tasks import build_task

from .swarm import SimulatedSwarm, identity, signed_manifest

pytestmark = pytest.mark.scenario

SMALL = {"d_model": 16, "n_layers": 3, "n_heads": 2, "context": 16}
N_MICROBATCHES = 6


def chars(root: Path, *, sim: Simulation, seed: int = 0, **tables: Any) -> SimulatedSwarm:
    """A swarm that trains a small language model in three stages."""
    task = build_task("chars", SMALL)
    settings: dict[str, Any] = {
        "method": {"name": "allreduce", "options": {"clip": 0.0}},
        "data": {"batch_size": 4},
        "group": {"start_peers": 6},
        "pipeline": {"stages": 3, "microbatches": N_MICROBATCHES, "activations": "none"},
    }
    for name, table in tables.items():
        settings[name] = {**settings.get(name, {}), **table}
    manifest = signed_manifest(task, identity(seed, 0), **settings)
    return SimulatedSwarm(sim=sim, root=root, manifest=manifest, task=task, seed=seed, make_daemon=StageDaemon)


def events(swarm: SimulatedSwarm, number: int, kind: type[Any]) -> list[Any]:
    entries = read_events(swarm.root / str(number) / "events.jsonl")
    return [entry.event for entry in entries if isinstance(entry.event, kind)]


def test_three_stages_on_six_peers_learn(tmp_path: Path) -> None:
    sim = Simulation(seed=1)
    swarm = chars(tmp_path, sim=sim)

    async def main() -> None:
        swarm.start(6)
        results = await swarm.finish(range(6))
        assert {result.step for result in results} == {12}

    swarm.run(main())
    for number in range(6):
        print(events(swarm, number, StepPassed)[-1])
        print(events(swarm, number, Evaluated))
