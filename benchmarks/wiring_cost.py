"""What carrying a microbatch through three stages costs in CPU time, besides the stages' own arithmetic."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from gossamer.peer.pipeline.activations import Compression
from gossamer.peer.pipeline.backlog import Phase
from gossamer.peer.pipeline.courier import Courier, CourierOptions
from gossamer.peer.pipeline.microbatches import MicrobatchId, boundaries
from gossamer.peer.pipeline.passing import StageClient
from gossamer.peer.pipeline.server import ServerOptions, StageServer
from gossamer.peer.pipeline.stage import StageReplica
from gossamer.peer.pipeline.wiring import Announcement, StageWiring, WiringOptions
from gossamer.protocol.identity import PeerId
from gossamer.simulator.world import Simulation
from gossamer.tasks import Staged, build_stage, build_task, cut_by_cost, global_batch

N_STAGES, N_REPLICAS = 3, 3
N_MICROBATCHES, N_SAMPLES = 60, 4
TASK_OPTIONS = {"d_model": 64, "n_layers": 3, "context": 32}


def wiring_cost() -> dict[str, Any]:
    """Milliseconds of CPU for each microbatch."""
    return {"decisions_ms": 1e3 * _decisions_s(), "all_but_arithmetic_ms": {c.value: _carried(c) for c in Compression}}


def _decisions_s() -> float:
    """Choosing replicas and learning their throughput, for the passes of one microbatch through all stages."""
    wiring = StageWiring(0, WiringOptions(), random.Random(0))
    wiring.update(
        Announcement(peer=PeerId(f"peer-{number}"), stage=0, sequence=1, samples_per_s=50.0 + number)
        for number in range(N_REPLICAS)
    )
    n, n_passes = 2000, 2 * N_STAGES - 1
    started_s = time.process_time()
    for number in range(n * n_passes):
        phase = Phase.BACKWARD if number % 2 else Phase.FORWARD
        peer = wiring.choose(phase, N_SAMPLES, float(number))
        wiring.succeeded(peer, phase, N_SAMPLES, 0.1)
    return (time.process_time() - started_s) / n


def _carried(compression: Compression) -> float:
    """Milliseconds of trainer and replicas together: routes, messages, checks, hashes, queues; the simulated network,
    too, in place of a real one."""
    task = build_task("chars", TASK_OPTIONS)
    assert isinstance(task, Staged)
    sim = Simulation(seed=0, latency_s=0.0001)
    cut = cut_by_cost(task, N_STAGES)
    kinds = boundaries(task, cut)
    trainer = sim.host("trainer")
    spent = [0.0]
    wirings = []
    for stage in range(N_STAGES):
        wiring = StageWiring(stage, WiringOptions(), random.Random(stage))
        hosts = [sim.host(f"{stage}-{number}") for number in range(N_REPLICAS)]
        for host in hosts:
            module = build_stage(task, 0, cut, stage)
            replica = _timed(StageReplica(module, kinds[stage], run_seed=0, held_max=N_MICROBATCHES), spent)
            host.network.set_gate(lambda peer: True)
            options = ServerOptions(n_samples_max=N_SAMPLES, flops_per_sample=1e6, splits=False, together_max=N_SAMPLES)
            host.spawn(StageServer(host.network, replica, compression, options).run())
        wiring.update(Announcement(peer=host.peer_id, stage=stage, sequence=1, samples_per_s=100.0) for host in hosts)
        wirings.append(wiring)
    client = StageClient(trainer.network, compression, n_samples_max=N_SAMPLES)
    courier = Courier(client, wirings, kinds, CourierOptions())
    indices = global_batch(seed=0, round_index=0, size=N_MICROBATCHES * N_SAMPLES, n_train=task.n_train)
    every = indices.reshape(N_MICROBATCHES, N_SAMPLES)
    inputs = [(task.inputs(batch), task.targets(batch)) for batch in every]

    async def main() -> None:
        for index, (x, y) in enumerate(inputs):
            await courier.carry(MicrobatchId(step=0, index=index), 0, x, y)

    started_s = time.process_time()
    sim.run(asyncio.wait_for(main(), 1e6))
    return 1e3 * (time.process_time() - started_s - spent[0]) / N_MICROBATCHES


def _timed(replica: StageReplica, spent: list[float]) -> StageReplica:
    """Adds up what the stage's own layers take, forward and (by autograd) backward."""
    run, differentiate = replica._run, replica._differentiate
    depth = [0]

    def measured(function: Any) -> Any:
        def call(*args: Any) -> Any:
            depth[0] += 1
            started_s = time.process_time()
            try:
                return function(*args)
            finally:
                depth[0] -= 1
                if depth[0] == 0:
                    spent[0] += time.process_time() - started_s

        return call

    replica._run, replica._differentiate = measured(run), measured(differentiate)  # type: ignore[method-assign]
    return replica


if __name__ == "__main__":
    print(wiring_cost())
