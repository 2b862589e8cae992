"""Transfers over time: bytes drain from flows at rates that change whenever another flow begins or ends."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from . import rows, sharing
from .loop import VirtualLoop

_ROWS_MIN = 64
Links = tuple[int, int, int, int, int]
"""Numbers of links; -1: none."""


def padded(links: tuple[int, ...]) -> Links:
    """So many of them as a flow has places for."""
    a, b, c, d, e = links + (-1,) * (rows.LINKS_MAX - len(links))
    return a, b, c, d, e


class Flow:
    """A transfer under way. One that is no longer wanted must be stopped."""

    __slots__ = ("has_next", "is_running", "number")

    def __init__(self) -> None:
        self.number = -1
        self.is_running = False
        """Occupies its links."""
        self.has_next = False
        """Goes on when it is over, see `Flows.feed`."""

    def over(self) -> None:
        """The last byte has left. Called outside of all contexts."""
        self.move_on()
        self.tell()

    def move_on(self) -> None:
        """The first half of `over`, which changes nothing but what is sent. Of several that end at once, all move on
        before any of them tells: who is told may be killed by it, and the others with it."""

    def tell(self) -> None:
        """The second."""
        raise NotImplementedError


class Single(Flow):
    """A transfer that calls back when it is over."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self._then = then

    def tell(self) -> None:
        self._then()


class Flows:
    """All transfers of a simulated world, over links that are known by number.

    What begins or changes in one instant is shared out together, before time moves on; what ends in it, just before.
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
        self._begun: list[tuple[int, float, int, int, int, int, int]] = []
        """In this instant: number, bytes, links."""
        self._links = np.zeros(_ROWS_MIN, rows.LINK)
        self._rows = np.zeros(0, rows.FLOW)
        self._ended, self._next_bytes = self._rows["ended_list"], self._rows["next_bytes"]
        self._entries = np.zeros(0, rows.ENTRY)
        self._counts = np.zeros(rows.N_COUNTS, np.int64)
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

    def start(
        self, links: tuple[int, ...], n_bytes: float, then: Callable[[], object], *, bytes_per_s_max: float = math.inf
    ) -> Flow:
        """Begin a transfer over 1 to LINKS_MAX links, one less if it has a limit of its own.

        Args: then: called when the last byte has left, as `Flow.over`.
        """
        flow = Single(then)
        self.run(flow, padded(links), n_bytes, bytes_per_s_max)
        return flow

    def run(self, flow: Flow, links: Links, n_bytes: float, bytes_per_s_max: float = math.inf) -> None:
        """Begin a transfer of the caller's own making, which is not under way; as `start`."""
        if not self._free:
            self._grow()
        number = self._free.pop()
        if bytes_per_s_max < math.inf:
            used = [link for link in links if link >= 0]
            links = padded((*used, self._limit(number, bytes_per_s_max)))
        self._begun.append((number, n_bytes, *links))
        self.dirty = True
        self._flows[number] = flow
        flow.number, flow.is_running = number, True

    def feed(self, flow: Flow, n_bytes: float) -> None:
        """When what is under way has left, call `over` and go on with so many bytes, on the same links, without a
        break. 0: end, as if nothing had been fed."""
        if self._begun:
            self._begin()
        flow.has_next = n_bytes > 0
        self._next_bytes[flow.number] = n_bytes

    def skip(self, flow: Flow) -> None:
        """Give up what is under way, and go on with what was fed."""
        if self._begun:
            self._begin()
        flow.has_next = False
        sharing.skip(self._rows, self._counts, flow.number, self._loop.now_s)
        self.dirty = True

    def _limit(self, flow: int, bytes_per_s: float) -> int:
        """A link that only this flow runs over; made once for each number."""
        if flow not in self._limits:
            self._limits[flow] = self.add_link(bytes_per_s)
        self._links[self._limits[flow]]["bytes_per_s"] = bytes_per_s
        return self._limits[flow]

    def stop(self, flow: Flow) -> None:
        """Take a flow off its links, finished or not."""
        if flow.is_running:
            self._begin()
            sharing.stop(self._links, self._rows, self._entries, self._counts, flow.number)
            self._release(flow.number)
            self.dirty = True

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
        if not self.dirty:
            return
        self.dirty = False
        if len(self._begun) == 1:
            self.next_s = sharing.begin_and_reshare(
                self._links, self._rows, self._entries, self._counts, self._loop.now_s, *self._begun.pop()
            )
        else:
            self._begin()
            self.next_s = sharing.reshare(self._links, self._rows, self._entries, self._counts, self._loop.now_s)

    def happen(self) -> None:
        """End the transfers that are over by now."""
        n_ended, self.next_s = sharing.finish_and_reshare(
            self._links, self._rows, self._entries, self._counts, self._loop.now_s
        )
        if n_ended == 1:
            self._over(self._ended.item(0)).over()
            return
        flows = [self._over(number) for number in self._ended[:n_ended].tolist()]
        for flow in flows:
            flow.move_on()
        for flow in flows:
            flow.tell()

    def _begin(self) -> None:
        for begun in self._begun:
            sharing.begin(self._links, self._rows, self._entries, self._counts, self._loop.now_s, *begun)
        self._begun.clear()

    def _over(self, number: int) -> Flow:
        flow = self._flows[number]
        assert flow is not None
        if flow.has_next:
            flow.has_next = False
            return flow
        return self._release(number)

    def _release(self, number: int) -> Flow:
        flow = self._flows[number]
        assert flow is not None
        flow.is_running = False
        self._flows[number] = None
        self._free.append(number)
        return flow

    def _grow(self) -> None:
        """Room for twice as many flows."""
        old = len(self._flows)
        new = max(_ROWS_MIN, old)
        self._rows = np.concatenate([self._rows, np.zeros(new, rows.FLOW)])
        self._entries = np.concatenate([self._entries, np.zeros(rows.LINKS_MAX * new, rows.ENTRY)])
        self._ended, self._next_bytes = self._rows["ended_list"], self._rows["next_bytes"]
        self._entries["link"][rows.LINKS_MAX * old :] = -1
        self._flows += [None] * new
        self._free += range(old + new - 1, old - 1, -1)
