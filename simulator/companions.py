"""Processes that do the same work beside us: what work takes where several daemons share a machine.

They share caches and memory with us, and take turns on the cores, so that the same work takes more processor time than
it does alone (docs/design/0007-truth.md): the more, the shorter its pieces are, if others compute before each.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..peer.freed_memory import keep_freed_memory
from ..protocol.errors import UsageError
from ..protocol.manifest import Manifest
from ..tasks import Task

ENDS_S = 10.0
READY = b"ready\n"
REST_S = 0.001
Turns = Callable[[int], object]
"""Does the work of one turn, by its number."""
Build = Callable[[Task, Manifest, int], Turns]
"""A function of a module, for a task, a manifest and so many members."""


def rest() -> None:
    """Let others compute for a moment: as in a daemon, whose threads wake when there is something to do. What follows
    finds caches and branch predictors full of other things."""
    time.sleep(REST_S)


@contextmanager
def companions(n: int, build: Build, task: Task, manifest: Manifest, n_members: int) -> Iterator[None]:
    """So many processes do turns over and over, from before the body begins until it ends.

    Raises: UsageError for a task that other processes cannot be given, or that they cannot do.
    """
    try:
        told = pickle.dumps((build, task, manifest, n_members))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"task {task.name!r} cannot be given to other processes ({error}): measure one at a time"
        ) from None
    command = [sys.executable, "-m", __name__]
    # Groups of their own: Ctrl-C in a terminal is for us, and they end when we do.
    made = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) for _ in range(n)]
    try:
        for process in made:
            assert process.stdin is not None
            process.stdin.write(len(told).to_bytes(8, "little") + told)
            process.stdin.flush()
        for process in made:
            assert process.stdout is not None
            if process.stdout.readline() != READY:
                raise UsageError("a process beside this one did not begin, see above: measure one at a time")
        yield
    finally:
        for process in made:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """By closing what it reads from, which happens as well if we die."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    try:
        process.wait(ENDS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """A companion's life."""
    torch.set_num_threads(1)
    keep_freed_memory()
    stdin, over = sys.stdin.buffer, threading.Event()
    told = stdin.read(int.from_bytes(stdin.read(8), "little"))
    build, task, manifest, n_members = pickle.loads(told)  # noqa: S301 - our own parent's words
    turn, number = build(task, manifest, n_members), 0
    turn(number)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()

    def until_closed() -> None:
        stdin.read(1)
        over.set()

    threading.Thread(target=until_closed, daemon=True).start()
    while not over.is_set():
        number += 1
        turn(number)


if __name__ == "__main__":
    main()
