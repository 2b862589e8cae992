"""How passes travel: in two messages if they are short."""

from __future__ import annotations

import asyncio

import pytest
import torch
from torch import Tensor

from gossamer.peer.pipeline.activations import Codec, Compression
from gossamer.peer.pipeline.backlog import Phase
from gossamer.peer.pipeline.microbatches import MicrobatchId, boundaries
from gossamer.peer.pipeline.passing import LONG_METHOD, METHOD, SHORT_BYTES_MAX, Request, StageClient
from gossamer.peer.pipeline.server import ServerOptions, StageServer
from gossamer.peer.pipeline.stage import StageReplica
from gossamer.protocol import pipelines_pb2 as pb
from gossamer.protocol.errors import MessageTooLarge
from gossamer.simulator.world import Simulation
from gossamer.tasks import Cut, build_stage
from gossamer.tests.peer.pipeline.chains import Chain

N_MAX = 4096
CODEC = Codec(Compression.NONE)


class Pair:
    """A trainer, and a replica of a first stage: four numbers a sample go in, eight come out."""

    def __init__(self) -> None:
        self.sim = Simulation(seed=0)
        task, cut = Chain(), Cut(starts=(0, 2), n_layers=7)
        self.kinds = boundaries(task, cut)[0]
        self.trainer, self.host = self.sim.host("trainer"), self.sim.host("replica")
        self.replica = StageReplica(build_stage(task, 0, cut, 0), self.kinds, run_seed=9, held_max=8)
        self.host.network.set_gate(lambda peer: True)
        options = ServerOptions(n_samples_max=N_MAX, flops_per_sample=1.0)
        self.server = StageServer(self.host.network, self.replica, CODEC, options)
        self.host.spawn(self.server.run())
        self.client = StageClient(self.trainer.network, CODEC, n_samples_max=N_MAX)

    async def forward(self, x: Tensor) -> Tensor:
        request = Request(
            phase=Phase.FORWARD,
            microbatch=MicrobatchId(step=0, index=0),
            version=0,
            stage=0,
            parcels=(CODEC.encode(x),),
        )
        answer = await self.client.forward(self.host.peer_id, request, self.kinds.output, timeout_s=60.0)
        return CODEC.decode(answer.result.header, answer.result.payload)

    async def call(self, message: pb.PassRequest) -> bytes:
        return await self.trainer.network.call(self.host.peer_id, METHOD, message.SerializeToString(), timeout_s=60.0)


@pytest.mark.parametrize(
    ("n_samples", "method", "n_messages"),
    [
        (4, METHOD, 2),
        (SHORT_BYTES_MAX // 32, METHOD, 2),
        (SHORT_BYTES_MAX // 32 + 1, LONG_METHOD, 6),  # what goes in is short yet, and in one chunk
        (N_MAX, LONG_METHOD, 7),
    ],
)
def test_short_passes_are_calls_and_long_ones_streams(n_samples: int, method: str, n_messages: int) -> None:
    pair = Pair()
    x = torch.linspace(-1, 1, n_samples * 4).reshape(n_samples, 4)

    async def main() -> Tensor:
        return await pair.forward(x)

    out = pair.sim.run(main())

    expected = pair.replica.forward(MicrobatchId(step=0, index=0), 0, x)
    assert torch.equal(out, expected)
    assert set(pair.trainer.network.traffic.sent) == {method}
    assert pair.sim.n_deliveries == n_messages


def test_a_call_whose_answer_would_be_long_is_refused() -> None:
    pair = Pair()
    parcel = CODEC.encode(torch.zeros(SHORT_BYTES_MAX // 16, 4))
    message = pb.PassRequest(kind=pb.PASS_FORWARD, tensors=[parcel.header], payload=parcel.payload)

    with pytest.raises(MessageTooLarge, match="ask for a stream"):
        pair.sim.run(pair.call(message))


def test_more_bytes_than_are_announced_are_refused() -> None:
    pair = Pair()
    parcel = CODEC.encode(torch.zeros(4, 4))
    message = pb.PassRequest(kind=pb.PASS_FORWARD, tensors=[parcel.header], payload=parcel.payload + b"more")

    with pytest.raises(MessageTooLarge, match="more than the 64 bytes"):
        pair.sim.run(pair.call(message))


def test_a_call_that_is_given_up_leaves_nothing_in_the_queue() -> None:
    pair = Pair()
    pair.host.flops_per_s = 1e-3

    async def main() -> None:
        first = asyncio.create_task(pair.forward(torch.zeros(4, 4)))
        await asyncio.sleep(1.0)
        second = asyncio.create_task(pair.forward(torch.zeros(4, 4)))
        await asyncio.sleep(1.0)
        assert pair.server.n_waiting == 1
        second.cancel()
        await asyncio.sleep(1.0)
        assert pair.server.n_waiting == 0
        first.cancel()

    pair.sim.run(main())
