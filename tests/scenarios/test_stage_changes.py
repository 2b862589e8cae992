"""Pipelines of real daemons on virtual time whose replicas move between stages, and whose stages are lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gossamer.peer.daemon import Result
from gossamer.peer.event_kinds import Moved, Resynced, Settled, StageRestored, StepPassed
from gossamer.peer.pipeline.model import StageModel
from gossamer.protocol.errors import BadTensor
from gossamer.simulator.world import Simulation

from .test_pipelines import N_MICROBATCHES, chars, check_stages_agree, counted, events, single_process, stage_of
from .test_pipelines import whole_model as stages_together

N_STEPS = 16


def test_a_slow_stage_gets_the_replica_to_spare_and_the_steps_stay_those_of_one_process(tmp_path: Path) -> None:
    sim = Simulation(seed=11)
    swarm = chars(
        tmp_path, sim=sim, run={"steps": N_STEPS}, group={"start_peers": 7}, pipeline={"rebalance_every_s": 10.0}
    )

    async def main() -> dict[int, Result]:
        swarm.start(7, flops_per_s=2e7)
        await swarm.reach(2)
        for number in range(7):
            if stage_of(swarm, number) == 2:
                swarm.hosts[number].flops_per_s = 6e6
        return dict(enumerate(await swarm.finish(range(7))))

    results = swarm.run(main())

    (number,) = [number for number in range(7) if events(swarm, number, Moved)]
    (moved,) = events(swarm, number, Moved)
    assert (moved.from_stage, moved.to_stage) == (0, 2)
    assert [one.stage for one in events(swarm, number, Settled)] == [0, 2]
    assert events(swarm, number, Resynced)[-1].bytes > 0
    assert any(one.stage == 2 and one.backward_passes for one in events(swarm, number, StepPassed))
    check_stages_agree(swarm, results)
    assert counted(swarm) == dict.fromkeys(range(1, N_STEPS + 1), N_MICROBATCHES)
    found, expected = stages_together(swarm), single_process(swarm, N_STEPS)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-4


def test_a_newcomer_that_was_given_nonsense_asks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = chars(tmp_path, sim=Simulation(seed=15), run={"steps": 10})
    restore = StageModel.restore
    refused: list[int] = []

    def picky(model: StageModel, data: bytes) -> None:
        if not refused:
            refused.append(len(data))
            raise BadTensor("a state that cannot be: refused")
        restore(model, data)

    async def main() -> dict[int, Result]:
        swarm.start(6)
        await swarm.reach(2)
        monkeypatch.setattr(StageModel, "restore", picky)
        swarm.start(1)
        return dict(enumerate(await swarm.finish(range(7))))

    results = swarm.run(main())

    assert refused
    check_stages_agree(swarm, results)
    assert {result.step for result in results.values()} == {10}


def test_a_lost_stage_goes_on_from_its_newest_checkpoint_and_says_what_it_lost(tmp_path: Path) -> None:
    sim = Simulation(seed=12)
    swarm = chars(
        tmp_path,
        sim=sim,
        run={"steps": 20},
        limits={"checkpoint_every_steps": 4},
        pipeline={"rebalance_every_s": 0.0, "restore_after_s": 20.0},
    )
    step = 0

    async def main() -> dict[int, Result]:
        nonlocal step
        swarm.start(6)
        await swarm.reach(10)
        lost = [number for number in range(6) if stage_of(swarm, number) == 1]
        for number in lost:
            swarm.hosts[number].kill()
        await asyncio.sleep(30.0)
        step = max(swarm.daemons[number].replica.step for number in range(6) if number not in lost)
        for number in lost:
            swarm.restart(number)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_stages_agree(swarm, results)
    assert {result.step for result in results.values()} == {20}
    told = {event for number in range(6) for event in events(swarm, number, StageRestored)}
    (one,) = told
    assert (one.stage, one.step, one.from_step) == (1, step, 8)
    assert counted(swarm) == dict.fromkeys(range(1, 21), N_MICROBATCHES)


def test_a_lost_stage_that_nobody_comes_back_to_begins_anew_on_a_replica_to_spare(tmp_path: Path) -> None:
    sim = Simulation(seed=13)
    swarm = chars(
        tmp_path,
        sim=sim,
        run={"steps": 8},
        group={"start_peers": 7},
        pipeline={"rebalance_every_s": 5.0, "restore_after_s": 1.0},
    )
    living: list[int] = []

    async def main() -> dict[int, Result]:
        swarm.start(7)
        await swarm.reach(4)
        living.extend(number for number in range(7) if stage_of(swarm, number) != 1)
        for number in set(range(7)) - set(living):
            swarm.hosts[number].kill()
        return dict(zip(living, await swarm.finish(living), strict=True))

    results = swarm.run(main())

    check_stages_agree(swarm, results)
    (one,) = {event for number in living for event in events(swarm, number, StageRestored)}
    assert (one.stage, one.from_step) == (1, 0)
    assert one.step >= 4
    assert [event.to_stage for number in living for event in events(swarm, number, Moved)][:1] == [1]


def test_a_peer_that_comes_back_takes_the_stage_that_one_death_would_end_and_not_its_own(tmp_path: Path) -> None:
    sim = Simulation(seed=14)
    swarm = chars(
        tmp_path,
        sim=sim,
        run={"steps": 20},
        group={"start_peers": 7},
        limits={"checkpoint_every_steps": 2},
        pipeline={"rebalance_every_s": 0.0},  # nobody else makes up for it
    )
    victim = -1

    async def main() -> dict[int, Result]:
        nonlocal victim
        swarm.start(7)
        await swarm.reach(4)
        victim = next(number for number in range(1, 7) if stage_of(swarm, number) == 0)
        other = next(number for number in range(1, 7) if stage_of(swarm, number) == 2)
        for number in (victim, other):
            swarm.hosts[number].kill()
        await asyncio.sleep(3.0)
        swarm.restart(victim)
        living = [number for number in range(7) if number != other]
        return dict(zip(living, await swarm.finish(living), strict=True))

    results = swarm.run(main())

    assert [one.stage for one in events(swarm, victim, Settled)] == [0, 2]
    assert any(one.stage == 2 and one.backward_passes for one in events(swarm, victim, StepPassed))
    check_stages_agree(swarm, results)
    assert counted(swarm) == dict.fromkeys(range(1, 21), N_MICROBATCHES)
