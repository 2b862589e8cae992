"""An asyncio event loop on virtual time: nothing waits, time jumps to the next timer.

Coroutines, `asyncio.sleep`, `timeout`, `TaskGroup` and so on run unchanged; an hour of waiting costs microseconds, and
equal programs run in the same order each time. What would leave the simulated world is refused: threads, executors,
sockets, subprocesses and signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import signal
import threading
import weakref
from asyncio import Task
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import Any, Protocol, TypeVar

from .clockwork import Clockwork
from .outside import closed_to_the_outside
from .stuck import Deadlock, Livelock, OutOfTime
from .waiting import describe_tasks

T = TypeVar("T")

WIND_UP_S = 60.0
"""Virtual time that cancelled tasks have for their cleanup."""

_NOBODY = Context()


class Owner(Protocol):
    """Whoever answers for tasks, such as a host on which they run."""

    def adopt(self, task: Task[Any]) -> None:
        """A task has begun."""

    def part_from(self, task: Task[Any]) -> None:
        """It has ended."""


@closed_to_the_outside
class VirtualLoop(Clockwork):
    """Runs one coroutine with everything that it starts; see `run`.

    Args:
        shuffle_seed: permute callbacks that are ready at the same time, so as to find code that relies on their order.
    """

    def __init__(self, *, shuffle_seed: int | None = None) -> None:
        super().__init__(shuffle_seed=shuffle_seed)
        self._tasks: dict[Task[Any], Owner | None] = {}
        self.owner_of: Callable[[Context | None], Owner | None] = lambda context: None
        """Who owns a task that is started now in this context (None: the current one)."""
        self._failed: list[weakref.ref[Task[Any]]] = []

    # ------------------------------------------------------------------------------------------------------- running

    def run(self, main: Coroutine[Any, Any, T], *, timeout_s: float = math.inf) -> T:
        """Run `main` to its end, then cancel whatever tasks are left.

        Args:
            timeout_s: virtual seconds.
        Raises: what `main` raised; Deadlock, OutOfTime, Livelock; the exception of a task or callback that nobody
            handled.
        """
        with _steady_collection(), self._interrupted_between_callbacks():
            try:
                result = self._run_within(self.create_task(main, name="main"), timeout_s)
            except BaseException:
                self._give_up()
                raise
            self._wind_up()
            self._raise_unhandled()
            return result

    @contextlib.contextmanager
    def _interrupted_between_callbacks(self) -> Iterator[None]:
        """Ctrl-C ends the run between two callbacks, for in a finalizer, of which there are many, it would be lost.
        The second one at once."""
        is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not is_ours or threading.current_thread() is not threading.main_thread():
            yield
            return
        interruption = KeyboardInterrupt()

        def interrupt(number: int, frame: object) -> None:
            if self._failure is interruption:
                raise KeyboardInterrupt
            self._failure = interruption

        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    __del__: Any = staticmethod(bool)
    """Nothing here needs closing, so a loop that never ran is no cause for a warning. No function of Python's, in which
    a Ctrl-C that came during a collection would be lost."""

    def _run_within(self, task: Task[T], limit_s: float) -> T:
        self._limit_s = self.now_s + limit_s
        try:
            return self.run_until_complete(task)
        except (Deadlock, OutOfTime, Livelock) as stuck:
            raise stuck from self._first_unhandled()

    def _wind_up(self) -> None:
        pending = list(self._tasks)
        for task in pending:
            task.cancel()
        if pending:
            self._run_within(self.create_task(_all_done(pending), name="wind up"), WIND_UP_S)
        if self._tasks:
            raise OutOfTime(f"tasks were started by others that were being cancelled:{describe_tasks(self._tasks)}")
        self._run_within(self.create_task(self.shutdown_asyncgens(), name="wind up"), WIND_UP_S)

    def _give_up(self) -> None:
        """After a failure: let tasks clean up, whatever comes of it; the failure is what matters."""
        self._failure = None
        self._moved_at_round = self._rounds
        with contextlib.suppress(Exception):
            self._wind_up()
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.clear()

    # ---------------------------------------------------------------------------------------------------------- tasks

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> Task[T]:
        if self._closed:
            self._check_closed()  # type: ignore[attr-defined]
        task: Task[T] = Task(coro, loop=self, name=name, context=context)
        owner = self.owner_of(context)
        self._tasks[task] = owner
        task.add_done_callback(self._task_done, context=_NOBODY)
        if owner is not None:
            owner.adopt(task)
        return task

    def _task_done(self, task: Task[Any]) -> None:
        owner = self._tasks.pop(task, None)
        if not task.cancelled() and task._exception is not None:
            self._failed.append(weakref.ref(task))
        if owner is not None:
            owner.part_from(task)

    def _first_unhandled(self) -> BaseException | None:
        """The exception of the earliest task that failed and was never asked for its result."""
        for reference in self._failed:
            task = reference()
            if task is not None and task._log_traceback:
                return task.exception()
        return self._failure

    def _raise_unhandled(self) -> None:
        failure = self._first_unhandled()
        if failure is not None:
            raise failure

    def _n_tasks(self) -> int:
        return len(self._tasks)

    def _waiting(self) -> str:
        return describe_tasks(self._tasks)


def running_loop() -> VirtualLoop:
    """As asyncio's, in a simulation."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


async def _all_done(tasks: list[Task[Any]]) -> None:
    await asyncio.wait(tasks)


@contextlib.contextmanager
def _steady_collection() -> Iterator[None]:
    """A garbage collection runs finalizers: let it fall on the same instant of each run, and see this run only."""
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
