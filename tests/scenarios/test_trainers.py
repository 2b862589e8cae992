"""Peers that only train: they pass microbatches, hold no weights, and have no vote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.daemon import Daemon, Result
from gossamer.peer.event_kinds import Evaluated, Joined, Resynced, Settled, StepPassed, Warned, short_id
from gossamer.peer.pipeline.daemon import StageDaemon
from gossamer.peer.rounds.roster import NO_STAGE, WHOLE
from gossamer.protocol import pipelines_pb2 as pb
from gossamer.protocol.errors import InvalidMessage, UsageError
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


def test_they_and_replicas_apart_make_the_steps_of_one_process(tmp_path: Path) -> None:
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
def test_one_that_dies_costs_no_microbatch_and_comes_back_without_a_state(tmp_path: Path, seed: int) -> None:
    sim = Simulation(seed=seed)
    swarm = chars(tmp_path, sim=sim, seed=seed, run={"steps": 40})
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
    assert counted(swarm) == dict.fromkeys(range(1, 41), N_MICROBATCHES)
    (resynced,) = events(swarm, 5, Resynced)
    assert (resynced.bytes, resynced.how.endswith("only trains")) == (0, True)
    assert {event.stage for event in events(swarm, 5, Settled)} == {None}
    assert max(event.step for event in events(swarm, 5, StepPassed)) == 40


def test_the_death_of_most_members_stops_nothing_if_they_only_train(tmp_path: Path) -> None:
    swarm = chars(tmp_path, sim=Simulation(seed=1), run={"steps": 20}, group={"start_peers": 7})
    swarm.make_daemon = roles(3)

    async def main() -> dict[int, Result]:
        swarm.start(7)
        await swarm.reach(8)
        for number in range(3, 7):
            swarm.hosts[number].kill()
        return dict(enumerate(await swarm.finish(range(3))))

    results = swarm.run(main())

    assert {result.step for result in results.values()} == {20}
    assert counted(swarm) == dict.fromkeys(range(1, 21), N_MICROBATCHES)


@pytest.mark.parametrize("flags_again", [True, False])
def test_a_run_that_was_cut_off_goes_on_from_its_replicas_checkpoints(tmp_path: Path, flags_again: bool) -> None:
    limits = {"checkpoint_every_steps": 5, "eval_every_steps": 1000}
    swarm = chars(tmp_path, sim=Simulation(seed=1), run={"steps": 16}, group={"start_peers": 7}, limits=limits)
    swarm.make_daemon = roles(4)

    async def main() -> dict[int, Result]:
        swarm.start(7)
        await swarm.reach(8)
        for number in range(4):
            swarm.hosts[number].kill()
        await asyncio.sleep(5.0)
        for number in range(4, 7):
            swarm.daemons[number].leave()  # with checkpoints that are newer, and have no weights
        await swarm.finish(range(4, 7))
        await asyncio.sleep(70.0)
        if not flags_again:
            swarm.make_daemon = partial(StageDaemon)
        for number in range(7):
            swarm.restart(number)
        return dict(enumerate(await swarm.finish(range(7))))

    results = swarm.run(main())

    check_states(swarm, results)
    found, expected = whole_model(swarm), single_process(swarm, 16)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-5
    assert all(not events(swarm, number, StepPassed)[-1].backward_passes for number in range(4, 7))


def test_on_a_full_roster_there_is_room_for_replicas_that_come_back(tmp_path: Path) -> None:
    group = {"start_peers": 6, "peers_max": 6}
    swarm = chars(tmp_path, sim=Simulation(seed=1), run={"steps": 20}, group=group)
    swarm.make_daemon = roles(3)

    async def main() -> dict[int, Result]:
        swarm.start(6)
        await swarm.reach(3)
        swarm.start(1)  # waits for a place
        await swarm.reach(6)
        swarm.hosts[2].kill()
        await asyncio.sleep(15.0)
        swarm.restart(2)
        return dict(enumerate(await swarm.finish(range(3))))

    results = swarm.run(main())

    assert {result.step for result in results.values()} == {20}
    waited = short_id(swarm.hosts[6].peer_id)
    assert not any(waited in event.roster for event in events(swarm, 0, Joined))


def test_a_pass_that_is_sent_to_who_serves_nothing_is_refused_and_does_no_harm(tmp_path: Path) -> None:
    swarm = chars(tmp_path, sim=Simulation(seed=1), run={"steps": 8})
    swarm.make_daemon = roles(4)

    async def main() -> list[str]:
        swarm.start(6)
        await swarm.reach(2)
        refused = []
        for stage in (0, 2, NO_STAGE):
            for kind in (pb.PASS_FORWARD, pb.PASS_BACKWARD, pb.PASS_EVALUATE):
                request = pb.PassRequest(step=2, version=2, stage=stage, kind=kind).SerializeToString()
                with pytest.raises(InvalidMessage) as failure:
                    await swarm.hosts[0].network.call(swarm.hosts[5].peer_id, "stage/pass", request, timeout_s=5.0)
                refused.append(str(failure.value))
        await swarm.finish(range(6))
        return refused

    assert all("look its replicas up again" in message for message in swarm.run(main()))


def test_who_neither_serves_nor_trains_is_refused(tmp_path: Path) -> None:
    swarm = chars(tmp_path, sim=Simulation(seed=1), run={"steps": 8})
    swarm.make_daemon = partial(StageDaemon, stage=NO_STAGE, trains=False)

    async def main() -> None:
        swarm.start(1)
        with pytest.raises(UsageError, match="leave --replica-only out"):
            await swarm.finish([0])

    swarm.run(main())


@pytest.mark.parametrize(
    "tables",
    [
        pytest.param({"method": {"name": "local", "options": {"h": 4}}}, id="local steps"),
        pytest.param({"method": {"name": "demo", "options": {"k": 4}}}, id="demo"),
        pytest.param({"method": {"name": "terngrad", "options": {}}}, id="terngrad"),
        pytest.param({"pipeline": {"mode": "stash"}}, id="a step ahead"),
    ],
)
def test_one_that_comes_late_follows_whatever_the_replicas_do(tmp_path: Path, tables: dict[str, Any]) -> None:
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


def test_they_alone_do_not_begin(tmp_path: Path) -> None:
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
        "2 of 5 peers here would serve 3 stages: the run begins when more come"
    ]
