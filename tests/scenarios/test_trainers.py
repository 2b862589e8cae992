"""Peers that only train: they pass microbatches, hold no weights, and have a vote like everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.daemon import Daemon, Result
from gossamer.peer.event_kinds import Evaluated, Resynced, Settled, StepPassed, Warned
from gossamer.peer.pipeline.daemon import StageDaemon
from gossamer.peer.rounds.roster import NO_STAGE, WHOLE
from gossamer.simulator.world import Simulation

from .swarm import SimulatedSwarm, identity
from .test_pipelines import N_MICROBATCHES, chars, counted, events, single_process, whole_model

pytestmark = pytest.mark.scenario


def roles(n_serving: int, *, seed: int = 0, replicas_train: bool = True) -> Callable[..., Daemon]:
    """Makes daemons of which the first serve a stage and the others only train."""
    serving = {identity(seed, number).peer_id for number in range(n_serving)}

    def make(**options: Any) -> Daemon:
        serves = options["identity"].peer_id in serving
        return StageDaemon(stage=WHOLE if serves else NO_STAGE, trains=replicas_train or not serves, **options)

    return make


def check_states(swarm: SimulatedSwarm, results: dict[int, Result]) -> None:
    """One state for each stage, and one for all who have none."""
    found: dict[int, set[bytes]] = {}
    for number, result in results.items():
        daemon = swarm.daemons[number]
        assert isinstance(daemon, StageDaemon)
        found.setdefault(daemon.replica.stage, set()).add(result.digest)
    assert set(found) == {0, 1, 2, NO_STAGE}
    assert all(len(digests) == 1 for digests in found.values())


def test_trainers_and_replicas_apart_make_the_steps_of_one_process(tmp_path: Path) -> None:
    swarm = chars(tmp_path, sim=Simulation(seed=1), run={"steps": 8})
    swarm.make_daemon = roles(4, replicas_train=False)

    async def main() -> dict[int, Result]:
        swarm.start(6)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_states(swarm, results)
    assert counted(swarm) == dict.fromkeys(range(1, 9), N_MICROBATCHES)
    found, expected = whole_model(swarm), single_process(swarm, 8)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-5
    for number in (4, 5):
        passed = events(swarm, number, StepPassed)
        assert {event.stage for event in passed} == {None}
        assert not any(event.backward_passes or event.forward_passes for event in passed)
        assert not events(swarm, number, Warned)
    assert sorted(e.step for number in range(6) for e in events(swarm, number, Evaluated)) == [0, 8]


@pytest.mark.parametrize("seed", range(2))
def test_a_trainer_that_dies_costs_no_microbatch_and_comes_back_without_a_download(tmp_path: Path, seed: int) -> None:
    sim = Simulation(seed=seed)
    swarm = chars(tmp_path, sim=sim, seed=seed, run={"steps": 16})
    swarm.make_daemon = roles(4, seed=seed)
    wait_s = sim.random.uniform(0.0, 1.0)

    async def main() -> dict[int, Result]:
        swarm.start(6)
        await swarm.reach(5)
        await asyncio.sleep(wait_s)
        swarm.hosts[5].kill()
        await asyncio.sleep(4.0)
        swarm.restart(5)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_states(swarm, results)
    assert counted(swarm) == dict.fromkeys(range(1, 17), N_MICROBATCHES)
    assert all(event.bytes == 0 for event in events(swarm, 5, Resynced))
    assert {event.stage for event in events(swarm, 5, Settled)} == {None}


@pytest.mark.parametrize(
    "tables",
    [
        pytest.param({"method": {"name": "local", "options": {"h": 4}}}, id="local steps"),
        pytest.param({"method": {"name": "demo", "options": {"k": 4}}}, id="demo"),
        pytest.param({"method": {"name": "terngrad", "options": {}}}, id="terngrad"),
        pytest.param({"pipeline": {"mode": "stash"}}, id="a step ahead"),
    ],
)
def test_a_trainer_that_comes_late_follows_whatever_the_replicas_do(tmp_path: Path, tables: dict[str, Any]) -> None:
    swarm = chars(tmp_path, sim=Simulation(seed=3), run={"steps": 16}, group={"start_peers": 5}, **tables)
    swarm.make_daemon = roles(5)

    async def main() -> dict[int, Result]:
        swarm.start(5)
        await swarm.reach(3)
        swarm.start(1)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_states(swarm, results)
    assert set(counted(swarm).values()) == {N_MICROBATCHES}
    assert len(counted(swarm)) == 16
    assert any(event.stage is None for event in events(swarm, 5, StepPassed))


def test_trainers_alone_do_not_begin(tmp_path: Path) -> None:
    swarm = chars(tmp_path, sim=Simulation(seed=2), run={"steps": 4}, group={"start_peers": 4})
    swarm.make_daemon = roles(2)

    async def main() -> dict[int, Result]:
        swarm.start(5)
        await asyncio.sleep(20.0)
        assert max(daemon.replica.step for daemon in swarm.daemons) == 0
        swarm.make_daemon = partial(StageDaemon)
        swarm.start(1)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_states(swarm, results)
    assert [event.message for event in events(swarm, 0, Warned)] == [
        "nobody here may serve stage 2: the run begins once somebody does"
    ]
