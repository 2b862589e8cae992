"""Processes that do the same work beside us: what mathematics takes where several daemons share a machine.

They share caches and memory with us, and take turns on the cores, so that the same work takes more processor time than
it does alone: a quarter to a third more, with two cores and a small model.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event, Semaphore

import torch

from ..protocol.errors import UsageError
from ..protocol.manifest import Manifest
from ..tasks import Task

READY_S, ENDS_S = 120.0, 10.0
Turns = Callable[[int], object]
"""Does the work of one turn, by its number."""
Build = Callable[[Task, Manifest, int], Turns]
"""A function of a module, for a task, a manifest and so many members."""


@contextmanager
def companions(n: int, build: Build, task: Task, manifest: Manifest, n_members: int) -> Iterator[None]:
    """So many processes do turns over and over, from before the body begins until it ends.

    Raises: UsageError for a task that other processes cannot be given, or that they cannot do.
    """
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"task {task.name!r} cannot be given to other processes ({error}): measure one at a time"
        ) from None
    context = multiprocessing.get_context("spawn")
    ready, over = context.Semaphore(0), context.Event()
    made = [
        context.Process(target=_accompany, args=(build, task, manifest, n_members, ready, over), daemon=True)
        for _ in range(n)
    ]
    try:
        for process in made:
            process.start()
        for _ in made:
            if not ready.acquire(timeout=READY_S):
                raise UsageError(f"{n} processes beside this one did not begin in {READY_S:g} s: measure fewer at once")
        yield
    finally:
        over.set()
        for process in made:
            process.join(ENDS_S)
            process.kill()


def _accompany(build: Build, task: Task, manifest: Manifest, n_members: int, ready: Semaphore, over: Event) -> None:
    torch.set_num_threads(1)
    turn, parent, number = build(task, manifest, n_members), multiprocessing.parent_process(), 0
    turn(number)
    ready.release()
    while not over.is_set() and (parent is None or parent.is_alive()):
        number += 1
        turn(number)
