"""The world of devices: every network here serves as a gateway does and calls as a device does."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gossamer.edge.network import EdgeNetwork, Gateway
from gossamer.peer.network.front import Front
from gossamer.protocol.errors import NetworkClosed, PeerUnreachable
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.network import Cost, Gate, Handler, Network, Record, StreamHandler, Traffic

from .world import left_running

T = TypeVar("T")
_RUN_ID = "0" * 32
_TIMEOUT_S = 50.0


class GatewayAndDevice(Network):
    """A front, and one edge client for every other front that is called. It has no records."""

    def __init__(self, identity: Identity, front: Front, fronts: dict[PeerId, Front]) -> None:
        self.peer_id = identity.peer_id
        self.traffic = Traffic()
        self._identity, self._front, self._fronts = identity, front, fronts
        self._clients: dict[PeerId, EdgeNetwork] = {}
        self._closed = False

    def serve(self, method: str, handler: Handler, *, public: bool = False) -> None:
        self._front.serve(method, handler, public=public)

    def serve_stream(self, method: str, handler: StreamHandler, *, public: bool = False) -> None:
        self._front.serve_stream(method, handler, public=public)

    def set_gate(self, gate: Gate) -> None:
        self._front.set_gate(gate)

    async def call(self, peer: PeerId, method: str, request: bytes, *, timeout_s: float) -> bytes:
        client = self._client(peer)
        response = await client.call(peer, method, request, timeout_s=timeout_s)
        self._count()
        return response

    async def stream(
        self, peer: PeerId, method: str, chunks: AsyncIterator[bytes], *, timeout_s: float
    ) -> AsyncIterator[bytes]:
        answer = self._client(peer).stream(peer, method, chunks, timeout_s=timeout_s)
        async with aclosing(answer):  # type: ignore[type-var]  # it is a generator
            async for chunk in answer:
                yield chunk

    async def publish(self, key: str, value: bytes, *, ttl_s: float) -> None:
        raise NotImplementedError

    async def lookup(self, key: str) -> list[Record]:
        raise NotImplementedError

    async def compute(self, work: Callable[[], T], cost: Cost) -> T:
        return await self._client(self.peer_id).compute(work, cost)

    def unix_time_s(self) -> float:
        return self._client(self.peer_id).unix_time_s()

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(client.close() for client in self._clients.values()))
        await self._front.close()

    def _client(self, peer: PeerId) -> EdgeNetwork:
        if self._closed:
            raise NetworkClosed(f"the network of {self.peer_id} is closed")
        if peer not in self._fronts:
            raise PeerUnreachable(f"{peer} is no gateway here")
        if peer not in self._clients:
            front = self._fronts[peer]
            gateway = Gateway(
                peer=peer, run_id=_RUN_ID, host="127.0.0.1", port=front.port, certificate=front.certificate.der
            )
            self._clients[peer] = EdgeNetwork(self._identity, gateway)
        return self._clients[peer]

    def _count(self) -> None:
        for client in self._clients.values():
            self.traffic.sent.update(client.traffic.sent)
            self.traffic.received.update(client.traffic.received)


@dataclass(frozen=True)
class EdgeWorld:
    """Real gRPC over TLS on loopback, without DHT or libp2p."""

    name: str = "edge"

    def run(self, scenario: Callable[[list[Network]], Awaitable[None]], *, n_peers: int = 2) -> None:
        asyncio.run(self._run(scenario, n_peers))

    async def _run(self, scenario: Callable[[list[Network]], Awaitable[None]], n_peers: int) -> None:
        unhandled: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(repr(context)))
        fronts: dict[PeerId, Front] = {}
        networks: list[Network] = []
        async with asyncio.timeout(_TIMEOUT_S):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    for identity in sorted((Identity.generate() for _ in range(n_peers)), key=lambda one: one.peer_id):
                        home = Path(folder) / identity.peer_id
                        front = await Front.open(identity, run_id=_RUN_ID, folder=home, host="127.0.0.1", port=0)
                        fronts[identity.peer_id] = front
                        networks.append(GatewayAndDevice(identity, front, fronts))
                    await scenario(networks)
                finally:
                    await asyncio.gather(*(network.close() for network in networks))
        left = await left_running()
        assert (unhandled, left) == ([], []), f"unhandled: {unhandled}, left over: {left}"
