"""An asyncio event loop on virtual time: nothing waits, time jumps to the next timer.

Coroutines, `asyncio.sleep`, `timeout`, `TaskGroup` and so on run unchanged; an hour of waiting costs microseconds, and
equal programs run in the same order each time. What would leave the simulated world is refused: threads, executors,
sockets, subprocesses and signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import itertools
import math
import random
import threading
import weakref
from asyncio import Handle, Task, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

from .waiting import describe_tasks

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

RESOLUTION_S = 1e-6
"""Timers this close together fire together. Less than the spacing of floats around `now`, and a loop would spin."""

SPINS_MAX = 200_000
"""So many rounds without time moving on are an endless loop of `sleep(0)`."""

WIND_UP_S = 60.0
"""Virtual time that cancelled tasks have for their cleanup."""

_CANCELLED_TIMERS_MIN = 100
_ROUNDS_PER_PAUSE = 10_000
_PAUSES_PER_COLLECTION = 10
_PAUSES_PER_FULL_COLLECTION = 200


_NOBODY = Context()


class Deadlock(RuntimeError):
    """Every task waits for something that can no longer happen."""


class OutOfTime(RuntimeError):
    """The run was not over when its virtual time was."""


class Livelock(RuntimeError):
    """The loop is busy, but virtual time stands still."""


class Fluid(Protocol):
    """Something that changes all the time, such as bytes that drain, and asks the loop to stop at certain moments."""

    next_s: float
    """When something happens next; inf: not in this state."""

    dirty: bool
    """Whether something has changed in this instant."""

    def settle(self) -> None:
        """An instant in which something changed is over: work out `next_s`. Schedules nothing."""

    def happen(self) -> None:
        """`next_s` is reached. Must move it on, now or at the next `settle`."""


class Owner(Protocol):
    """Whoever answers for tasks, such as a host on which they run."""

    def adopt(self, task: Task[Any]) -> None:
        """A task has begun."""

    def part_from(self, task: Task[Any]) -> None:
        """It has ended."""


class Call(Handle):
    """A callback that is ready; quicker to make than asyncio's. Without a context it runs in the loop's own."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], loop: asyncio.AbstractEventLoop, context: Any
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._cancelled = False
        self._source_traceback = None
        self._repr = None


class Timer(TimerHandle):
    """Likewise, for later."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Any,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._cancelled = False
        self._source_traceback = None
        self._repr = None
        self._when = when
        self._scheduled = True


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one coroutine with everything that it starts; see `run`.

    Args:
        shuffle_seed: permute callbacks that are ready at the same time, so as to find code that relies on their order.
    """

    # The names of asyncio's that this class relies on are pinned by tests/simulator/test_loop.py.
    _ready: deque[Any]
    _stopping: bool
    _closed: bool

    def __init__(self, *, shuffle_seed: int | None = None) -> None:
        super().__init__()
        self.set_debug(False)
        self.now_s = 0.0
        """Virtual seconds since the loop was made; as `time()`."""
        self._limit_s = math.inf
        self._timers: list[tuple[float, int, Any]] = []
        self._n_cancelled = 0
        self._sequence = itertools.count()
        self.fluid: Fluid | None = None
        """At most one."""
        self._rounds = 0
        self._moved_at_round = 0
        self._pause_at_round = _ROUNDS_PER_PAUSE
        self._n_pauses = 0
        self._shuffle = None if shuffle_seed is None else random.Random(shuffle_seed)
        self._tasks: dict[Task[Any], Owner | None] = {}
        self.owner_of: Callable[[Context | None], Owner | None] = lambda context: None
        """Who owns a task that is started now in this context (None: the current one)."""
        self._failed: list[weakref.ref[Task[Any]]] = []
        self._failure: BaseException | None = None
        self.set_exception_handler(lambda loop, context: self._keep_failure(context))

    # ------------------------------------------------------------------------------------------------------- running

    def run(self, main: Coroutine[Any, Any, T], *, timeout_s: float = math.inf) -> T:
        """Run `main` to its end, then cancel whatever tasks are left.

        Args:
            timeout_s: virtual seconds.
        Raises: what `main` raised; Deadlock, OutOfTime, Livelock; the exception of a task or callback that nobody
            handled.
        """
        with _steady_collection():
            try:
                result = self._run_within(self.create_task(main, name="main"), timeout_s)
            except BaseException:
                self._give_up()
                raise
            self._wind_up()
            self._raise_unhandled()
            return result

    def __del__(self) -> None:
        """Nothing here needs closing, so a loop that never ran is no cause for a warning."""

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.now_s

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

    # ------------------------------------------------------------------------------------------------------ the clock

    def call_soon(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None) -> Handle:
        """As asyncio's."""
        if self._closed:
            self._check_closed()  # type: ignore[attr-defined]
        handle = Call(callback, args, self, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """As asyncio's, and timers of the same instant fire in the order in which they were set."""
        if self._closed:
            self._check_closed()  # type: ignore[attr-defined]
        timer = Timer(when, callback, args, self, copy_context() if context is None else context)
        heapq.heappush(self._timers, (when, next(self._sequence), timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def post(self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """`call_at` for the simulated world's own events: outside of all contexts, never cancelled."""
        heapq.heappush(self._timers, (when, next(self._sequence), Call(callback, args, self, None)))

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        if handle._scheduled:  # type: ignore[attr-defined]
            self._n_cancelled += 1

    def _run_once(self) -> None:
        """One round: jump to the next event if nothing is ready, then call what is. Called by asyncio."""
        ready = self._ready
        if self._n_cancelled > _CANCELLED_TIMERS_MIN and 2 * self._n_cancelled > len(self._timers):
            self._drop_cancelled_timers()
        if not ready and not self._stopping:
            self._jump()
        timers = self._timers
        if timers and timers[0][0] < self.now_s + RESOLUTION_S:
            self._collect_due_timers()
        self._rounds += 1
        if self._rounds >= self._pause_at_round:
            self._keep_house()
        if self._shuffle is not None and len(ready) > 1:
            self._shuffle.shuffle(ready)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            try:
                if handle._context is None:
                    handle._callback(*handle._args)
                else:
                    handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, the run has failed
                self._keep_failure({"exception": error})
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _drop_cancelled_timers(self) -> None:
        self._timers = [entry for entry in self._timers if not entry[2]._cancelled]
        heapq.heapify(self._timers)
        self._n_cancelled = 0

    def _jump(self) -> None:
        timers, fluid = self._timers, self.fluid
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
            self._n_cancelled -= 1
        when = timers[0][0] if timers else math.inf
        if fluid is not None:
            if fluid.dirty:
                fluid.settle()
            if fluid.next_s < when:
                when = fluid.next_s
        if when > self._limit_s or when == math.inf:
            raise self._stuck(when)
        if when > self.now_s:
            self.now_s = when
            self._moved_at_round = self._rounds
        if fluid is not None and fluid.next_s < self.now_s + RESOLUTION_S:
            fluid.happen()

    def _stuck(self, when: float) -> Deadlock | OutOfTime:
        if when == math.inf:
            return Deadlock(
                f"at {self.now_s:.6f} s nothing is left that could happen, and these wait for ever:"
                f"{describe_tasks(self._tasks)}"
            )
        return OutOfTime(
            f"the run was to end before {self._limit_s:.6f} s of virtual time, and these still wait:"
            f"{describe_tasks(self._tasks)}"
        )

    def _collect_due_timers(self) -> None:
        timers, due, ready = self._timers, self.now_s + RESOLUTION_S, self._ready
        while timers and timers[0][0] < due:
            timer = heapq.heappop(timers)[2]
            if timer._cancelled:
                self._n_cancelled -= 1
                continue
            if timer._context is not None:
                timer._scheduled = False
            ready.append(timer)

    def _keep_house(self) -> None:
        """Every so many rounds: collect garbage, and see whether time still moves."""
        self._pause_at_round = self._rounds + _ROUNDS_PER_PAUSE
        self._n_pauses += 1
        if self._rounds - self._moved_at_round > SPINS_MAX:
            self._moved_at_round = self._rounds
            raise Livelock(
                f"time has stood still at {self.now_s:.6f} s for {SPINS_MAX} rounds of the loop, these are pending:"
                f"{describe_tasks(self._tasks)}"
            )
        if self._n_pauses % _PAUSES_PER_COLLECTION == 0:
            gc.collect(2 if self._n_pauses % _PAUSES_PER_FULL_COLLECTION == 0 else 1)

    # ---------------------------------------------------------------------------------------------------------- tasks

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> Task[T]:
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

    def _keep_failure(self, context: dict[str, Any]) -> None:
        if self._failure is None:
            self._failure = context.get("exception") or RuntimeError(context["message"])

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

    # -------------------------------------------------------------------------------------------- the world outside

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> Handle:
        """As `call_soon`: asyncio itself uses it, from the loop's own thread, to close async generators."""
        if self._thread_id not in {None, threading.get_ident()}:  # type: ignore[attr-defined]
            raise RuntimeError("another thread called into a simulated run: threads have no virtual time")
        return self.call_soon(callback, *args, context=context)


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(self: VirtualLoop, *args: object, **kwargs: object) -> Any:
        raise RuntimeError(f"{name} leaves the simulated world: go through Network (Network.compute for heavy maths)")

    return refuse


REFUSED = (
    *("run_in_executor", "set_default_executor", "getaddrinfo", "getnameinfo", "subprocess_shell", "subprocess_exec"),
    *("create_connection", "create_server", "create_datagram_endpoint", "create_unix_connection"),
    *("create_unix_server", "connect_accepted_socket", "connect_read_pipe", "connect_write_pipe", "start_tls"),
    *("sendfile", "sock_sendfile", "sock_recv", "sock_recv_into", "sock_sendall", "sock_connect", "sock_accept"),
    *("add_reader", "remove_reader", "add_writer", "remove_writer", "add_signal_handler", "remove_signal_handler"),
)
"""Methods of an event loop that would leave the simulated world."""

for _name in REFUSED:
    setattr(VirtualLoop, _name, _refusal(_name))


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
