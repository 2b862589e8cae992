"""What tasks are waiting for, in words."""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_LISTED_MAX = 20


def describe_tasks(tasks: Iterable[Task[Any]]) -> str:
    """One line for each task: its name, and the chain of coroutines down to what it awaits."""
    lines = [f"\n  {task.get_name()}: {_describe(task)}" for task in tasks]
    rest = len(lines) - _LISTED_MAX
    return "".join(lines[:_LISTED_MAX]) + (f"\n  ... and {rest} more" if rest > 0 else "")


def _describe(task: Task[Any]) -> str:
    return " -> ".join(_chain(task.get_coro())) or "not started"


def _chain(awaited: object) -> list[str]:
    """The frames from a coroutine (or async generator) down to the innermost that is suspended."""
    places = []
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is None:
            break
        code = frame.f_code
        places.append(f"{code.co_qualname}() at {_short(code.co_filename)}:{frame.f_lineno}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return places + ([type(awaited).__name__] if isinstance(awaited, asyncio.Future) else [])


def _short(filename: str) -> str:
    return "/".join(Path(filename).parts[-2:])
