"""Computing in small portions at a share of one core, so that a device can rest between them and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ..protocol.network import Client, Cost

PORTION_S = 0.1
"""About how long the processor is kept at a time."""
PORTION_MAX = 4096

T = TypeVar("T")


class Pace:
    """Args: cpu_share: computing time over all time, while there is something to compute."""

    def __init__(self, client: Client, *, cpu_share: float) -> None:
        self._client = client
        self._rest_ratio = 1 / cpu_share - 1
        self.portion = 8
        """Forward passes at a time: learnt."""

    async def do(self, work: Callable[[], T], cost: Cost, *, n: int = 1) -> T:
        """Do a portion of n forward passes, then rest as long as the owner wants."""
        clock = asyncio.get_running_loop().time
        began_s = clock()
        result = await self._client.compute(work, cost)
        busy_s = clock() - began_s
        self._adapt(n, busy_s)
        if self._rest_ratio > 0:
            await asyncio.sleep(self._rest_ratio * busy_s)
        return result

    def _adapt(self, n: int, busy_s: float) -> None:
        if n == self.portion and busy_s < PORTION_S / 2:
            self.portion = min(2 * self.portion, PORTION_MAX)
        elif n > 1 and busy_s > 2 * PORTION_S:
            self.portion = max(1, self.portion // 2)
