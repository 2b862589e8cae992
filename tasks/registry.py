"""The tasks by name, and users' own by `module:attribute`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, get_type_hints

from ..algorithms.options import OptionValue, nearest
from .chars import Chars
from .digits import Digits
from .errors import UnknownTask
from .fashion import Fashion
from .fashion_rotated import FashionRotated
from .task import Task

TASKS: Final[Mapping[str, type[Task]]] = {
    "chars": Chars,
    "digits": Digits,
    "fashion": Fashion,
    "fashion-rotated": FashionRotated,
}


def build_task(name: str, options: Mapping[str, OptionValue], *, data: Path | None = None) -> Task:
    """A task, with its data loaded.

    Args:
        name: one of TASKS, or `module:attribute` of code that this machine's owner installed: a subclass of Task, or
            a function annotated to return one. Importing it runs it, so a name that came from somebody else must
            have been approved by this machine's owner first.
        options: by name; what is left out has the task's default.
        data: the user's own file or folder, for tasks that take one.
    Raises: UnknownTask, MissingData, BadData; OptionError of `algorithms` for a bad option.
    """
    build = _import_own(name) if is_users_own(name) else _built_in(name)
    task = build(options=options, data=data)
    if not isinstance(task, Task):
        raise UnknownTask(f"task {name!r} returned a {type(task).__name__} instead of a gossamer.tasks.Task")
    return task


def is_users_own(name: str) -> bool:
    """Whether building the task imports a module that its name says."""
    return ":" in name


def _built_in(name: str) -> Callable[..., object]:
    if name not in TASKS:
        raise UnknownTask(f"unknown task {name!r}: {nearest(name, TASKS)}, or module:attribute for your own")
    return TASKS[name]


def _import_own(name: str) -> Callable[..., object]:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError, TypeError, ValueError) as error:
        raise UnknownTask(
            f"cannot import the module of task {name!r} ({error}): install it on this machine or put its folder on "
            "PYTHONPATH"
        ) from error
    found = getattr(module, attribute, None)
    if inspect.isclass(found) and issubclass(found, Task):
        return found
    if inspect.isfunction(found) and _returns_task(found):
        return found
    raise UnknownTask(
        f"task {name!r}: {module_name} has no {attribute!r} that is a subclass of gossamer.tasks.Task, or a function "
        "annotated to return one"
    )


def _returns_task(function: Callable[..., object]) -> bool:
    """A manifest may name anything that is importable; only what says that it makes tasks is called."""
    try:
        returned = get_type_hints(function).get("return")
    except NameError:
        return False
    return inspect.isclass(returned) and issubclass(returned, Task)
