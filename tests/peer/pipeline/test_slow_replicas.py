"""Replicas of unequal speed: what they get, and what a step loses by them. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean

import pytest

from gossamer.peer.pipeline.activations import Codec, Compression
from gossamer.peer.pipeline.candidates import Announcement
from gossamer.peer.pipeline.courier import Carried, Courier, CourierOptions
from gossamer.peer.pipeline.microbatches import MicrobatchId, boundaries
from gossamer.peer.pipeline.passing import StageClient
from gossamer.peer.pipeline.server import ServerOptions, StageServer
from gossamer.peer.pipeline.stage import StageReplica
from gossamer.peer.pipeline.wiring import StageWiring, WiringOptions
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation
from gossamer.tasks import Cut, build_stage
from gossamer.tests.peer.pipeline.chains import Chain, batches

FAST = 5e7
"""FLOP/s: a backward pass of four samples takes .1 s."""
N, N_SAMPLES, N_TRAINERS, CREDIT = 62, 4, 2, 4
N_STEPS, SETTLED = 9, 3
OPTIONS = ServerOptions(n_samples_max=N_SAMPLES, flops_per_sample=FAST / 120, splits=False)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Of the settled steps."""

    step_s: float
    shares: tuple[float, ...]
    """Microbatches of each replica of the second stage, in those of the first one."""
    n_rerouted: int


class Swarm:
    """Trainers, one quick replica of the first stage, and replicas of the second, with these speeds."""

    def __init__(self, speeds: Sequence[float], *, n_trainers: int = N_TRAINERS) -> None:
        self.sim = Simulation(seed=0, latency_s=0.001)
        self.task = Chain()
        self.cut = Cut(starts=(0, 4), n_layers=7)
        self.kinds = boundaries(self.task, self.cut)
        first = self._place("first", 0, 100 * FAST)
        self.seconds = [self._place(f"second-{i}", 1, speed) for i, speed in enumerate(speeds)]
        placed = [(0, first), *((1, host) for host in self.seconds)]
        self.couriers = [self._courier(f"trainer-{i}", placed) for i in range(n_trainers)]
        self.every = batches(self.task, N, 1)
        self.n_passed: Counter[str] = Counter()
        self.n_rerouted = 0

    def _place(self, name: str, stage: int, flops_per_s: float) -> Host:
        host = self.sim.host(name, flops_per_s=flops_per_s)
        module = build_stage(self.task, 0, self.cut, stage)
        replica = StageReplica(module, self.kinds[stage], run_seed=9, held_max=10_000)
        host.network.set_gate(lambda peer: True)
        host.spawn(StageServer(host.network, replica, Codec(Compression.NONE), OPTIONS).run())
        return host

    def _courier(self, name: str, placed: Sequence[tuple[int, Host]]) -> Courier:
        wirings = [StageWiring(stage, WiringOptions(), random.Random(name)) for stage in range(2)]
        client = StageClient(self.sim.host(name).network, Codec(Compression.NONE), n_samples_max=N_SAMPLES)
        courier = Courier(client, wirings, self.kinds, CourierOptions())
        courier.update(
            [
                # As the replicas' records in the DHT have it, once they have measured themselves.
                Announcement(peer=host.peer_id, stage=stage, sequence=1, samples_per_s=100 * host.flops_per_s / FAST)
                for stage, host in placed
            ]
        )
        return courier

    async def step(self, number: int, n: int = N) -> None:
        """Each trainer passes its part, as many at a time as its credit allows."""
        await asyncio.gather(
            *(self._train(courier, number, range(i, n, len(self.couriers))) for i, courier in enumerate(self.couriers))
        )

    async def _train(self, courier: Courier, number: int, indices: Sequence[int]) -> None:
        credit = asyncio.Semaphore(CREDIT)
        courier.expect(len(indices), N_SAMPLES, N)

        async def carry(index: int) -> None:
            samples = self.every[index].repeat(N_SAMPLES)
            name = MicrobatchId(step=number, index=index)
            async with credit:
                carried = await courier.carry(name, 0, self.task.inputs(samples), self.task.targets(samples))
            self._note(carried)

        await asyncio.gather(*(carry(index) for index in indices))

    def _note(self, carried: Carried) -> None:
        holder = next(host for host in self.seconds if host.peer_id == carried.route[1])
        self.n_passed[holder.name] += 1
        self.n_rerouted += carried.n_rerouted


@cache
def _run(speeds: tuple[float, ...]) -> Seen:
    swarm = Swarm(speeds)

    async def main() -> list[float]:
        durations = []
        for number in range(N_STEPS):
            if number == SETTLED:
                swarm.n_passed.clear()
                swarm.n_rerouted = 0
            started_s = asyncio.get_running_loop().time()
            await swarm.step(number)
            durations.append(asyncio.get_running_loop().time() - started_s)
        return durations

    durations = swarm.sim.run(main())
    most = swarm.n_passed["second-0"]
    return Seen(
        step_s=fmean(durations[SETTLED:]),
        shares=tuple(swarm.n_passed[host.name] / most for host in swarm.seconds),
        n_rerouted=swarm.n_rerouted,
    )


def test_a_replica_ten_times_slower_gets_a_tenth_and_no_step_waits_for_it() -> None:
    alone = _run((FAST,) * 3)

    seen = _run((FAST, FAST, FAST, FAST / 10))

    assert seen.shares[3] == pytest.approx(0.1, abs=0.03)
    assert min(seen.shares[:3]) > 0.9
    assert seen.step_s <= 1.02 * alone.step_s
    assert seen.n_rerouted <= 1  # which of two passes that come at one instant is first may make one of them late


def test_throughput_is_that_of_all_replicas_together() -> None:
    alone = _run((FAST,) * 3)

    seen = _run((FAST, FAST, FAST, FAST / 2))

    assert seen.shares[3] == pytest.approx(0.5, abs=0.1)
    # Three and a half replicas in place of three; passes do not divide evenly among them.
    assert seen.step_s <= 1.08 * alone.step_s * 3 / 3.5


def test_a_pass_that_sticks_is_handed_to_a_fellow_and_counts_once() -> None:
    swarm = Swarm([FAST, FAST], n_trainers=1)

    async def main() -> float:
        for number in range(3):
            await swarm.step(number, 12)
        started_s = asyncio.get_running_loop().time()
        stepping = asyncio.create_task(swarm.step(3, 12))
        await asyncio.sleep(0.25)
        swarm.seconds[1].flops_per_s = FAST / 1000
        await stepping
        return asyncio.get_running_loop().time() - started_s

    seconds = swarm.sim.run(main())

    # Twelve passes of .1 s. The one that sticks takes 100 s, and two more may wait behind it.
    assert seconds < 4.0
    assert swarm.n_passed.total() == 4 * 12
    assert 1 <= swarm.n_rerouted <= CREDIT
