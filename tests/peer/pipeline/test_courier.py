"""Microbatches carried through stages, in the simulated world."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from gossamer.peer.pipeline.activations import Codec, Compression
from gossamer.peer.pipeline.backlog import Phase
from gossamer.peer.pipeline.candidates import Announcement
from gossamer.peer.pipeline.courier import Carried, Courier, CourierOptions
from gossamer.peer.pipeline.flow import Flow, Load
from gossamer.peer.pipeline.microbatches import MicrobatchId, boundaries
from gossamer.peer.pipeline.passing import Request, StageClient
from gossamer.peer.pipeline.server import ServerOptions, StageServer
from gossamer.peer.pipeline.stage import StageReplica
from gossamer.peer.pipeline.wiring import StageWiring, WiringOptions
from gossamer.peer.rounds.place import Place
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.protocol.errors import BadTensor, InvalidMessage, NoReplica, StaleStage
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import Cost
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation
from gossamer.tasks import Cut, build_stage
from gossamer.tests.peer.pipeline.chains import Chain, batches, replicas, run_microbatch

N, N_SAMPLES, N_STAGES = 10, 4, 3
NAMES = [MicrobatchId(step=0, index=i) for i in range(N)]
OPTIONS = ServerOptions(n_samples_max=N_SAMPLES, flops_per_sample=2e6)
"""At 5e7 FLOP/s, a forward pass takes .16 s and a backward pass .48 s."""


@dataclass(eq=False)
class Placed:
    host: Host
    stage: int
    replica: StageReplica
    server: StageServer


class Swarm:
    """Two replicas of each of three stages, and a trainer."""

    def __init__(
        self,
        seed: int,
        *,
        dropout: float = 0.5,
        per_stage: int = 2,
        options: ServerOptions = OPTIONS,
        busy_pause_s: float = 0.0,
    ) -> None:
        self.sim = Simulation(seed=seed, latency_s=0.01)
        self.task = Chain(options={"dropout": dropout})
        self.cut = Cut(starts=(0, 2, 4), n_layers=7)
        self.kinds = boundaries(self.task, self.cut)
        self.trainer = self.sim.host("trainer")
        self.placed = [self._place(f"{s}-{i}", s, options) for s in range(N_STAGES) for i in range(2)]
        self.wirings = [StageWiring(s, WiringOptions(), random.Random(seed)) for s in range(N_STAGES)]
        for s, wiring in enumerate(self.wirings):
            wiring.update(
                Announcement(peer=p.host.peer_id, stage=s, sequence=1, samples_per_s=25.0)
                for p in self.placed
                if p.stage == s
            )
        self.client = StageClient(self.trainer.network, Codec(Compression.NONE), n_samples_max=N_SAMPLES)
        self.courier = Courier(
            self.client, self.wirings, self.kinds, CourierOptions(timeout_s_min=2.0, busy_pause_s=busy_pause_s)
        )
        self.every = batches(self.task, N, N_SAMPLES)

    def _place(self, name: str, stage: int, options: ServerOptions) -> Placed:
        host = self.sim.host(name, flops_per_s=5e7)
        replica = StageReplica(build_stage(self.task, 0, self.cut, stage), self.kinds[stage], run_seed=9, held_max=64)
        host.network.set_gate(lambda peer: True)
        server = StageServer(host.network, replica, Codec(Compression.NONE), options)
        host.spawn(server.run())
        return Placed(host=host, stage=stage, replica=replica, server=server)

    async def carry(self, i: int) -> Carried:
        return await self.courier.carry(NAMES[i], 0, self.task.inputs(self.every[i]), self.task.targets(self.every[i]))

    async def carry_all(self) -> list[Carried]:
        return list(await asyncio.gather(*(self.carry(i) for i in range(N))))

    def holder(self, peer: PeerId) -> Placed:
        return next(placed for placed in self.placed if placed.host.peer_id == peer)

    def gradient(self, carried: list[Carried]) -> dict[str, Tensor]:
        """The mean over all microbatches, each counted where its route says."""
        total: dict[str, Tensor] = {}
        for stage in range(N_STAGES):
            for one in carried:
                peer = one.route[stage]
                assert peer is not None
                summed = self.holder(peer).replica.collect([one.microbatch])
                for name, gradient in summed.gradients.items():
                    total[name] = total.get(name, torch.zeros(())) + gradient / N
        return total


def _undisturbed(dropout: float = 0.5) -> dict[str, Tensor]:
    task = Chain(options={"dropout": dropout})
    route = replicas(task, N_STAGES, starts=(0, 2, 4))
    for i, batch in enumerate(batches(task, N, N_SAMPLES)):
        run_microbatch(task, route, i, batch)
    return {name: g for replica in route for name, g in replica.collect(NAMES).gradients.items()}


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) <= 1e-6, name


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_microbatches_on_random_routes_give_the_gradient_of_one_chain(dropout: float) -> None:
    swarm = Swarm(1, dropout=dropout)

    carried = swarm.sim.run(swarm.carry_all())

    _assert_same(swarm.gradient(carried), _undisturbed(dropout))
    assert sum(one.n_rerouted for one in carried) == 0
    holders = Counter(one.route[1] for one in carried)
    assert len(holders) == 2
    assert min(holders.values()) >= 3


@pytest.mark.parametrize("seed", range(12))
def test_a_replica_killed_at_any_instant_leaves_the_gradient_as_if_undisturbed(seed: int) -> None:
    swarm = Swarm(seed)
    victim = swarm.placed[swarm.sim.random.randrange(len(swarm.placed))]
    at_s = swarm.sim.random.uniform(0.05, 6.0)

    async def disturbed() -> list[Carried]:
        carrying = asyncio.create_task(swarm.carry_all())
        await asyncio.sleep(at_s)
        victim.host.kill()
        carried = await carrying
        # What the dead one held is passed once more, from the boundaries that were kept.
        for one in carried:
            if one.route[victim.stage] == victim.host.peer_id:
                await swarm.courier.pass_back(one, victim.stage)
        return carried

    carried = swarm.sim.run(disturbed())

    assert all(victim.host.peer_id not in one.route for one in carried)
    _assert_same(swarm.gradient(carried), _undisturbed())


def test_a_full_queue_sends_trainers_elsewhere_and_memory_does_not_grow() -> None:
    options = ServerOptions(n_samples_max=N_SAMPLES, flops_per_sample=2e6, jobs_max=2)
    swarm = Swarm(3, options=options)
    swarm.wirings[0].update([])
    only = [p for p in swarm.placed if p.stage == 0][:1]
    swarm.wirings[0].update([Announcement(peer=p.host.peer_id, stage=0, sequence=2, samples_per_s=25.0) for p in only])

    async def flood() -> list[Carried | BaseException]:
        return await asyncio.gather(*(swarm.carry(i) for i in range(N)), return_exceptions=True)

    results = swarm.sim.run(flood())

    # Two wait and one is computed; the budget of the others ends, with the reason.
    failed = [r for r in results if isinstance(r, NoReplica)]
    assert failed
    assert "ask another replica" in str(failed[0])
    assert any(isinstance(r, Carried) for r in results)


def test_a_full_queue_is_waited_for_and_no_microbatch_is_begun_anew() -> None:
    options = ServerOptions(n_samples_max=N_SAMPLES, flops_per_sample=2e6, jobs_max=1)
    swarm = Swarm(3, dropout=0.0, options=options, busy_pause_s=0.05)

    carried = swarm.sim.run(swarm.carry_all())

    assert sum(one.n_rerouted for one in carried) > 0
    _assert_same(swarm.gradient(carried), _undisturbed(0.0))


@pytest.mark.parametrize("splits", [True, False])
def test_a_backward_pass_costs_the_same_in_one_piece_and_in_two(splits: bool) -> None:
    options = ServerOptions(n_samples_max=N_SAMPLES, flops_per_sample=2e6, splits=splits)
    swarm = Swarm(5, dropout=0.0, options=options)

    async def step() -> None:
        await swarm.carry_all()
        await asyncio.gather(*(placed.server.finish_weights() for placed in swarm.placed))

    swarm.sim.run(step())

    # Ten microbatches: 1 + 3 forward passes of .16 s at the first two stages, 3 at the last.
    busy_s = sum(placed.host.busy_s for placed in swarm.placed)
    assert busy_s == pytest.approx(N * (4 + 4 + 3) * 0.16)


def test_gradients_of_weights_that_are_put_off_stay_few_where_a_stage_is_never_idle() -> None:
    swarm = Swarm(6, dropout=0.0)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, *(placed.replica.n_deferred for placed in swarm.placed))
            await asyncio.sleep(0.02)

    async def step() -> None:
        watching = asyncio.create_task(watch())
        await swarm.carry_all()
        watching.cancel()

    swarm.sim.run(step())

    assert 0 < most <= OPTIONS.deferred_max


def test_a_pass_that_waits_is_served_when_what_was_put_off_is_dropped_before_its_turn() -> None:
    options = ServerOptions(n_samples_max=N_SAMPLES, flops_per_sample=2e6, deferred_max=1)
    swarm = Swarm(7, dropout=0.0, options=options)
    placed = swarm.placed[2]
    kinds, peer = swarm.kinds[1], placed.host.peer_id
    x = torch.zeros(N_SAMPLES, *kinds.input.shape)
    gradient = torch.zeros(N_SAMPLES, *kinds.output.shape)
    encode = swarm.client.encode

    async def main() -> None:
        first = Request(
            phase=Phase.BACKWARD, microbatch=NAMES[0], version=0, stage=1, parcels=(encode(x), encode(gradient))
        )
        second = Request(phase=Phase.FORWARD, microbatch=NAMES[1], version=0, stage=1, parcels=(encode(x),))
        asked = asyncio.create_task(swarm.client.backward(peer, first, is_first=False, timeout_s=5.0))
        await asyncio.sleep(0.1)  # it is being computed
        dropped = asyncio.create_task(placed.host.network.compute(lambda: placed.replica.forget(_none), Cost()))
        await swarm.client.forward(peer, second, kinds.output, timeout_s=5.0)
        await asyncio.gather(asked, dropped)

    swarm.sim.run(main())


def _none(name: MicrobatchId) -> bool:
    return False


def test_what_a_given_up_replica_answers_does_not_count() -> None:
    swarm = Swarm(8, dropout=0.0)
    away = swarm.placed[2].host.peer_id
    roster = Roster.of(Member(placed.host.peer_id, 1, placed.stage) for placed in swarm.placed)
    place = Place(lineage=bytes(16), index=0, roster=roster, base=bytes(32), slot=0)
    load = Load(task=swarm.task, batches=np.stack(swarm.every), step=0, in_flight_max=N, n_stages=N_STAGES)

    async def step() -> Flow:
        async with asyncio.TaskGroup() as tasks:
            flow = Flow(place, swarm.courier, load, lambda: None, lambda why: None, tasks.create_task)
            flow.begin_own(range(N))
            await asyncio.sleep(3.0)
            flow.mend([away])
        return flow

    flow = swarm.sim.run(step())

    # It lives and answers, and was asked; but only the others' gradients are named.
    slot = roster.peers.index(away)
    assert swarm.placed[2].replica.held
    assert len(flow.routes()) == N
    assert all(slot not in route.slots for route in flow.routes())


def test_replicas_refuse_what_is_not_for_them() -> None:
    swarm = Swarm(4)
    peer = swarm.placed[0].host.peer_id
    samples = swarm.task.inputs(swarm.every[0])
    x = swarm.client.encode(samples)

    async def ask(**changes: object) -> None:
        fields = {"phase": Phase.FORWARD, "microbatch": NAMES[0], "version": 0, "stage": 0, "parcels": (x,), **changes}
        request = Request(**fields)  # type: ignore[arg-type]
        await swarm.client.forward(peer, request, swarm.kinds[0].output, timeout_s=10.0)

    async def try_all() -> None:
        await ask()
        with pytest.raises(StaleStage):
            await ask(version=1)
        with pytest.raises(InvalidMessage, match="look its replicas up again"):
            await ask(stage=2)
        with pytest.raises(BadTensor, match="expected 1 to 4 samples"):
            await ask(parcels=(swarm.client.encode(torch.cat([samples, samples])),))
        with pytest.raises(InvalidMessage, match="2 tensors, expected 1"):
            await ask(parcels=(x, x))
        await ask()

    swarm.sim.run(try_all())
