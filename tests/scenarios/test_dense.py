"""Dense rounds over slow lines on virtual time: what a reducer's death in the middle of one costs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from gossamer.simulator.world import Simulation
from gossamer.tasks import Evaluation, Indices, Task

from .swarm import SimulatedSwarm, digits, identity, signed_manifest

pytestmark = pytest.mark.scenario

LINE_BYTES_PER_S = 20e3
"""An undisturbed exchange of the 9.6 kB vector then takes about a second."""


@pytest.mark.parametrize("after_s", [0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
def test_death_of_a_reducer_costs_another_exchange_and_no_deadline(tmp_path: Path, after_s: float) -> None:
    sim = Simulation(seed=31, up_bytes_per_s=LINE_BYTES_PER_S, down_bytes_per_s=LINE_BYTES_PER_S)
    swarm = digits(tmp_path, sim=sim, method={"name": "allreduce"}, run={"steps": 9})

    async def main() -> tuple[list[int], int]:
        swarm.start(4)
        await swarm.reach(5)
        index = await _all_ready(swarm)
        await asyncio.sleep(after_s)
        victim = _not_leading(swarm)
        swarm.hosts[victim].kill()
        living = [number for number in range(4) if number != victim]
        results = await swarm.finish(living)
        assert len({result.digest for result in results}) == 1
        return living, index

    living, index = swarm.run(main())

    swarm.check_one_result()
    durations = {event.round: event.duration_s for number in living for event in swarm.rounds(number)}
    usual_s = durations[index - 1]
    print(f"killed {after_s} s after all were ready: {durations[index]:.2f} s instead of {usual_s:.2f} s")
    assert durations[index] < 2 * usual_s + 0.2
    assert durations[index] < swarm.daemons[0].rules.patience_floor_s


async def _whole_run(swarm: SimulatedSwarm, n_peers: int) -> None:
    swarm.start(n_peers)
    results = await swarm.finish(range(n_peers))
    assert len({result.digest for result in results}) == 1


async def _all_ready(swarm: SimulatedSwarm) -> int:
    """Wait until all have a contribution in one round; its number."""
    while True:
        groups = [daemon.group for daemon in swarm.daemons]
        rounds = [group.round for group in groups if group is not None]
        ready = [one.place.index for one in rounds if one is not None and one.transfer.offered is not None]
        if len(ready) == 4 and len(set(ready)) == 1:
            return ready[0]
        await asyncio.sleep(0.005)  # of virtual time


def _not_leading(swarm: SimulatedSwarm) -> int:
    group = swarm.daemons[0].group
    assert group is not None
    assert group.round is not None
    leader = group.round.place.roster.members[group.round.leader].peer
    return next(n for n, daemon in enumerate(swarm.daemons) if daemon.identity.peer_id != leader)


CODED: dict[str, dict[str, Any]] = {
    "allreduce int8": {"name": "allreduce", "options": {"codec": "int8"}},
    "diloco bf16": {"name": "diloco", "options": {"codec": "bf16", "h": 2}},
}


@pytest.mark.parametrize("method", CODED)
def test_coded_rounds_survive_a_kill_with_one_state(tmp_path: Path, method: str) -> None:
    sim = Simulation(seed=33, up_bytes_per_s=LINE_BYTES_PER_S, down_bytes_per_s=LINE_BYTES_PER_S)
    swarm = digits(tmp_path, sim=sim, method=CODED[method], run={"steps": 40})

    async def main() -> None:
        swarm.start(4)
        await swarm.reach(6)
        await _all_ready(swarm)
        await asyncio.sleep(0.1)
        victim = _not_leading(swarm)
        swarm.hosts[victim].kill()
        await asyncio.sleep(2.0)
        swarm.restart(victim)
        results = await swarm.finish(range(4))
        assert {result.step for result in results} == {40}
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    assert any(len(event.contributors) == 3 for event in swarm.rounds(0))


def test_eight_bits_take_a_quarter_of_the_traffic(tmp_path: Path) -> None:
    sent = {}
    for codec in ("fp32", "int8"):
        sim = Simulation(seed=34)
        task = Dense(options={})
        method: dict[str, Any] = {"name": "allreduce", "options": {"optimizer": "sgd", "codec": codec}}
        manifest = signed_manifest(task, identity(0, 0), run={"steps": 2}, method=method, group={"start_peers": 3})
        swarm = SimulatedSwarm(sim=sim, root=tmp_path / codec, manifest=manifest, task=task)
        swarm.run(_whole_run(swarm, 3))
        sent[codec] = sum(sum(host.network.traffic.sent.values()) for host in swarm.hosts)

    print(f"bytes sent by all: {sent}")
    assert sent["int8"] / sent["fp32"] == pytest.approx(0.254, abs=0.01)


def test_slow_line_is_spared_the_reducing(tmp_path: Path) -> None:
    sim = Simulation(seed=32)
    task = Dense(options={})
    tables: dict[str, dict[str, Any]] = {"method": {"name": "allreduce", "options": {"optimizer": "sgd"}}}
    manifest = signed_manifest(task, identity(0, 0), run={"steps": 4}, **tables)
    swarm = SimulatedSwarm(sim=sim, root=tmp_path, manifest=manifest, task=task)

    async def main() -> None:
        swarm.start(3)
        swarm.start(1, up_bytes_per_s=12.5e5, down_bytes_per_s=12.5e5)
        results = await swarm.finish(range(4))
        assert len({result.digest for result in results}) == 1

    swarm.run(main())

    swarm.check_one_result()
    first, *_, last = swarm.rounds(0)
    print(
        f"one of four on a line ten times slower: {first.duration_s:.1f} s with equal parts, then {last.duration_s:.1f}"
    )
    assert len(first.contributors) == len(last.contributors) == 4
    assert last.duration_s < 0.75 * first.duration_s


class Dense(Task):
    """2.2 M parameters whose gradient costs nothing."""

    name = "tests.scenarios.test_dense:Dense"

    def __init__(self, *, options: Mapping[str, bool | int | float | str], data: Path | None = None) -> None:
        self._slope = torch.linspace(-1.0, 1.0, 2_200_000)

    @property
    def n_train(self) -> int:
        return 1 << 10

    def build_model(self, seed: int) -> torch.nn.Module:
        model = torch.nn.Linear(2_200_000, 1, bias=False, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            model.weight.zero_()
        return model

    def loss(self, model: torch.nn.Module, indices: Indices) -> torch.Tensor:
        weight = next(iter(model.parameters()))
        return (weight * self._slope).sum() / weight.numel()

    def evaluate(self, model: torch.nn.Module) -> Evaluation:
        return Evaluation(loss=0.0)

    def fingerprint(self) -> str:
        return "0" * 64
