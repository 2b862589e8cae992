"""Work that begins at once, and becomes a task only if it has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context

import pytest

from gossamer.protocol.errors import PeerUnreachable
from gossamer.protocol.identity import PeerId
from gossamer.simulator.eager import begin
from gossamer.simulator.loop import VirtualLoop
from gossamer.simulator.world import Simulation


def _run(story: Callable[[VirtualLoop], Awaitable[None]]) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        await story(loop)

    loop.run(main())
    loop.close()


def test_what_does_not_wait_is_over_at_once_and_what_does_goes_on_in_a_task() -> None:
    told: list[str] = []

    async def work(seconds: float) -> None:
        told.append(f"begun {seconds}")
        if seconds:
            await asyncio.sleep(seconds)
        told.append(f"done {seconds}")

    async def story(loop: VirtualLoop) -> None:
        loop.call_soon(lambda: told.append(repr(begin(loop, work(0), name="short", context=copy_context()))))
        await asyncio.sleep(0.5)
        tasks = []
        loop.call_soon(lambda: tasks.append(begin(loop, work(2), name="long", context=copy_context())))
        await asyncio.sleep(0.5)
        (task,) = tasks
        assert task is not None
        assert task.get_name() == "long"
        await task

    _run(story)

    assert told == ["begun 0", "done 0", "None", "begun 2", "done 2"]


def test_timeouts_and_groups_that_are_opened_before_the_first_wait_end_the_task_that_came_of_it() -> None:
    told: list[str] = []

    async def fails() -> None:
        raise ValueError("within a group")

    async def work() -> None:
        try:
            async with asyncio.timeout(1.0):
                await asyncio.sleep(10.0)
        except TimeoutError:
            told.append("timed out")

    async def group_work() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await asyncio.sleep(10.0)
        except* ValueError:
            told.append("failed")

    async def story(loop: VirtualLoop) -> None:
        loop.call_soon(lambda: begin(loop, work(), name="work", context=copy_context()))
        loop.call_soon(lambda: begin(loop, group_work(), name="group", context=copy_context()))
        await asyncio.sleep(2.0)

    _run(story)

    assert sorted(told) == ["failed", "timed out"]


def test_cancelling_reaches_what_had_begun_even_before_the_task_has_run() -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(10.0)
        finally:
            told.append("cleaned up")

    async def story(loop: VirtualLoop) -> None:
        def start() -> None:
            task = begin(loop, work(), name="work", context=copy_context())
            assert task is not None
            task.cancel()

        loop.call_soon(start)
        await asyncio.sleep(1.0)

    _run(story)

    assert told == ["cleaned up"]


def test_what_cancels_itself_before_its_first_wait_ends_there() -> None:
    told: list[str] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        told.append(f"cancelled {task.cancelling()} times")
        try:
            await asyncio.sleep(10.0)
            told.append("went on")
        except asyncio.CancelledError:
            told.append("ended")
            raise

    async def story(loop: VirtualLoop) -> None:
        loop.call_soon(lambda: begin(loop, work(), name="work", context=copy_context()))
        await asyncio.sleep(20.0)

    _run(story)

    assert told == ["cancelled 1 times", "ended"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_host_that_dies_in_its_own_handler_answers_nobody(waits: bool) -> None:
    sim = Simulation(seed=0)
    a, b = sim.host("a"), sim.host("b")
    told: list[str] = []

    async def answer(peer: PeerId, request: bytes) -> bytes:
        b.kill()
        try:
            if waits:
                await asyncio.sleep(1.0)
                told.append("outlived it")
        finally:
            told.append("ended")
        return b"late"

    async def main() -> None:
        b.network.set_gate(lambda peer: True)
        b.network.serve("die", answer)
        with pytest.raises(PeerUnreachable):
            await a.network.call(b.peer_id, "die", b"", timeout_s=5.0)

    sim.run(main())

    assert told == ["ended"]
