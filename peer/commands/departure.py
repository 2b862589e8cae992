"""When a daemon is asked to leave: by a signal, or because whoever started it is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

from ...protocol.errors import UsageError


class Departure:
    """Calls `act` when somebody asks this process to leave; at first that cancels the task that made this object.

    The lifeline is standard input: whoever starts daemons holds the other end of a pipe, and never writes to it. When
    that process ends, be it by kill -9, the kernel closes its end, and we read the end of ours. This works wherever
    there are pipes, and reaches daemons that run in sessions of their own, as those of `gossamer up` do.
    """

    def __init__(self, *, lifeline: bool) -> None:
        """Raises UsageError if the lifeline cannot be watched."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)
        assert task is not None
        self.act: Callable[[], object] = task.cancel
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._ask)
        if lifeline:
            self._watch(sys.stdin.fileno())

    def _ask(self) -> None:
        self.asked = True
        self.act()

    def _watch(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        try:
            self._loop.add_reader(descriptor, self._listen, descriptor)
        except PermissionError:
            raise UsageError("--lifeline watches standard input: give it a pipe, not a file") from None

    def _listen(self, descriptor: int) -> None:
        try:
            ended = not os.read(descriptor, 4096)
        except BlockingIOError:
            return
        if ended:
            self._loop.remove_reader(descriptor)
            self._ask()
