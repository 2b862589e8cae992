"""A second replica is asked when the first takes too long, and whoever answers first counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Asking = Coroutine[Any, Any, T | None]
"""Ends with None if it came to nothing."""


async def hedged(first: Asking[T], second: Callable[[], Asking[T] | None], after_s: float) -> T | None:
    """Await `first`; whenever it has taken `after_s` longer, try to begin `second`. The loser is cancelled.

    Args:
        second: None if nobody can be asked yet; begun once at most.
    Raises: what `first` raises; `second` must not.
    """
    loop = asyncio.get_running_loop()
    scope, is_open = asyncio.timeout(None), True
    other: asyncio.Task[T | None] | None = None
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal other, timer
        asking = second()
        if asking is None:
            timer = loop.call_later(after_s, look)
            return
        other = loop.create_task(asking)
        other.add_done_callback(overtake)

    def overtake(task: asyncio.Task[T | None]) -> None:
        if is_open and not task.cancelled() and task.exception() is None and task.result() is not None:
            scope.reschedule(loop.time())  # ends the wait for the first

    timer = loop.call_later(after_s, look)
    try:
        async with scope:
            try:
                found = await first
            finally:
                is_open = False
        return found if found is not None or other is None else await other
    except TimeoutError:
        if other is None or not scope.expired():
            raise
        return other.result()
    finally:
        timer.cancel()
        if other is not None and not other.done():
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
