"""How much of its time a peer computes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ...protocol.network import Client, Cost

T = TypeVar("T")


class Meter:
    """Computes by the network, which does one piece after the other, and adds up the time in which there is any."""

    def __init__(self, network: Client) -> None:
        self._network = network
        self._n_running = 0
        self._since_s = 0.0
        self._busy_s = 0.0

    async def compute(self, work: Callable[[], T], cost: Cost) -> T:
        """As `Client.compute`."""
        clock = asyncio.get_running_loop().time
        if self._n_running == 0:
            self._since_s = clock()
        self._n_running += 1
        try:
            return await self._network.compute(work, cost)
        finally:
            self._n_running -= 1
            if self._n_running == 0:
                self._busy_s += clock() - self._since_s

    @property
    def busy_s(self) -> float:
        """Time with something to compute, so far."""
        running_s = asyncio.get_running_loop().time() - self._since_s if self._n_running else 0.0
        return self._busy_s + running_s
