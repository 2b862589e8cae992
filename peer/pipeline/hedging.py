"""A second replica is asked when the first takes too long, and whoever answers first counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Asking = Coroutine[Any, Any, T | None]
"""Ends with None if it came to nothing."""
AGAIN_S_MIN = 0.01
"""Looking whether somebody else can be asked costs processor time, too: where passes take microseconds, thousands of
looks would fit into one that is held up."""


async def hedged(first: Asking[T], second: Callable[[], Asking[T] | None], after_s: float) -> T | None:
    """Await `first`; when it has taken `after_s`, and whenever it has taken that much longer again (`AGAIN_S_MIN` at
    least), try to begin `second`. The loser is cancelled.

    Args:
        second: None if nobody can be asked yet; begun once at most.
    Raises: what `first` raises; `second` must not.
    """
    return await _Hedge(second, after_s).run(first)


class _Hedge(Generic[T]):
    def __init__(self, second: Callable[[], Asking[T] | None], after_s: float) -> None:
        self._second = second
        self._after_s = after_s
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._is_open = True
        self._other: asyncio.Task[T | None] | None = None
        self._timer = self._loop.call_later(after_s, self._look)

    async def run(self, first: Asking[T]) -> T | None:
        try:
            async with self._scope:
                try:
                    found = await first
                finally:
                    self._is_open = False
            return found if found is not None or self._other is None else await self._other
        except TimeoutError:
            if self._other is None or not self._scope.expired():
                raise
            return self._other.result()
        finally:
            self._timer.cancel()
            if self._other is not None and not self._other.done():
                self._other.cancel()
                await asyncio.gather(self._other, return_exceptions=True)

    def _look(self) -> None:
        """The first takes long."""
        asking = self._second()
        if asking is None:
            self._timer = self._loop.call_later(max(self._after_s, AGAIN_S_MIN), self._look)
            return
        self._other = self._loop.create_task(asking)
        self._other.add_done_callback(self._overtake)

    def _overtake(self, task: asyncio.Task[T | None]) -> None:
        if self._is_open and not task.cancelled() and task.exception() is None and task.result() is not None:
            self._scope.reschedule(self._loop.time())  # ends the wait for the first
