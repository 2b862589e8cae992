"""Virtual time: callbacks that are ready, timers, and the jump to the next when nothing is."""

from __future__ import annotations

import asyncio
import gc
import heapq
import math
import random
import threading
from asyncio import Future, Handle, TimerHandle
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeVarTuple, Unpack

from .handles import Call, Timer
from .stuck import Deadlock, Livelock, OutOfTime

Ts = TypeVarTuple("Ts")

SPINS_MAX = 200_000
"""So many rounds without time moving on are an endless loop of `sleep(0)`."""

_CANCELLED_TIMERS_MIN = 100
_ROUNDS_PER_PAUSE = 10_000
_PAUSES_PER_COLLECTION = 40
_PAUSES_PER_FULL_COLLECTION = 120
"""Rounds of daemons leave cycles, and most are older by then than those that a lesser collection looks at."""
_TASKS_MANY = 1000
"""A world of so many tasks, and again of twice as many, is put aside: looking through it takes seconds each time."""


class Fluid(Protocol):
    """Something that changes all the time, such as bytes that drain, and asks the loop to stop at certain moments."""

    next_s: float
    """When something happens next; inf: not in this state."""

    dirty: bool
    """Whether something has changed since it was last worked out."""

    def settle(self) -> None:
        """An instant in which something changed is over: work out `next_s`. Schedules nothing."""

    def happen(self) -> None:
        """`next_s` is reached. Must move it on, now or at the next `settle`."""


class Clockwork(asyncio.BaseEventLoop):
    """What drives a `VirtualLoop`.

    Args:
        shuffle_seed: permute callbacks that are ready at the same time, so as to find code that relies on their order.
    """

    # The names of asyncio's that this class relies on are pinned by tests/simulator/test_loop.py.
    _ready: deque[Any]
    _stopping: bool
    _closed: bool

    get_debug: Any = staticmethod(bool)
    """Never; asked for each future, so it is not to be a function of Python's."""

    def __init__(self, *, shuffle_seed: int | None = None) -> None:
        super().__init__()
        self.set_debug(False)
        self.now_s = 0.0
        """Virtual seconds since the loop was made; as `time()`."""
        self.fluid: Fluid | None = None
        """At most one."""
        self._limit_s = math.inf
        self._times: list[float] = []
        """When something is due, each time once: a heap."""
        self._due: dict[float, Any] = {}
        """What: an event, or a list of several in the order in which they were set. An event is a handle, or if it is
        the world's own, `(callback, arguments)`: most are, and these are quicker to make and to run."""
        self._n_cancelled = 0
        self._rounds = 0
        self._moved_at_round = 0
        self._pause_at_round = _ROUNDS_PER_PAUSE
        self._n_pauses = self._n_pauses_since_full = 0
        self._n_tasks_aside = 0
        self._shuffle = None if shuffle_seed is None else random.Random(shuffle_seed)
        self._failure: BaseException | None = None
        self.set_exception_handler(lambda loop, context: self._keep_failure(context))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.now_s

    def call_soon(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None) -> Handle:
        """As asyncio's."""
        if self._closed:
            self._check_closed()  # type: ignore[attr-defined]
        handle = Call(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """As asyncio's, and timers of the same instant fire in the order in which they were set."""
        if self._closed:
            self._check_closed()  # type: ignore[attr-defined]
        timer = Timer(when, callback, args, self, copy_context() if context is None else context)
        self._add(when, timer)
        return timer

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def post(self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """`call_at` for the simulated world's own events: outside of all contexts, never cancelled."""
        self._add(when, (callback, args))

    def pause(self, seconds: float) -> Future[None]:
        """For the simulated world's own waits: as `asyncio.sleep`, for less."""
        waiter: Future[None] = Future(loop=self)
        self._add(self.now_s + seconds, (_wake, (waiter,)))
        return waiter

    def _add(self, when: float, event: Any) -> None:
        """A heap of bare numbers, nearly all of them different, costs a third of one of entries that are compared."""
        due = self._due
        if when not in due:
            due[when] = event
            heapq.heappush(self._times, when)
        elif type(due[when]) is list:
            due[when].append(event)
        else:
            due[when] = [due[when], event]

    def _run_once(self) -> None:  # noqa: C901, PLR0912 - the loop that all else runs in
        """Rounds until somebody stops the loop: jump to the next event if nothing is ready, then call what is, but not
        what becomes ready meanwhile. In one piece, for calls within cost more than anything else here."""
        ready, times, due, shuffle, pop = self._ready, self._times, self._due, self._shuffle, heapq.heappop
        while True:
            if self._n_cancelled > _CANCELLED_TIMERS_MIN and 2 * self._n_cancelled > len(times):
                self._drop_cancelled_timers()
            if not ready and not self._stopping:
                self._jump()
            now_s = self.now_s
            while times and times[0] <= now_s:
                first = due.pop(pop(times))
                if type(first) is tuple:
                    ready.append(first)
                    continue
                for event in first if type(first) is list else (first,):
                    if type(event) is not tuple:
                        if event._cancelled:
                            self._n_cancelled -= 1
                            continue
                        event._scheduled = False
                    ready.append(event)
            self._rounds += 1
            if self._rounds >= self._pause_at_round:
                self._keep_house()
            if shuffle is not None and len(ready) > 1:
                shuffle.shuffle(ready)
            for _ in range(len(ready)):
                event = ready.popleft()
                try:
                    if type(event) is tuple:
                        event[0](*event[1])
                    elif not event._cancelled:
                        event._context.run(event._callback, *event._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever it is, the run has failed
                    self._keep_failure({"exception": error})
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if self._stopping:
                return

    def _drop_cancelled_timers(self) -> None:
        due = self._due
        for when, first in list(due.items()):
            alive = [event for event in (first if type(first) is list else (first,)) if not _is_cancelled(event)]
            if alive:
                due[when] = alive if len(alive) > 1 else alive[0]
            else:
                del due[when]
        self._times[:] = due
        heapq.heapify(self._times)
        self._n_cancelled = 0

    def _jump(self) -> None:
        """Move time on, event by event, until there is something to call."""
        times, due, fluid, ready = self._times, self._due, self.fluid, self._ready
        while True:
            while self._n_cancelled and times:  # nothing is due any more at a time whose timers are all cancelled
                first = due[times[0]]
                if not all(_is_cancelled(event) for event in (first if type(first) is list else (first,))):
                    break
                del due[heapq.heappop(times)]
                self._n_cancelled -= len(first) if type(first) is list else 1
            when = times[0] if times else math.inf
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
            if fluid is None or fluid.next_s > when:
                return
            fluid.happen()
            if ready or (times and times[0] <= self.now_s):
                return

    def _stuck(self, when: float) -> Deadlock | OutOfTime:
        if when == math.inf:
            return Deadlock(
                f"at {self.now_s:.6f} s nothing is left that could happen, and these wait for ever:{self._waiting()}"
            )
        return OutOfTime(
            f"the run was to end before {self._limit_s:.6f} s of virtual time, and these still wait:{self._waiting()}"
        )

    def _keep_house(self) -> None:
        """Every so many rounds: collect garbage, and see whether time still moves."""
        self._pause_at_round = self._rounds + _ROUNDS_PER_PAUSE
        self._n_pauses += 1
        self._n_pauses_since_full += 1
        if self._rounds - self._moved_at_round > SPINS_MAX:
            self._moved_at_round = self._rounds
            raise Livelock(
                f"time has stood still at {self.now_s:.6f} s for {SPINS_MAX} rounds of the loop, these are pending:"
                f"{self._waiting()}"
            )
        if self._n_pauses % _PAUSES_PER_COLLECTION == 0:
            self._collect()

    def _collect(self) -> None:
        n_tasks = self._n_tasks()
        if n_tasks > max(_TASKS_MANY, 2 * self._n_tasks_aside):
            self._n_tasks_aside = n_tasks
            gc.freeze()
            return
        is_full = self._n_pauses_since_full >= _PAUSES_PER_FULL_COLLECTION
        self._n_pauses_since_full = 0 if is_full else self._n_pauses_since_full
        gc.collect(2 if is_full else 1)

    def _n_tasks(self) -> int:
        """That are under way."""
        return 0

    def _waiting(self) -> str:
        """Who waits for what."""
        return ""

    def _keep_failure(self, context: dict[str, Any]) -> None:
        if self._failure is None:
            self._failure = context.get("exception") or RuntimeError(context["message"])

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> Handle:
        """As `call_soon`: asyncio itself uses it, from the loop's own thread, to close async generators."""
        if self._thread_id not in {None, threading.get_ident()}:  # type: ignore[attr-defined]
            raise RuntimeError("another thread called into a simulated run: threads have no virtual time")
        return self.call_soon(callback, *args, context=context)


def _is_cancelled(event: Any) -> bool:
    return type(event) is not tuple and event._cancelled


def _wake(waiter: Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
