"""Wakes somebody at a time that is set anew again and again, and mostly stays the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """One timer.

    Args:
        wake: called when it rings.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._handle: asyncio.TimerHandle | None = None
        self._due_s: float | None = None

    def set(self, due_s: float | None) -> None:
        """Ring then, by the loop's clock, in place of what was set before; None: not at all."""
        if due_s == self._due_s:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._due_s = due_s
        self._handle = asyncio.get_running_loop().call_at(due_s, self._rings) if due_s is not None else None

    def _rings(self) -> None:
        # Loops ring early by up to their resolution: who finds that it is not yet time sets the same time once more.
        self._due_s = self._handle = None
        self._wake()
