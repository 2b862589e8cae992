"""Every method, in daemons whose messages arrive in ever different orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.algorithms import METHODS
from gossamer.simulator.world import Simulation

from .swarm import digits

pytestmark = pytest.mark.scenario

N_ROUNDS = 200
OPTIONS: dict[str, dict[str, Any]] = {
    "diloco": {"h": 2},
    "local": {"h": 1, "rule": "qsr"},
    "sparseloco": {"h": 2},
}


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.takes_gradients])
def test_replicas_are_bit_identical_after_200_rounds_of_random_arrival(tmp_path: Path, name: str) -> None:
    options = OPTIONS.get(name, {})
    steps = N_ROUNDS * int(options.get("h", 1))
    sim = Simulation(seed=5, latency_s=0.02, jitter_s=0.05)
    never = {"eval_every_steps": 10_000, "checkpoint_every_steps": 10_000}
    swarm = digits(
        tmp_path,
        sim=sim,
        method={"name": name, "options": options},
        run={"steps": steps},
        group={"start_peers": 3},
        data={"batch_size": 4},
        limits=never,
    )

    async def main() -> None:
        swarm.start(3)
        results = await swarm.finish(range(3))
        assert {result.step for result in results} == {steps}
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    assert len(swarm.rounds(1)) >= N_ROUNDS
