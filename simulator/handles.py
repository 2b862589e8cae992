"""Callbacks that are ready, and timers: asyncio's handles, quicker to make and to cancel."""

from __future__ import annotations

from asyncio import Handle, TimerHandle
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol


class Cancellations(Protocol):
    """Counts timers that were cancelled before they fired."""

    _n_cancelled: int


class Call(Handle):
    """A callback that is ready."""

    __slots__ = ()

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context = context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = None, ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._callback!r}{' cancelled' if self._cancelled else ''}>"


class Timer(TimerHandle):
    """Likewise, for later."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: Cancellations,
        context: Context,
    ) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self._when = when
        self._scheduled = True
        self._loop = loop

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._callback, self._args = None, ()
            if self._scheduled:
                self._loop._n_cancelled += 1

    def __repr__(self) -> str:
        return f"<Timer {self._callback!r} at {self._when} s{' cancelled' if self._cancelled else ''}>"
