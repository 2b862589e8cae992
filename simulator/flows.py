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
        for flow in reshare(touched):
            if flow.rate != flow.drain_rate:
                self._settle(flow, now)
        self._arm()

    def _settle(self, flow: Flow, now: float) -> None:
        """Count what has drained at the old rate, and go on at the new."""
        if flow.drain_rate > 0:
            flow.left_bytes = max(0.0, flow.left_bytes - flow.drain_rate * (now - flow.since_s))
        flow.since_s, flow.drain_rate = now, flow.rate
        flow.ends_at_s = now + flow.left_bytes / flow.rate if flow.rate > 0 else math.inf
        if flow.ends_at_s < math.inf:
            heapq.heappush(self._ends, (flow.ends_at_s, next(self._sequence), flow))

    def _arm(self) -> None:
        """Keep one timer, for the flow that ends first."""
        self._drop_stale_ends()
        when = self._ends[0][0] if self._ends else math.inf
        if self._timer is not None and self._timer.when() != when:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and when < math.inf:
            self._timer = self._loop.call_at(when, self._finish_due)

    def _drop_stale_ends(self) -> None:
        if len(self._ends) > max(_STALE_ENDS_MIN, 2 * self._n_flows):
            self._ends = [end for end in self._ends if end[0] == end[2].ends_at_s]
            heapq.heapify(self._ends)
        while self._ends and self._ends[0][0] != self._ends[0][2].ends_at_s:
            heapq.heappop(self._ends)

    def _finish_due(self) -> None:
        self._timer = None
        due = self._loop.time() + RESOLUTION_S
        while self._ends and self._ends[0][0] < due:
            when, _, flow = heapq.heappop(self._ends)
            if when != flow.ends_at_s:
                continue
            self.stop(flow)
            if not flow.done.done():
                flow.done.set_result(None)
        self._arm()
