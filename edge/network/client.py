"""`Client` over gRPC: one gateway, one TLS connection, one session. Nobody can call a device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ...protocol.errors import NetworkClosed, PeerUnreachable
from ...protocol.identity import Identity, PeerId
from ...protocol.network import Client, Cost, Traffic
from ...protocol.transport.calling import Caller
from ...protocol.transport.link import Link
from ...protocol.transport.session import Ends
from .pinning import Gateway, follow_rotation

T = TypeVar("T")

_LINK_TIMEOUT_S = 10.0
_KEEPALIVE_S = 60.0
"""A radio that wakes up costs more than what it sends."""


class EdgeNetwork(Client):
    """A device's way to its gateway. Connects when it is first used, and again after a loss.

    Args:
        on_rotated: told when the gateway showed a new certificate that its key has signed; keep it.
    """

    def __init__(
        self, identity: Identity, gateway: Gateway, *, on_rotated: Callable[[Gateway], None] = lambda gateway: None
    ) -> None:
        self.peer_id = identity.peer_id
        self.traffic = Traffic()
        self.gateway = gateway
        self._identity = identity
        self._on_rotated = on_rotated
        self._link: Link | None = None
        self._opening = asyncio.Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._closed = False
        self._caller = Caller(self.traffic, reach=self._reach, forget=self._forget, check_open=self._check_open)

    async def call(self, peer: PeerId, method: str, request: bytes, *, timeout_s: float) -> bytes:
        return await self._caller.call(peer, method, request, timeout_s=timeout_s)

    def stream(
        self, peer: PeerId, method: str, chunks: AsyncIterator[bytes], *, timeout_s: float
    ) -> AsyncIterator[bytes]:
        return self._caller.stream(peer, method, chunks, timeout_s=timeout_s)

    async def compute(self, work: Callable[[], T], cost: Cost) -> T:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def unix_time_s(self) -> float:
        return time.time()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._forget(self.gateway.peer)
            self._worker.shutdown(wait=False, cancel_futures=True)

    # -- the link --------------------------------------------------------------------------------

    async def _reach(self, peer: PeerId) -> Link:
        if peer != self.gateway.peer:
            raise PeerUnreachable(f"{peer} is not this device's gateway ({self.gateway.peer}): enrol with it first")
        async with self._opening:
            if self._link is not None and self._link.usable:
                return self._link
            if self._link is not None and self._link.connected:
                await self._link.open(b"", timeout_s=_LINK_TIMEOUT_S)
                return self._link
            await self._forget(self.gateway.peer)
            self._link = await self._connect()
            return self._link

    async def _connect(self) -> Link:
        try:
            return await self._open(self.gateway)
        except PeerUnreachable:
            # gRPC does not say whether nobody listens or the certificate is another: look for ourselves.
            rotated = await self._rotated()
            if rotated is None:
                raise
        link = await self._open(rotated)
        self.gateway = rotated
        self._on_rotated(rotated)
        return link

    async def _rotated(self) -> Gateway | None:
        try:
            return await follow_rotation(self.gateway, timeout_s=_LINK_TIMEOUT_S)
        except PeerUnreachable:
            return None

    async def _open(self, gateway: Gateway) -> Link:
        ends = Ends(run_id=gateway.run_id, server=gateway.peer, certificate=gateway.certificate)
        link = Link(self._identity, ends, gateway.target, keepalive_s=_KEEPALIVE_S)
        try:
            await link.open(b"", timeout_s=_LINK_TIMEOUT_S)
        except BaseException:
            await link.close()
            raise
        return link

    async def _forget(self, peer: PeerId) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _check_open(self) -> None:
        if self._closed:
            raise NetworkClosed(f"the network of {self.peer_id} is closed: open a new one")
