"""An asyncio event loop on virtual time: nothing waits, time jumps to the next timer.

Coroutines, `asyncio.sleep`, `timeout`, `TaskGroup` and so on run unchanged; an hour of waiting costs microseconds, and
equal programs run in the same order each time. What would leave the simulated world is refused: threads, executors,
sockets, subprocesses and signals.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import math
import random
import threading
import weakref
from asyncio import Handle, Task, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from .waiting import describe_tasks

T = TypeVar("T")

RESOLUTION_S = 1e-6
"""Timers this close together fire together. Below the spacing of floats around `now`, a loop would spin."""

SPINS_MAX = 1_000_000
"""So many rounds without time moving on are an endless loop of `sleep(0)`."""

WIND_UP_S = 60.0
"""Virtual time that cancelled tasks have for their cleanup."""

_CANCELLED_TIMERS_MIN = 100
_ROUNDS_PER_COLLECTION = 20_000


class Deadlock(RuntimeError):
    """Every task waits for something that can no longer happen."""


class OutOfTime(RuntimeError):
    """The run was not over when its virtual time was."""


class Livelock(RuntimeError):
    """The loop is busy, but virtual time stands still."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one coroutine at a time with `run`.

    Args:
        shuffle_seed: permute callbacks that are ready at the same time, so as to find code that relies on their order.
    """

    # The names of asyncio's that this class relies on are pinned by tests/simulator/test_loop.py.
    _ready: deque[Handle]
    _stopping: bool

    def __init__(self, *, shuffle_seed: int | None = None) -> None:
        super().__init__()
        self.set_debug(False)
        self._now = 0.0
        self._limit_s = math.inf
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._n_cancelled = 0
        self._sequence = itertools.count()
        self._spins = 0
        self._rounds = 0
        self._shuffle = None if shuffle_seed is None else random.Random(shuffle_seed)
        self._tasks: dict[Task[Any], None] = {}
        self._failed: list[weakref.ref[Task[Any]]] = []
        self._failure: BaseException | None = None
        self.set_exception_handler(_keep_failure)

    # ------------------------------------------------------------------------------------------------------- running

    def run(self, main: Coroutine[Any, Any, T], *, timeout_s: float = math.inf) -> T:
        """Run `main` to its end, then cancel whatever tasks are left.

        Args:
            timeout_s: virtual seconds.
        Raises: what `main` raised; Deadlock, OutOfTime, Livelock; the exception of a task or callback that nobody
            handled.
        """
        # A collection calls finalizers: it must fall on the same instant in each run, or never.
        collected = gc.isenabled()
        gc.freeze()
        gc.disable()
        try:
            result = self._run_within(self.create_task(main, name="main"), timeout_s)
            self._wind_up()
            self._raise_unhandled()
            return result
        finally:
            self._discard()
            gc.unfreeze()
            if collected:
                gc.enable()

    def _run_within(self, task: Task[T], limit_s: float) -> T:
        self._limit_s = self._now + limit_s
        try:
            return self.run_until_complete(task)
        except (Deadlock, OutOfTime, Livelock) as stuck:
            raise stuck from self._first_failure()

    def _wind_up(self) -> None:
        while self._tasks:
            pending = list(self._tasks)
            for task in pending:
                task.cancel()
            self._run_within(self.create_task(asyncio.wait(pending), name="wind up"), WIND_UP_S)  # type: ignore[arg-type]
            if [task for task in self._tasks if task in pending]:
                raise OutOfTime(f"tasks outlive their cancellation:{describe_tasks(list(self._tasks))}")
        self._run_within(self.create_task(self.shutdown_asyncgens(), name="wind up"), WIND_UP_S)

    def _discard(self) -> None:
        """Let go of what is left after a failure, without running any of it in the world of this loop."""
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.get_coro().close() if False else None
        self._tasks.clear()
        self._timers.clear()
        self._ready.clear()

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now
