"""Transfers over time: bytes drain from flows at rates that change whenever another flow begins or ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import numpy as np

from . import sharing
from .loop import RESOLUTION_S, VirtualLoop

_ROWS_MIN = 64


class Flow(asyncio.Future[None]):
    """A transfer under way; has a result when the last byte has left."""

    number: int
    is_running: bool
    """Occupies its links. A flow that is no longer wanted must be stopped."""


class Flows:
    """All transfers of a simulated world, over links that are known by number.

    Changes of one instant are shared out together, once, before time moves on.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self.next_s = math.inf
        """When the next transfer ends; the loop stops there."""
        self._loop = loop
        self._n_links = 0
        self._flows: list[Flow | None] = []
        self._free: list[int] = []
        self._limits: dict[int, int] = {}
        self.dirty = False
        self._links = np.zeros(_ROWS_MIN, sharing.LINK)
        self._rows = np.zeros(0, sharing.FLOW)
        self._ended = self._rows["ended_list"]
        self._entries = np.zeros(0, sharing.ENTRY)
        self._counts = np.zeros(sharing.N_COUNTS, np.int64)
        loop.fluid = self

    def add_link(self, bytes_per_s: float, *, contention: float = 0.0) -> int:
        """A link's number.

        Args: contention: n flows at once get bytes_per_s / (1 + contention * (n - 1)) of it together.
        """
        if self._n_links == len(self._links):
            self._links = np.concatenate([self._links, np.zeros_like(self._links)])
        number = self._n_links
        self._n_links += 1
        row = self._links[number]
        row["bytes_per_s"], row["contention"], row["first"] = bytes_per_s, contention, -1
        return number

    def set_speed(self, link: int, bytes_per_s: float) -> None:
        """Transfers under way go on at the new speed. 0 stalls them; inf is no limit."""
        self._links[link]["bytes_per_s"] = bytes_per_s
        sharing.touch(self._links, self._counts, link)
        self.dirty = True

    def speed(self, link: int) -> float:
        return float(self._links[link]["bytes_per_s"])

    def start(self, links: Sequence[int], n_bytes: float, *, bytes_per_s_max: float = math.inf) -> Flow:
        """Begin a transfer over 1 to LINKS_MAX links, one less if it has a limit of its own."""
        if not self._free:
            self._grow()
        number = self._free.pop()
        if bytes_per_s_max < math.inf:
            links = [*links, self._limit(number, bytes_per_s_max)]
        flow = self._flows[number] = Flow(loop=self._loop)
        flow.number, flow.is_running = number, True
        second = links[1] if len(links) > 1 else -1
        counts, now_s = self._counts, self._loop.now_s
        sharing.begin(self._links, self._rows, self._entries, counts, number, float(n_bytes), now_s, links[0], second)
        for k in range(2, len(links)):
            sharing.extend(self._links, self._entries, counts, number, k, links[k])
        self.dirty = True
        return flow

    def _limit(self, flow: int, bytes_per_s: float) -> int:
        """A link that only this flow runs over; made once for each number."""
        if flow not in self._limits:
            self._limits[flow] = self.add_link(bytes_per_s)
        self._links[self._limits[flow]]["bytes_per_s"] = bytes_per_s
        return self._limits[flow]

    def stop(self, flow: Flow) -> None:
        """Take a flow off its links, finished or not."""
        if flow.is_running:
            sharing.stop(self._links, self._rows, self._entries, self._counts, flow.number)
            self._release(flow.number)

    def rate(self, flow: Flow) -> float:
        """Bytes per second at which it moves now; 0 once it has ended."""
        self.settle()
        return float(self._rows[flow.number]["rate"]) if flow.is_running else 0.0

    @property
    def n_flows(self) -> int:
        return len(self._flows) - len(self._free)

    # ------------------------------------------------------------------------------------------------- for the loop

    def settle(self) -> None:
        """Share out what has changed in this instant."""
        if self.dirty:
            self.dirty = False
            self.next_s = sharing.reshare(self._links, self._rows, self._entries, self._counts, self._loop.now_s)

    def happen(self) -> None:
        """End the transfers that are over by now."""
        due_s = self._loop.now_s + RESOLUTION_S
        n_ended = sharing.finish(self._links, self._rows, self._entries, self._counts, due_s)
        for number in self._ended[:n_ended].tolist():
            flow = self._release(number)
            if not flow.done():
                flow.set_result(None)

    def _release(self, number: int) -> Flow:
        flow = self._flows[number]
        assert flow is not None
        flow.is_running = False
        self._flows[number] = None
        self._free.append(number)
        self.dirty = True
        return flow

    def _grow(self) -> None:
        """Room for twice as many flows."""
        old = len(self._flows)
        new = max(_ROWS_MIN, old)
        self._rows = np.concatenate([self._rows, np.zeros(new, sharing.FLOW)])
        self._entries = np.concatenate([self._entries, np.zeros(sharing.LINKS_MAX * new, sharing.ENTRY)])
        self._ended = self._rows["ended_list"]
        self._entries["link"][sharing.LINKS_MAX * old :] = -1
        self._flows += [None] * new
        self._free += range(old + new - 1, old - 1, -1)
