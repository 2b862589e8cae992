"""Processor time: cores that the threads of several daemons share, and threads that do one thing at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from .flows import Flow, Flows

_UNITS_PER_S = 1e9
"""Processor time drains from flows in nanoseconds."""
_FOR_EVER = 1e30


class Cores:
    """The cores of one machine. Threads share them fairly, and none has more than one."""

    def __init__(self, flows: Flows, n_cores: int, *, n_others: float = 0.0) -> None:
        """Args: n_others: threads of other programs that always want a core; a part of one wants a part of it."""
        self._flows = flows
        self._link = flows.add_link(n_cores * _UNITS_PER_S)
        whole = int(n_others)
        for share in [1.0] * whole + [n_others - whole] * (n_others > whole):
            flows.start((self._link,), _FOR_EVER, _never, bytes_per_s_max=share * _UNITS_PER_S)

    def start(self, seconds: float, then: Callable[[], object]) -> Flow:
        """Begin work that takes one core so long; `then` as of any flow."""
        return self._flows.start((self._link,), seconds * _UNITS_PER_S, then, bytes_per_s_max=_UNITS_PER_S)

    def stop(self, flow: Flow) -> None:
        """Whoever did this work is gone."""
        self._flows.stop(flow)


class Thread:
    """Does what it is given in order of arrival, on cores that others use as well."""

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._waiting: deque[tuple[float, Callable[[], object]]] = deque()
        self._flow: Flow | None = None

    def do(self, seconds: float, then: Callable[[], object]) -> None:
        """Spend so much processor time when all before is done, and then call `then`."""
        self._waiting.append((seconds, then))
        if self._flow is None:
            self._next()

    def end(self) -> None:
        """The process is gone: what waits is never done."""
        self._waiting.clear()
        if self._flow is not None:
            self._cores.stop(self._flow)

    def _next(self) -> None:
        while self._waiting and self._flow is None:
            seconds, then = self._waiting.popleft()
            if seconds > 0:
                self._flow = self._cores.start(seconds, partial(self._done, then))
            else:
                then()

    def _done(self, then: Callable[[], object]) -> None:
        self._flow = None
        then()
        self._next()


def _never() -> None:
    raise AssertionError("other programs never stop")
