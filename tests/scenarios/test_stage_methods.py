"""Every method that replicas of a stage may exchange by, through pipelines of real daemons on virtual time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gossamer.peer.daemon import Result
from gossamer.peer.event_kinds import Evaluated, StepPassed, Warned
from gossamer.peer.pipeline.daemon import StageDaemon
from gossamer.peer.pipeline.drifting import DriftingModel
from gossamer.peer.pipeline.group import StageGroup
from gossamer.peer.rounds.decision import HASH_BYTES
from gossamer.simulator.world import Simulation

from .swarm import SimulatedSwarm
from .test_pipelines import (
    N_MICROBATCHES,
    N_STAGES,
    chars,
    check_stages_agree,
    counted,
    events,
    single_process,
    stage_of,
    whole_model,
)

pytestmark = pytest.mark.scenario

PLAIN = {"clip": 0.0, "optimizer": "sgd", "momentum": 0.0}
N_SAMPLES = 4


def samples_settled(swarm: SimulatedSwarm, number: int) -> int:
    """Samples behind all drifts that agreed steps have averaged at a peer's stage: the weights of their payloads."""
    group = swarm.daemons[number].group
    assert isinstance(group, StageGroup)
    form, total = drifting(swarm, number).method.format, 0.0
    for committed in group.ledger.since(0, group.index):
        for item in group.wanted(committed.decision, committed.roster):
            data = group.ledger.item(item.hash)
            assert data is not None
            total += float(form.decode(bytes(data))[-1]) if len(data) > HASH_BYTES else 0.0
    return int(total)


def made_up(swarm: SimulatedSwarm, number: int) -> int:
    return sum(event.made_up for event in events(swarm, number, StepPassed))


def drifting(swarm: SimulatedSwarm, number: int) -> DriftingModel:
    daemon = swarm.daemons[number]
    assert isinstance(daemon, StageDaemon)
    assert isinstance(daemon.replica, DriftingModel)
    return daemon.replica


def undisturbed(swarm: SimulatedSwarm) -> dict[int, Result]:
    async def main() -> dict[int, Result]:
        swarm.start(6)
        return dict(enumerate(await swarm.finish(range(6))))

    return swarm.run(main())


def test_one_local_step_of_plain_descent_is_data_parallel(tmp_path: Path) -> None:
    sim = Simulation(seed=21)
    swarm = chars(tmp_path, sim=sim, run={"steps": 6}, method={"name": "local", "options": {"h": 1, **PLAIN}})

    results = undisturbed(swarm)

    check_stages_agree(swarm, results)
    assert counted(swarm) == dict.fromkeys(range(1, 7), N_MICROBATCHES)
    found, expected = whole_model(swarm), single_process_of(swarm, "allreduce", 6)
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-6
    assert not any(events(swarm, number, Warned) for number in range(6))


def single_process_of(swarm: SimulatedSwarm, method: str, n_steps: int) -> dict[str, torch.Tensor]:
    """What the same samples make of the whole model by another method with plain descent."""
    manifest = swarm.manifest.manifest
    chosen = manifest.method.model_copy(update={"name": method, "options": PLAIN})
    signed = replace(swarm.manifest, manifest=manifest.model_copy(update={"method": chosen}))
    return single_process(replace(swarm, manifest=signed), n_steps)


@pytest.mark.parametrize(
    ("method", "options", "lr"),
    [
        ("terngrad", {}, 0.003),
        ("local", {"h": 4}, 0.003),
        ("local", {"h": 2, "rule": "qsr", "codec": "int8"}, 0.003),
        ("diloco", {"h": 4}, 0.003),
    ],
    ids=["terngrad", "local", "qsr int8", "diloco"],
)
def test_a_kill_and_a_newcomer_cost_no_microbatch(
    tmp_path: Path, method: str, options: dict[str, Any], lr: float
) -> None:
    sim = Simulation(seed=22)
    swarm = chars(
        tmp_path,
        sim=sim,
        run={"steps": 16},
        method={"name": method, "options": options},
        schedule={"lr": lr, "kind": "cosine"},
        data={"batch_size": N_SAMPLES},
    )

    async def main() -> dict[int, Result]:
        swarm.start(6)
        await swarm.reach(7)
        swarm.hosts[3].kill()
        swarm.start(1)
        living = [0, 1, 2, 4, 5, 6]
        return dict(zip(living, await swarm.finish(living), strict=True))

    results = swarm.run(main())

    check_stages_agree(swarm, results)
    assert counted(swarm) == dict.fromkeys(range(1, 17), N_MICROBATCHES)
    losses = sorted((e.step, e.loss) for number in results for e in events(swarm, number, Evaluated))
    assert losses[-1][0] == 16
    assert losses[-1][1] < losses[0][1]
    assert stage_of(swarm, 6) in range(N_STAGES)
    if method == "terngrad":
        return
    for number in (0, 1, 2, 4, 5):
        assert len(drifting(swarm, number).unsettled) == 0
        assert samples_settled(swarm, number) == 16 * N_MICROBATCHES * N_SAMPLES
    assert made_up(swarm, 0) > 0
