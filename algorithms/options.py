"""Options: a frozen dataclass of plain values, read from what a manifest or a command line says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

OptionValue = int | float | str | bool
T = TypeVar("T")


class OptionError(ValueError):
    """An option cannot be used. The message names it and what is allowed."""


class UnknownOption(OptionError):
    """No option of this name; the message names the nearest."""


class BadOption(OptionError):
    """The option exists, its value is of the wrong type or out of bounds."""


def read_options(options_type: type[T], values: Mapping[str, OptionValue], *, owner: str) -> T:
    """The options of `owner` (a task or method, for messages), with defaults where `values` is silent.

    Raises: UnknownOption, BadOption.
    """
    hints = get_type_hints(options_type)
    known = [field.name for field in dataclasses.fields(options_type)]  # type: ignore[arg-type]
    for name in values:
        if name not in hints:
            raise UnknownOption(f"unknown option {name!r} of {owner}: {nearest(name, known)}")
    typed = {name: _typed(name, value, hints[name], owner) for name, value in values.items()}
    return options_type(**typed)


def describe_options(options: Any) -> dict[str, OptionValue]:
    """Name -> value of an options dataclass, for logs and fingerprints."""
    return dict(dataclasses.asdict(options))


def nearest(name: str, known: Iterable[str]) -> str:
    """The part of a message that helps: the nearest known name, and all of them."""
    import difflib  # devices load this file, and seldom have need of it

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}"


def require(condition: bool, name: str, rule: str, value: OptionValue) -> None:
    """Refuse an option's value that breaks a rule, e.g. `require(k >= 1, "k", "at least 1", k)`."""
    if not condition:
        raise BadOption(f"option {name!r} must be {rule}, not {value!r}")


def _typed(name: str, value: OptionValue, wanted: type, owner: str) -> OptionValue:
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise BadOption(f"option {name!r} of {owner} must be of type {wanted.__name__}, not {value!r}")
    return value
