"""The virtual-time loop: asyncio as it is, time as it jumps, and the traps on the way."""

from __future__ import annotations

import asyncio
import gc
import signal
from asyncio import BaseEventLoop, Handle, Task, TimerHandle
from collections import deque
from collections.abc import AsyncIterator, Iterator

import pytest

from gossamer.simulator.loop import VirtualLoop
from gossamer.simulator.stuck import Deadlock, Livelock, OutOfTime


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


def test_time_jumps_to_the_next_timer(loop: VirtualLoop) -> None:
    async def main() -> list[float]:
        times = []
        for delay in (1e-3, 5.0, 1e7):
            await asyncio.sleep(delay)
            times.append(loop.time())
        return times

    assert loop.run(main()) == [1e-3, 5.001, 10000005.001]


@pytest.mark.parametrize("delay_s", [0.0, 1e-12, 1e-9, 1e-6])
def test_tiny_delays_late_in_a_long_run_do_not_spin(loop: VirtualLoop, delay_s: float) -> None:
    async def main() -> None:
        await asyncio.sleep(1e9)
        for _ in range(1000):
            await asyncio.sleep(delay_s)

    loop.run(main())

    assert loop._rounds < 5000


def test_timers_of_one_instant_fire_in_the_order_they_were_set(loop: VirtualLoop) -> None:
    fired: list[int] = []

    async def main() -> None:
        for number in range(100):
            loop.call_at(1.0, fired.append, number)
        await asyncio.sleep(2.0)

    loop.run(main())

    assert fired == list(range(100))


def test_waiting_for_ever_names_the_tasks_and_what_they_await(loop: VirtualLoop) -> None:
    async def take(queue: asyncio.Queue[int]) -> int:
        return await queue.get()

    async def main() -> None:
        await asyncio.create_task(take(asyncio.Queue()), name="taker")

    with pytest.raises(Deadlock) as caught:
        loop.run(main())

    text = str(caught.value)
    assert "main: " in text
    assert "taker: " in text
    assert "take() at simulator/test_loop.py:" in text
    assert "Queue.get() at asyncio/queues.py:" in text


def test_of_many_waiting_tasks_some_are_listed_and_the_others_counted(loop: VirtualLoop) -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.Queue[int]().get() for _ in range(30)))

    with pytest.raises(Deadlock, match=r"(\n  .+: .+){20}\n  \.\.\. and 11 more$"):
        loop.run(main())


def test_sleeping_for_ever_is_waiting_for_ever(loop: VirtualLoop) -> None:
    with pytest.raises(Deadlock):
        loop.run(asyncio.sleep(float("inf")))


def test_run_ends_at_its_time_limit(loop: VirtualLoop) -> None:
    with pytest.raises(OutOfTime, match=r"before 60\.0.*\n.*main: sleep\(\) at"):
        loop.run(asyncio.sleep(61), timeout_s=60)


def test_busy_loop_without_progress_of_time_is_reported(loop: VirtualLoop) -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - the point of the test
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="main"):
        loop.run(main())


def test_failed_task_that_nobody_asked_is_the_cause_of_a_deadlock(loop: VirtualLoop) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.Event().wait()
        await task

    with pytest.raises(Deadlock) as caught:
        loop.run(main())

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("n_waiting", [1, 1000])
def test_cancelled_timers_do_not_pile_up(loop: VirtualLoop, n_waiting: int) -> None:
    most = 0

    async def work(n_times: int) -> None:
        nonlocal most
        for _ in range(n_times):
            async with asyncio.timeout(1e6):
                await asyncio.sleep(0)
            most = max(most, len(loop._times))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(n_waiting):
                group.create_task(work(100_000 // n_waiting))

    loop.run(main())

    assert most < 3 * n_waiting + 300
    assert loop.time() < 1


def test_exception_in_a_callback_fails_the_run(loop: VirtualLoop) -> None:
    async def main() -> None:
        loop.call_later(1.0, lambda: 1 // 0)
        await asyncio.sleep(5.0)

    with pytest.raises(ZeroDivisionError):
        loop.run(main())

    assert loop.time() == 1.0


@pytest.mark.parametrize("keep", [True, False])
def test_exception_in_a_forgotten_task_fails_the_run(loop: VirtualLoop, keep: bool) -> None:
    kept: list[Task[None]] = []

    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        task = asyncio.create_task(fail())
        if keep:
            kept.append(task)
        del task
        await asyncio.sleep(5.0)

    with pytest.raises(ZeroDivisionError):
        loop.run(main())


def test_exception_that_somebody_handles_is_no_failure(loop: VirtualLoop) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> str:
        task = asyncio.create_task(fail())
        await asyncio.sleep(5.0)
        with pytest.raises(ZeroDivisionError):
            await task
        return "done"

    assert loop.run(main()) == "done"


def test_leftover_tasks_are_cancelled_and_clean_up(loop: VirtualLoop) -> None:
    events: list[str] = []

    async def daemon(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.5)
            events.append(f"{name} ended at {loop.time()}")

    async def main() -> None:
        for name in ("first", "second"):
            events.append(asyncio.create_task(daemon(name)).get_name()[:4])
        await asyncio.sleep(1.0)

    loop.run(main())

    assert events == ["Task", "Task", "first ended at 1.5", "second ended at 1.5"]


def test_task_that_outlives_its_cancellation_is_reported(loop: VirtualLoop) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        loop.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(1.0)

    with pytest.raises(OutOfTime, match=r"stubborn"):
        loop.run(main())


def test_failure_of_main_comes_before_what_its_tasks_do_about_it(loop: VirtualLoop) -> None:
    async def daemon() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise KeyError("on the way out")

    async def main() -> None:
        loop.create_task(daemon())
        await asyncio.sleep(1.0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.run(main())


def test_timeouts_groups_and_generators_work(loop: VirtualLoop) -> None:
    closed: list[float] = []

    async def count() -> AsyncIterator[int]:
        try:
            for number in range(10):
                await asyncio.sleep(1.0)
                yield number
        finally:
            await asyncio.sleep(0.25)
            closed.append(loop.time())

    async def main() -> list[object]:
        got: list[object] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await asyncio.sleep(3.0)
        got.append(loop.time())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3.0), 2.0)
        got.append(loop.time())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(delay, delay)) for delay in (3, 1, 2)]
        got.append([task.result() for task in tasks])
        got.append(loop.time())
        async for number in count():
            got.append(number)
            if number == 1:
                break
        await asyncio.sleep(1.0)
        return got

    assert loop.run(main()) == [2.0, 4.0, [3, 1, 2], 7.0, 0, 1]
    assert closed == [9.25]


def test_garbage_collection_is_as_before_after_a_run(loop: VirtualLoop) -> None:
    before = gc.get_freeze_count()

    loop.run(asyncio.sleep(1.0))

    assert gc.isenabled()
    assert gc.get_freeze_count() == before


def test_private_names_of_asyncio_are_where_we_expect_them() -> None:
    loop = VirtualLoop()
    task: Task[None] = Task(asyncio.sleep(0), loop=loop)
    timer = loop.call_later(1.0, int)

    assert isinstance(loop._ready, deque)
    assert loop._stopping is False
    assert {"_run_once", "_timer_handle_cancelled", "_check_closed", "call_at"} <= vars(BaseEventLoop).keys()
    assert {"_run", "_cancelled"} <= set(dir(Handle))
    assert {"_scheduled", "_when"} <= set(TimerHandle.__slots__)
    assert loop._thread_id is None  # type: ignore[attr-defined]
    assert (task._exception, task._log_traceback, task._log_destroy_pending) == (None, False, True)  # type: ignore[attr-defined]
    timer.cancel()
    assert loop._n_cancelled == 1
    loop.run_until_complete(task)
    loop.close()


def test_ctrl_c_is_not_lost_in_a_finalizer_and_tasks_clean_up(loop: VirtualLoop) -> None:
    class Garbage:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    ended: list[str] = []

    async def tidy() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append("task")

    async def main() -> None:
        task = asyncio.create_task(tidy())
        await asyncio.sleep(1)
        Garbage()
        await task

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run(main())
    assert ended == ["task"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_second_ctrl_c_ends_what_never_comes_to_an_end(loop: VirtualLoop) -> None:
    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        while True:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loop.run(main())
