"""How many streams a device may have open: each costs its gateway memory, whether anything is sent on it or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator

from ...protocol.errors import Busy
from ...protocol.identity import PeerId
from ...protocol.network import StreamHandler

STREAMS_MAX = 4
"""Of one kind, with those on lost connections of which the gateway has not heard yet."""


def few_streams(handler: StreamHandler) -> StreamHandler:
    """The handler for at most STREAMS_MAX streams of a device at once; one more raises Busy."""
    n_open: Counter[PeerId] = Counter()

    async def serve(device: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        if n_open[device] >= STREAMS_MAX:
            raise Busy(f"{device} has {STREAMS_MAX} such streams open: close one, or wait until lost ones are noticed")
        n_open[device] += 1
        answer = handler(device, chunks)
        try:
            async for chunk in answer:
                yield chunk
        finally:
            n_open[device] -= 1
            if not n_open[device]:
                del n_open[device]
            if isinstance(answer, AsyncGenerator):
                await answer.aclose()

    return serve
