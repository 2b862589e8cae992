"""A deadline that moves on whenever a stream does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import PeerTimeout
from ..identity import PeerId


class Progress:
    """The longest time that a stream may stand still in both directions.

    Time that the consumer takes between two chunks does not count: nothing is awaited from the peer meanwhile.
    """

    def __init__(self, peer: PeerId, method: str, timeout_s: float) -> None:
        self._peer = peer
        self._method = method
        self._timeout_s = timeout_s
        self._scope: asyncio.Timeout | None = None

    def made(self) -> None:
        """Something moved, in either direction."""
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time() + self._timeout_s)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Wait for the peer. Raises PeerTimeout when nothing moves for too long."""
        try:
            async with asyncio.timeout(self._timeout_s) as self._scope:
                yield
        except TimeoutError:
            raise PeerTimeout(
                f"nothing moved on the stream {self._method!r} with {self._peer} for {self._timeout_s:g} s: ask again "
                "or another peer"
            ) from None
        finally:
            self._scope = None
