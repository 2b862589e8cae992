"""What every call of a client goes through, whatever carries it: bounds, a deadline, counting, and one more try.

A server that was restarted knows none of its sessions. It says so before anything is served, so the caller proves once
more who it is and sends the message again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from ..errors import NetworkError, PeerTimeout, PeerUnreachable
from ..identity import PeerId
from ..network import Traffic
from .link import SessionLost
from .messages import CHUNK_OVERHEAD_BYTES, check_chunk, check_message, message_bytes
from .progress import Progress


class Way(Protocol):
    """A way to one peer; `Link` is one."""

    async def call(self, method: str, request: bytes) -> bytes: ...

    def stream(self, method: str, chunks: AsyncIterator[bytes], progress: Progress) -> AsyncGenerator[bytes, None]: ...


class Caller:
    """Calls and streams of one client.

    Args:
        traffic: counts what is sent and received.
        reach: finds or makes a way to a peer.
        forget: drops what is known of the session with a peer.
        check_open: raises NetworkClosed once the client is closed.
    """

    def __init__(
        self,
        traffic: Traffic,
        *,
        reach: Callable[[PeerId], Awaitable[Way]],
        forget: Callable[[PeerId], Awaitable[None]],
        check_open: Callable[[], None],
    ) -> None:
        self._traffic, self._reach, self._forget, self._check_open = traffic, reach, forget, check_open

    async def call(self, peer: PeerId, method: str, request: bytes, *, timeout_s: float) -> bytes:
        """As `Client.call`."""
        self._check_open()
        check_message(request, method, "request")
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._call(peer, method, request)
        except TimeoutError:
            self._check_open()
            raise PeerTimeout(
                f"{peer} did not answer {method!r} within {timeout_s:g} s: it may have served it; ask again later"
            ) from None
        except NetworkError:
            self._check_open()
            raise
        self._traffic.received[method] += message_bytes(method, response)
        return response

    async def stream(
        self, peer: PeerId, method: str, chunks: AsyncIterator[bytes], *, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        """As `Client.stream`."""
        self._check_open()
        progress = Progress(peer, method, timeout_s)
        try:
            async with progress.watch():
                way = await self._reach(peer)
            async with aclosing(way.stream(method, self._counted(method, chunks), progress)) as answer:
                async for chunk in answer:
                    self._traffic.received[method] += len(chunk) + CHUNK_OVERHEAD_BYTES
                    yield chunk
        except SessionLost as error:
            await self._forget(peer)
            raise PeerUnreachable(str(error)) from None
        except NetworkError:
            self._check_open()
            raise

    async def _call(self, peer: PeerId, method: str, request: bytes) -> bytes:
        for last in (False, True):
            way = await self._reach(peer)
            self._traffic.sent[method] += message_bytes(method, request)
            try:
                return await way.call(method, request)
            except SessionLost:
                await self._forget(peer)
                if last:
                    break
        raise PeerUnreachable(f"{peer} forgets our sessions as soon as they are open: is its clock or memory in order?")

    async def _counted(self, method: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            check_chunk(chunk, method)
            self._traffic.sent[method] += len(chunk) + CHUNK_OVERHEAD_BYTES
            yield chunk
