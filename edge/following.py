"""A device's way from the state that it holds to the gateway's: updates one after another, or a snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ..protocol import devices
from ..protocol.edge_pb2 import SnapshotHead, SnapshotRequest, Step
from ..protocol.errors import InvalidMessage
from ..protocol.identity import PeerId
from ..protocol.network import Client, Cost
from ..protocol.wire import parse
from .methods import DeviceWork
from .model import DeviceModel

SILENCE_S = 30.0


class Follower:
    """Keeps the model of `work` in step with the gateway's."""

    def __init__(self, client: Client, gateway: PeerId, work: DeviceWork) -> None:
        self.model = DeviceModel(work)
        self.n_resyncs = 0
        self._client, self._gateway, self._work = client, gateway, work
        self._digest, self._received = b"", bytearray()
        """A snapshot that broke off: of which state, and what came of it."""

    @property
    def standing(self) -> tuple[int, bytes] | None:
        """Step and digest of the state that is held; None before the first snapshot."""
        return self.model.standing

    async def follow(self, steps: Sequence[Step], target: tuple[int, bytes]) -> bool:
        """Apply updates; whether they lead to the state that the gateway means. If not, only a snapshot helps.

        Raises: InvalidMessage for updates that no honest gateway sends.
        """
        n, n_bytes = self._work.n_weights, sum(len(payload) for step in steps for payload in step.payloads)
        n_scalars = n_bytes * self._work.scalars_per_byte
        return await self._client.compute(
            lambda: self.model.follow(steps, target), Cost(flops=2 * n * n_scalars, memory_bytes=n * n_scalars)
        )

    async def fetch(self) -> None:
        """Take over the gateway's present state. What came of it before a loss is not sent again.

        Raises: as `Client.stream`; InvalidMessage for what is no state of this run.
        """
        self.n_resyncs += 1
        head: SnapshotHead | None = None
        asked = self._asked()
        chunks = self._client.stream(self._gateway, devices.SNAPSHOT, asked, timeout_s=SILENCE_S)
        async for chunk in chunks:
            if head is None:
                head = self._begin(chunk)
                continue
            self._received += chunk
            if len(self._received) > head.length:
                raise InvalidMessage(f"a snapshot is longer than the {head.length} bytes announced: cut off")
        if head is None:
            raise InvalidMessage("a snapshot ended before it began: fetch it again")
        data, self._received = self._received, bytearray()
        standing = (head.step, head.digest)
        await self._client.compute(lambda: self.model.restore(data, standing), Cost())

    def _begin(self, chunk: bytes) -> SnapshotHead:
        head = parse(SnapshotHead, chunk, bytes_max=1024, what="a snapshot's head")
        expected = self.model.snapshot_bytes
        if head.length != expected or head.offset not in (0, len(self._received)):
            raise InvalidMessage(
                f"a snapshot of {head.length} bytes is announced from {head.offset} on: this run's has {expected}"
            )
        if head.offset == 0:
            self._digest, self._received = head.digest, bytearray()
        return head

    async def _asked(self) -> AsyncIterator[bytes]:
        yield SnapshotRequest(digest=self._digest, offset=len(self._received)).SerializeToString()
