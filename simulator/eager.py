"""Coroutines that run at once up to their first wait; only what has to wait becomes a task.

Most requests are answered without a wait, and a task costs as much as all else that happens to their messages. Python
3.12 has this as eager tasks.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

from .loop import VirtualLoop

T = TypeVar("T")


class _Beginning:
    """Stands for the task that a coroutine has become, if it has had to wait, for what it asked of it before."""

    def __init__(self) -> None:
        self.task: Task[Any] | None = None
        self.n_cancelled = 0
        """By itself, before it was a task, which then is."""

    def done(self) -> bool:
        return self.task is not None and self.task.done()

    def cancel(self, msg: object | None = None) -> bool:
        if self.task is not None:
            return self.task.cancel(msg)
        self.n_cancelled += 1
        return True

    def cancelling(self) -> int:
        return self.task.cancelling() if self.task is not None else self.n_cancelled

    def uncancel(self) -> int:
        if self.task is not None:
            return self.task.uncancel()
        self.n_cancelled = max(0, self.n_cancelled - 1)
        return self.n_cancelled


class _Rest(Coroutine[Any, Any, T]):
    """A coroutine that waits for something already."""

    def __init__(self, begun: Coroutine[Any, Any, T], awaited: object) -> None:
        self._begun = begun
        self._awaited: object | None = awaited

    def send(self, value: Any) -> Any:
        if self._awaited is None:
            return self._begun.send(value)
        awaited, self._awaited = self._awaited, None
        return awaited

    def throw(self, *error: Any) -> Any:
        self._awaited = None
        return self._begun.throw(*error)

    def close(self) -> None:
        self._begun.close()

    def __await__(self) -> Any:
        raise TypeError("this is for a task to run, and for nobody to await")


def begin(loop: VirtualLoop, work: Coroutine[Any, Any, object], *, name: str, context: Context) -> Task[object] | None:
    """Run it up to its first wait, and leave the rest to a task; None if it has ended.

    Raises: what the work does before it waits.
    """
    beginning = _Beginning()
    asyncio.tasks._enter_task(loop, beginning)  # type: ignore[arg-type]
    try:
        awaited = context.run(work.send, None)
    except StopIteration:
        return None
    finally:
        asyncio.tasks._leave_task(loop, beginning)  # type: ignore[arg-type]
    task = beginning.task = loop.create_task(_Rest(work, awaited), name=name, context=context)
    for _ in range(beginning.n_cancelled):
        task.cancel()
    return task
