"""Work in processes side by side, which Ctrl-C ends without a word of theirs."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import TypeVar

from ..protocol.errors import GossamerError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_INTERRUPT = (signal.SIGINT,)


def side_by_side(
    function: Callable[[Item], Outcome], items: Iterable[Item], *, jobs: int
) -> Iterator[tuple[Item, Outcome]]:
    """Each item with its result as it comes, from so many processes. What waits when this is left is never done.

    Raises: what the function raises; GossamerError if a process dies.
    """
    context = multiprocessing.get_context("spawn")  # threads of numerical libraries do not survive a fork
    is_over = context.Event()
    items_of: dict[Future[Outcome], Item] = {}
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_Work.begin, initargs=(is_over,))
    try:
        with _without_interruption():  # processes inherit this, see `_Work`
            items_of.update((pool.submit(_Work.do, function, item), item) for item in items)
        waiting = set(items_of)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from ((item, future.result()) for future, item in items_of.items() if future in done)
    except BrokenProcessPool:
        raise GossamerError(
            f"one of {jobs} processes side by side was killed: if that was for want of memory, take fewer jobs"
        ) from None
    finally:
        with _without_interruption():
            is_over.set()
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _without_interruption() -> Iterator[None]:
    """Hold Ctrl-C back."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)


class _Work:
    """What a process does. Ctrl-C reaches it within an item, which then cleans up; not while it imports or waits."""

    is_over: Event
    """Nobody waits for results any more: the next items have been handed over already, and are not to be begun."""

    @classmethod
    def begin(cls, is_over: Event) -> None:
        cls.is_over = is_over

    @classmethod
    def do(cls, function: Callable[[Item], Outcome], item: Item) -> Outcome:
        if cls.is_over.is_set():
            raise KeyboardInterrupt
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
            return function(item)
        except KeyboardInterrupt:
            cls.is_over.set()  # the parent was interrupted too, but may be slower
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
