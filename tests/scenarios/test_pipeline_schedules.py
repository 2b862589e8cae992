"""Gradients through pipelines of real daemons, on virtual time: for any cut and any schedule those of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossamer.algorithms.pipeline.schedules import SCHEDULES
from gossamer.peer.daemon import Result
from gossamer.peer.event_kinds import Warned
from gossamer.peer.pipeline.flow import step_batches
from gossamer.simulator.world import Simulation
from gossamer.tasks import Staged

from .test_pipelines import chars, counted, events, whole_model

pytestmark = pytest.mark.scenario

N_LAYERS = 4
"""With embedding and head, six stages at most."""
N_MICROBATCHES, N_SAMPLES = 12, 2


@pytest.mark.parametrize("n_stages", [1, 2, 3, 6])
@pytest.mark.parametrize("schedule", ["credit", *SCHEDULES])
def test_the_gradient_is_that_of_one_process(tmp_path: Path, n_stages: int, schedule: str) -> None:
    sim = Simulation(seed=n_stages)
    n_peers = max(2, n_stages)  # at six stages one replica each; every peer passes microbatches through all stages
    swarm = chars(
        tmp_path,
        sim=sim,
        layers=N_LAYERS,
        run={"steps": 1},
        schedule={"lr": 1.0},  # so that the step of plain descent is the gradient
        data={"batch_size": N_SAMPLES},
        group={"start_peers": n_peers},
        pipeline={"stages": n_stages, "microbatches": N_MICROBATCHES, "schedule": schedule},
    )

    async def main() -> list[Result]:
        swarm.start(n_peers)
        return list(await swarm.finish(range(n_peers)))

    swarm.run(main())

    assert counted(swarm) == {1: N_MICROBATCHES}
    assert not any(events(swarm, number, Warned) for number in range(n_peers))
    task = swarm.task
    assert isinstance(task, Staged)
    model = task.build_model(swarm.manifest.manifest.run.seed)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    expected = gradient(swarm.manifest.manifest.run.seed, task, model)
    after = whole_model(swarm)
    assert sorted(after) == sorted(expected)
    for name in expected:
        torch.testing.assert_close(before[name] - after[name], expected[name], rtol=0, atol=1e-6)


def gradient(seed: int, task: Staged, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of the mean loss over the first step's samples, in one process."""
    batches = step_batches(task, seed=seed, step=0, n_microbatches=N_MICROBATCHES, n_samples=N_SAMPLES)
    loss = torch.stack([task.loss(model, batch) for batch in batches]).mean()
    names = [name for name, _ in model.named_parameters()]
    return dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))
