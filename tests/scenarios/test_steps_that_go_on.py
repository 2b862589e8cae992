"""Pipelines whose steps take longer than peers can wait: the roster changes, and the step goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from gossamer.peer.checkpoints import load_newest
from gossamer.peer.daemon import Result
from gossamer.peer.event_kinds import Joined, RoundEnded, StepPassed, short_id
from gossamer.peer.pipeline.group import StageGroup
from gossamer.simulator.world import Simulation

from .swarm import SimulatedSwarm
from .test_pipelines import chars, check_stages_agree, counted, events, single_process, stage_of

pytestmark = pytest.mark.scenario

N_STEPS, N_MICROBATCHES = 4, 48
FLOPS_PER_S = 1.2e6
"""Slow machines: a step takes most of a minute."""


def slow(root: Path, *, seed: int, n_peers: int) -> SimulatedSwarm:
    return chars(
        root,
        sim=Simulation(seed=seed),
        seed=seed,
        run={"steps": N_STEPS},
        group={"start_peers": n_peers},
        pipeline={"microbatches": N_MICROBATCHES, "rebalance_every_s": 0.0},
    )


def group_of(swarm: SimulatedSwarm, number: int) -> StageGroup:
    group = swarm.daemons[number].group
    assert isinstance(group, StageGroup)
    return group


def check_steps(swarm: SimulatedSwarm, results: dict[int, Result]) -> None:
    """They are those of one process, each with all its microbatches."""
    check_stages_agree(swarm, results)
    swarm.check_one_result()
    assert counted(swarm) == dict.fromkeys(range(1, N_STEPS + 1), N_MICROBATCHES)
    found: dict[str, torch.Tensor] = {}
    for number in results:
        found.update(load_newest(swarm.root / str(number)).checkpoint.model)
    expected = single_process(swarm, N_STEPS)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-4


def test_a_newcomer_serves_in_the_step_in_which_it_comes(tmp_path: Path) -> None:
    swarm = slow(tmp_path, seed=1, n_peers=5)

    async def main() -> dict[int, Result]:
        swarm.start(5, flops_per_s=FLOPS_PER_S)
        await swarm.reach(2)
        swarm.start(1, flops_per_s=FLOPS_PER_S)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_steps(swarm, results)
    (third,) = [event for event in events(swarm, 5, StepPassed) if event.step == 3]
    assert third.backward_passes > 0
    assert len(swarm.rounds(5)[-1].contributors) == 6
    told = [event.outcome for event in swarm.rounds(0)]
    assert told.count("committed") == N_STEPS
    assert "goes on" in told
    assert "failed" not in told


def test_what_was_counted_is_not_lost_with_who_had_it(tmp_path: Path) -> None:
    swarm = slow(tmp_path, seed=2, n_peers=7)
    victim, n_counted = 0, 0

    async def main() -> dict[int, Result]:
        nonlocal victim, n_counted
        swarm.start(7, flops_per_s=FLOPS_PER_S)
        await swarm.reach(1)
        await asyncio.sleep(2.0)  # until all are there
        first_stage = stage_of(swarm, 6)
        swarm.hosts[6].kill()  # from now on parts are counted often
        await swarm.reach(2)
        await asyncio.sleep(2.0)
        victim = next(number for number in range(1, 6) if stage_of(swarm, number) != first_stage)
        while not n_counted:
            await asyncio.sleep(0.1)
            n_counted = len(group_of(swarm, 0).parts.counted)
        swarm.hosts[victim].kill()
        living = [number for number in range(6) if number != victim]
        return dict(zip(living, await swarm.finish(living), strict=True))

    results = swarm.run(main())

    check_steps(swarm, results)
    name = short_id(swarm.hosts[victim].peer_id)
    rounds = [event for event in swarm.rounds(0) if event.step in (2, 3)]
    assert any(event.outcome == "goes on" and name in event.contributors for event in rounds)
    (third,) = [event for event in rounds if event.outcome == "committed" and event.step == 3]
    assert name not in third.contributors
    passed = [event for number in results for event in events(swarm, number, StepPassed) if event.step == 3]
    assert sum(event.mended for event in passed) <= N_MICROBATCHES - n_counted


@pytest.mark.parametrize("seed", range(4))
def test_who_comes_back_within_a_step_is_counted_on_for_nothing_that_its_earlier_life_held(
    tmp_path: Path, seed: int
) -> None:
    swarm = slow(tmp_path, seed=seed, n_peers=6)
    victim = 1 + swarm.sim.random.randrange(5)
    wait_s = swarm.sim.random.uniform(0.0, 30.0)

    async def main() -> dict[int, Result]:
        swarm.start(6, flops_per_s=FLOPS_PER_S)
        await swarm.reach(2)
        await asyncio.sleep(wait_s)
        swarm.hosts[victim].kill()
        await asyncio.sleep(1.0)
        swarm.restart(victim)
        return dict(enumerate(await swarm.finish(range(6))))

    results = swarm.run(main())

    check_steps(swarm, results)
    assert events(swarm, victim, Joined)
    assert any(event.outcome == "goes on" for number in range(6) for event in events(swarm, number, RoundEnded))
    assert stage_of(swarm, victim) in range(3)
