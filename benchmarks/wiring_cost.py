"""What carrying a microbatch through three stages costs in CPU time, besides the stages' own arithmetic, part by part.

    python -m benchmarks.wiring_cost

`wiring` is what a trainer does so that replicas can come and go: it chooses routes, times passes, watches for overdue
ones, learns throughputs, and keeps tensors to ask again with. Its replicas answer at once, so no message is in it.
`ours` is all of a trainer and its replicas: that, messages, checks, queues, the codec with its checksums, and the event
loop under them. The messages are handed over directly, so no network is in it. `simulated_network` is what
the simulator's adds in place of a real one. `plain_grpc` is the alternative of having no wiring at all: the same five
calls with the same bytes, uncompressed, from a bare gRPC client to a bare gRPC server, without TLS, which look at
nothing; `ours_to_plain_grpc` is for comparing machines of unlike speed. Milliseconds for each microbatch of five
passes; medians of several runs after one that only warms up (libraries load, kernels compile).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from statistics import median
from typing import Any, TypeVar

import grpc
import grpc.aio
import torch

from gossamer.peer.pipeline.activations import Codec, Compression, Parcel
from gossamer.peer.pipeline.backlog import Phase
from gossamer.peer.pipeline.candidates import Announcement
from gossamer.peer.pipeline.courier import Courier, CourierOptions
from gossamer.peer.pipeline.microbatches import Boundaries, Boundary, MicrobatchId, boundaries
from gossamer.peer.pipeline.passing import Answer, Request, Returned, StageClient
from gossamer.peer.pipeline.server import ServerOptions, StageServer
from gossamer.peer.pipeline.stage import StageReplica
from gossamer.peer.pipeline.wiring import StageWiring, WiringOptions
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.network import Cost, Gate, Handler, Network, Record, StreamHandler, Traffic
from gossamer.simulator.world import Simulation
from gossamer.tasks import Staged, build_stage, build_task, cut_by_cost, global_batch

T = TypeVar("T")
N_STAGES, N_REPLICAS, N_RUNS = 3, 3, 3
TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """What passes between the stages."""

    task_options: dict[str, int]
    n_samples: int
    n_microbatches: int


SIZES = {
    "32 kB": Size(task_options={"d_model": 64, "n_layers": 3, "context": 32}, n_samples=4, n_microbatches=60),
    "512 kB": Size(task_options={"d_model": 128, "n_layers": 3, "context": 128}, n_samples=8, n_microbatches=12),
}


class DirectNetwork(Network):
    """Hands calls and streams to the handlers of the others, in the same process, with nothing in between."""

    def __init__(self, identity: Identity, others: dict[PeerId, DirectNetwork]) -> None:
        self.peer_id = identity.peer_id
        self.traffic = Traffic()
        self._calls: dict[str, Handler] = {}
        self._streams: dict[str, StreamHandler] = {}
        self._others = others
        others[self.peer_id] = self

    def serve(self, method: str, handler: Handler, *, public: bool = False) -> None:
        self._calls[method] = handler

    def serve_stream(self, method: str, handler: StreamHandler, *, public: bool = False) -> None:
        self._streams[method] = handler

    def set_gate(self, gate: Gate) -> None:
        pass

    async def call(self, peer: PeerId, method: str, request: bytes, *, timeout_s: float) -> bytes:
        return await self._others[peer]._calls[method](self.peer_id, request)

    def stream(
        self, peer: PeerId, method: str, chunks: AsyncIterator[bytes], *, timeout_s: float
    ) -> AsyncIterator[bytes]:
        return self._others[peer]._streams[method](self.peer_id, chunks)

    async def compute(self, work: Callable[[], T], cost: Cost) -> T:
        return work()

    async def publish(self, key: str, value: bytes, *, ttl_s: float) -> None:
        raise NotImplementedError

    async def lookup(self, key: str) -> list[Record]:
        raise NotImplementedError

    def unix_time_s(self) -> float:
        return 0.0

    async def close(self) -> None:
        pass


def wiring_cost() -> dict[str, Any]:
    """Milliseconds of CPU for each microbatch, by what passes (uncompressed bytes at a boundary) and how."""
    return {
        "routes_ms": round(1e3 * _decisions_s(), 3),
        "wiring_ms": round(_wiring(), 3),
        "by_size": {name: _at_size(size) for name, size in SIZES.items()},
    }


def _at_size(size: Size) -> dict[str, Any]:
    parts = {compression.value: _parts(size, compression) for compression in Compression}
    asyncio.run(_plain_grpc(size))
    plain = median(asyncio.run(_plain_grpc(size)) for _ in range(N_RUNS))
    ratios = {name: round(part["ours_ms"] / plain, 2) for name, part in parts.items()}
    return {**parts, "plain_grpc_ms": round(plain, 3), "ours_to_plain_grpc": ratios}


def _parts(size: Size, compression: Compression) -> dict[str, float]:
    _direct(size, compression)
    ours = median(_direct(size, compression) for _ in range(N_RUNS))
    _simulated(size, compression)
    simulated = median(_simulated(size, compression) for _ in range(N_RUNS))
    codec = median(_codec(size, compression) for _ in range(N_RUNS))
    parts = {
        "ours_ms": ours,
        "of_which_codec_ms": codec,
        "simulated_network_ms": simulated - ours,
    }
    return {name: round(value, 3) for name, value in parts.items()}


def _decisions_s() -> float:
    """Choosing replicas and learning their throughput, for the passes of one microbatch through all stages."""
    wiring = StageWiring(0, WiringOptions(), random.Random(0))
    wiring.update(
        Announcement(peer=PeerId(f"peer-{number}"), stage=0, sequence=1, samples_per_s=50.0 + number)
        for number in range(N_REPLICAS)
    )
    n, n_passes, n_samples = 2000, 2 * N_STAGES - 1, 4
    wiring.expect(1e9, 0.0)
    started_s = time.process_time()
    for number in range(n * n_passes):
        phase = Phase.BACKWARD if number % 2 else Phase.FORWARD
        peer = wiring.choose(phase, n_samples, float(number))
        work = wiring.begin(peer, phase, n_samples)
        wiring.patience_s(peer, phase, n_samples)
        wiring.succeeded(peer, phase, n_samples, 0.1, told_s=0.05, work=work)
        wiring.end(peer, phase, n_samples)
    return (time.process_time() - started_s) / n


class PromptClient(StageClient):
    """Has every pass answered at once, without messages: with the tensors that it was asked with, which have the sizes
    of those that it gives."""

    async def forward(self, peer: PeerId, request: Request, output: Boundary, *, timeout_s: float) -> Answer[Parcel]:
        return Answer(result=request.parcels[0], told_s=0.05)

    async def backward(self, peer: PeerId, request: Request, *, is_first: bool, timeout_s: float) -> Answer[Returned]:
        gradient = None if is_first else request.parcels[0]
        return Answer(result=Returned(input_gradient=gradient, loss=None, counted=True), told_s=0.05)


def _wiring() -> float:
    """Milliseconds of a courier for a microbatch, without what it asks for. Its tensors are few: it encodes only the
    tokens."""
    _, kinds, every = _material(SIZES["32 kB"])
    every *= 8

    async def main() -> float:
        network = DirectNetwork(Identity(bytes(32)), {})
        client = PromptClient(network, Codec(Compression.INT8), n_samples_max=every[0][0].shape[0])
        courier = Courier(client, [_known(stage) for stage in range(N_STAGES)], kinds, CourierOptions())
        return await _carried_ms(courier, every)

    asyncio.run(main())
    return median(asyncio.run(main()) for _ in range(N_RUNS))


def _known(stage: int) -> StageWiring:
    wiring = StageWiring(stage, WiringOptions(), random.Random(stage))
    wiring.update(
        Announcement(peer=PeerId(f"peer-{stage}-{number}"), stage=stage, sequence=1, samples_per_s=100.0)
        for number in range(N_REPLICAS)
    )
    return wiring


async def _carried_ms(courier: Courier, every: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Milliseconds of CPU for each microbatch, one after the other."""
    courier.expect(len(every), every[0][0].shape[0], len(every))
    started_s = time.process_time()
    for index, (x, y) in enumerate(every):
        await courier.carry(MicrobatchId(step=0, index=index), 0, x, y)
    return 1e3 * (time.process_time() - started_s) / len(every)


# -- parts ------------------------------------------------------------------------------------------------------------


def _codec(size: Size, compression: Compression) -> float:
    """Every tensor of a microbatch is encoded once by who makes it, taken in by the trainer if that is not the trainer,
    and decoded by each pass that needs it."""
    codec, tensors = Codec(compression), _made(size)
    started_s = time.process_time()
    for one in tensors * size.n_microbatches:
        parcel = codec.encode(one.tensor)
        if one.is_taken_in:
            parcel = codec.receive(parcel.header, parcel.payload)
        for _ in range(one.n_uses):
            codec.decode(parcel.header, parcel.payload)
    return 1e3 * (time.process_time() - started_s) / size.n_microbatches


@dataclass(frozen=True)
class Made:
    """A tensor of a microbatch."""

    tensor: torch.Tensor
    is_taken_in: bool
    """By the trainer, from a replica."""
    n_uses: int
    """Passes that it is sent for."""


def _made(size: Size) -> list[Made]:
    """What enters a stage is used by its forward and its backward pass, at the last stage by the one that is both."""
    _, kinds, every = _material(size)
    inputs, targets = every[0]
    floats = [torch.randn(size.n_samples, *kind.input.shape) for kind in kinds[1:]]
    entering = [Made(one, True, 2 if stage < len(floats) else 1) for stage, one in enumerate(floats, 1)]
    gradients = [Made(one, True, 1) for one in floats]
    return [Made(inputs, False, 2), Made(targets, False, 1), *entering, *gradients]


def _material(
    size: Size,
) -> tuple[Staged, Sequence[Boundaries], list[tuple[torch.Tensor, torch.Tensor]]]:
    task = build_task("chars", size.task_options)
    assert isinstance(task, Staged)
    n = size.n_microbatches
    indices = global_batch(seed=0, round_index=0, size=n * size.n_samples, n_train=task.n_train)
    batches = indices.reshape(n, size.n_samples)
    return (
        task,
        boundaries(task, cut_by_cost(task, N_STAGES)),
        [(task.inputs(batch), task.targets(batch)) for batch in batches],
    )


# -- the alternative --------------------------------------------------------------------------------------------------


async def _plain_grpc(size: Size) -> float:
    """Milliseconds of the CPU of both ends, which are in this process."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Answering(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/plain/pass")
            passes = [answered.to_bytes(8) + bytes(asked) for asked, answered in _pass_bytes(size)]
            await call(passes[0], timeout=TIMEOUT_S)
            started_s = time.process_time()
            for _ in range(size.n_microbatches):
                for request in passes:
                    await call(request, timeout=TIMEOUT_S)
            return 1e3 * (time.process_time() - started_s) / size.n_microbatches
    finally:
        await server.stop(None)


def _pass_bytes(size: Size) -> list[tuple[int, int]]:
    """Of each pass, uncompressed: what it brings and what it gives."""
    _, kinds, every = _material(size)
    inputs, targets = (tensor.nbytes for tensor in every[0])
    entering = [inputs, *(size.n_samples * 4 * prod(kind.input.shape) for kind in kinds[1:])]
    forward = list(pairwise(entering))
    backward = [(before + after, before if stage else 0) for stage, (before, after) in enumerate(pairwise(entering))]
    return [*forward, (entering[-1] + targets, entering[-1]), *reversed(backward)]


class _Answering(grpc.GenericRpcHandler):
    """As many zeros as the first eight bytes ask for."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(_zeros)


async def _zeros(request: bytes, context: object) -> bytes:
    return bytes(int.from_bytes(request[:8]))


# -- all of it --------------------------------------------------------------------------------------------------------


def _direct(size: Size, compression: Compression) -> float:
    """Milliseconds without a network."""
    others: dict[PeerId, DirectNetwork] = {}
    networks = [DirectNetwork(Identity(bytes([i]) * 32), others) for i in range(1 + N_STAGES * N_REPLICAS)]

    async def main() -> float:
        serving = [asyncio.create_task(server.run()) for server in servers]
        try:
            took_ms: float = await carry()
            return took_ms
        finally:
            for one in serving:
                one.cancel()

    servers, carry = _pipeline(size, compression, networks)
    return asyncio.run(main())


def _simulated(size: Size, compression: Compression) -> float:
    """Milliseconds with the simulator's network."""
    sim = Simulation(seed=0, latency_s=0.0001)
    hosts = [sim.host(f"host-{i}") for i in range(1 + N_STAGES * N_REPLICAS)]
    for host in hosts:
        host.network.set_gate(lambda peer: True)
    servers, carry = _pipeline(size, compression, [host.network for host in hosts])
    for host, server in zip(hosts[1:], servers, strict=True):
        host.spawn(server.run())
    took_ms: float = sim.run(asyncio.wait_for(carry(), 1e6))
    return took_ms


def _pipeline(
    size: Size, compression: Compression, networks: Sequence[Network]
) -> tuple[list[StageServer], Callable[[], Coroutine[Any, Any, float]]]:
    """Servers of all replicas, and what carries all microbatches and says what one cost."""
    task, kinds, every = _material(size)
    cut, spent = cut_by_cost(task, N_STAGES), [0.0]
    servers, wirings = [], []
    options = ServerOptions(
        n_samples_max=size.n_samples, flops_per_sample=1e6, splits=False, together_max=size.n_samples
    )
    for stage in range(N_STAGES):
        mine = networks[1 + stage * N_REPLICAS : 1 + (stage + 1) * N_REPLICAS]
        for network in mine:
            module = build_stage(task, 0, cut, stage)
            replica = StageReplica(module, kinds[stage], run_seed=0, held_max=size.n_microbatches)
            servers.append(StageServer(network, _timed(replica, spent), Codec(compression), options))
        wiring = StageWiring(stage, WiringOptions(), random.Random(stage))
        wiring.update(Announcement(peer=one.peer_id, stage=stage, sequence=1, samples_per_s=100.0) for one in mine)
        wirings.append(wiring)
    client = StageClient(networks[0], Codec(compression), n_samples_max=size.n_samples)
    courier = Courier(client, wirings, kinds, CourierOptions())

    async def carry() -> float:
        return await _carried_ms(courier, every) - 1e3 * spent[0] / size.n_microbatches

    return servers, carry


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
    torch.set_num_threads(1)
    print(json.dumps(wiring_cost(), indent=1))
