"""Deadlines, next to all of which are lifted before they come: one timer of the loop's for all those of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any

from .loop import VirtualLoop


class Alarms:
    """Calls back, outside of all contexts, at times that are set and mostly dropped again."""

    __slots__ = ("_alarms", "_loop", "_next_s")

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._alarms: dict[Hashable, tuple[float, Callable[..., object], tuple[Any, ...]]] = {}
        self._next_s = math.inf
        """When it is looked at them; no alarm is earlier."""

    def set(self, key: Hashable, when_s: float, callback: Callable[..., object], *args: Any) -> None:
        """Call back then, unless it is dropped. One alarm for each key."""
        self._alarms[key] = when_s, callback, args
        if when_s < self._next_s:
            self._look_at(when_s)

    def drop(self, key: Hashable) -> None:
        self._alarms.pop(key, None)

    def _look_at(self, when_s: float) -> None:
        self._next_s = when_s
        self._loop.post(when_s, self._look, when_s)

    def _look(self, when_s: float) -> None:
        if when_s != self._next_s:
            return  # it was looked earlier
        self._next_s = math.inf
        for key in [key for key, alarm in self._alarms.items() if alarm[0] <= when_s]:
            alarm = self._alarms.pop(key, None)
            if alarm is not None:
                alarm[1](*alarm[2])
        if self._alarms:
            earliest_s = min([alarm[0] for alarm in self._alarms.values()])
            if earliest_s < self._next_s:
                self._look_at(earliest_s)
