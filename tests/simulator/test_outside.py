"""What leaves the simulated world is refused, however it is asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from gossamer.simulator.loop import VirtualLoop
from gossamer.simulator.outside import REFUSED


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaves_the_simulated_world_is_refused(loop: VirtualLoop, name: str) -> None:
    with pytest.raises(RuntimeError, match=f"{name} leaves the simulated world"):
        getattr(loop, name)()


def _use_a_thread() -> Coroutine[Any, Any, object]:
    return asyncio.to_thread(int)


def _open_a_connection() -> Coroutine[Any, Any, object]:
    return asyncio.open_connection("localhost", 1)


def _start_a_process() -> Coroutine[Any, Any, object]:
    return asyncio.create_subprocess_exec("true")


@pytest.mark.parametrize("leave", [_use_a_thread, _open_a_connection, _start_a_process])
def test_asyncios_ways_out_are_refused(loop: VirtualLoop, leave: Callable[[], Coroutine[Any, Any, object]]) -> None:
    with pytest.raises(RuntimeError, match="leaves the simulated world"):
        loop.run(leave())


def test_other_threads_cannot_call_in(loop: VirtualLoop) -> None:
    refused: list[str] = []

    def call_in() -> None:
        try:
            loop.call_soon_threadsafe(int)
        except RuntimeError as error:
            refused.append(str(error))

    async def main() -> None:
        thread = threading.Thread(target=call_in)
        thread.start()
        thread.join()

    loop.run(main())

    assert "another thread" in refused[0]
