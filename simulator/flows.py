"""Transfers over time: bytes drain from flows at rates that change whenever another flow begins or ends."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Iterable

from .loop import RESOLUTION_S
from .sharing import Flow, Link, reshare

_STALE_ENDS_MIN = 256


class Flows:
    """All transfers of a simulated world. Changes of one instant are shared out together, once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._touched: dict[Link, None] = {}
        self._ends: list[tuple[float, int, Flow]] = []
        self._sequence = itertools.count()
        self._n_flows = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, links: Iterable[Link], n_bytes: float) -> Flow:
        """Begin a transfer; its `done` has a result when the last byte has left. A flow that is no longer
        wanted must be stopped."""
        flow = Flow(links=tuple(links), left_bytes=n_bytes, done=self._loop.create_future(), since_s=self._loop.time())
        self._n_flows += 1
        for link in flow.links:
            link.flows[flow] = None
            self.touch(link)
        return flow

    def stop(self, flow: Flow) -> None:
        """Take a flow off its links, finished or not."""
        if flow not in flow.links[0].flows:
            return
        self._n_flows -= 1
        flow.ends_at_s = math.inf
        for link in flow.links:
            del link.flows[flow]
            self.touch(link)

    def touch(self, link: Link) -> None:
        """Share a link out anew: its speed, or what runs over it, has changed."""
        if not self._touched:
            self._loop.call_soon(self._reshare)
        self._touched[link] = None

    def _reshare(self) -> None:
        touched, self._touched = self._touched, {}
        now = self._loop.time()
        before = {flow: flow.rate for link in touched for flow in link.flows}
        for flow in reshare(touched):
            self._settle(flow, before.get(flow), now)
        self._arm()

    def _settle(self, flow: Flow, rate_before: float | None, now: float) -> None:
        raise NotImplementedError

    def _arm(self) -> None:
        raise NotImplementedError
