"""A host's processor: heavy maths takes virtual time, one piece after the other."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from time import thread_time  # by itself: the guard looks at who calls time.thread_time
from typing import TypeVar

from ..protocol.network import Cost
from .cores import Cores
from .costs import NOTHING, CostModel
from .flows import Flow
from .loop import running_loop

T = TypeVar("T")


class Processor:
    """Does the work at once and holds the result back for as long as the host would have needed.

    Speeds may be changed at any time, for the work that begins afterwards.
    """

    def __init__(
        self,
        *,
        flops_per_s: float,
        memory_bytes_per_s: float,
        costs: CostModel = NOTHING,
        cores: Cores | None = None,
    ) -> None:
        """Args: cores: shared with others; None: the work has a core of its own."""
        if not (flops_per_s > 0 and memory_bytes_per_s > 0):
            raise ValueError(
                f"a host cannot have {flops_per_s} flops and {memory_bytes_per_s} bytes a second: both > 0"
            )
        self.flops_per_s = flops_per_s
        self.memory_bytes_per_s = memory_bytes_per_s
        self.disk_is_full = False
        """Whatever the work writes through to its disk fails."""
        self.busy_s = 0.0
        """Time that was computed so far, by all processes of the machine."""
        self.worked_s = 0.0
        """What that took of this processor here."""
        self._turn = asyncio.Lock()
        self._busy_until_s = 0.0
        self._costs = costs
        self._cores = cores
        self._flow: Flow | None = None
        self._done: asyncio.Future[None] | None = None
        """Of the work that the cores do."""

    async def run(self, work: Callable[[], T], cost: Cost) -> T:
        """In order of arrival. Work that began runs to its end even if nobody waits for it any more."""
        loop = running_loop()
        async with self._turn:
            if self._busy_until_s > loop.now_s:
                await loop.pause(self._busy_until_s - loop.now_s)
            elif self._done is not None and not self._done.done():
                await asyncio.shield(self._done)
            begun_s = thread_time()
            if self.disk_is_full:
                with _full_disk():
                    result = work()
            else:
                result = work()
            self.worked_s += thread_time() - begun_s
            took_s = self._seconds(cost)
            self.busy_s += took_s
            await self._spend(took_s)
        return result

    async def _spend(self, seconds: float) -> None:
        loop = running_loop()
        if self._cores is None:
            self._busy_until_s = loop.now_s + seconds
            await loop.pause(self._busy_until_s - loop.now_s)
        elif seconds > 0:
            self._done = loop.create_future()
            self._flow = self._cores.start(seconds, partial(self._done.set_result, None))
            await asyncio.shield(self._done)

    def end(self) -> None:
        """The process is gone, and with it what it computed."""
        if self._cores is not None and self._flow is not None:
            self._cores.stop(self._flow)

    def successor(self) -> Processor:
        """The same machine, with nothing to do."""
        made = Processor(
            flops_per_s=self.flops_per_s,
            memory_bytes_per_s=self.memory_bytes_per_s,
            costs=self._costs,
            cores=self._cores,
        )
        made.disk_is_full, made.busy_s, made.worked_s = self.disk_is_full, self.busy_s, self.worked_s
        return made

    def _seconds(self, cost: Cost) -> float:
        return self._costs.maths_s(cost, flops_per_s=self.flops_per_s, memory_bytes_per_s=self.memory_bytes_per_s)


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """Meanwhile fsync says that there is no room, which is where a full disk is noticed at the latest."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    original, os.fsync = os.fsync, refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync = original
