"""Communication methods: pure mathematics, state and arrays in, state and arrays out.

Names are loaded when they are first asked for: a device imports `algorithms.forward` and must not load torch with it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .demo_optimizer import DeMo
    from .errors import BadGradient, BadPayload, NoSuchMethod, TooFewContributions
    from .method import Exchange, Method, Slots
    from .options import BadOption, OptionError, OptionValue, UnknownOption
    from .registry import METHODS, build_method, check_members, check_options, method_class
    from .schedule import Schedule

__all__ = [
    "METHODS",
    "BadGradient",
    "BadOption",
    "BadPayload",
    "DeMo",
    "Exchange",
    "Method",
    "NoSuchMethod",
    "OptionError",
    "OptionValue",
    "Schedule",
    "Slots",
    "TooFewContributions",
    "UnknownOption",
    "build_method",
    "check_members",
    "check_options",
    "method_class",
]

_HOME: Final = {
    "METHODS": "registry",
    "BadGradient": "errors",
    "BadOption": "options",
    "BadPayload": "errors",
    "DeMo": "demo_optimizer",
    "Exchange": "method",
    "Method": "method",
    "NoSuchMethod": "errors",
    "OptionError": "options",
    "OptionValue": "options",
    "Schedule": "schedule",
    "Slots": "method",
    "TooFewContributions": "errors",
    "UnknownOption": "options",
    "build_method": "registry",
    "check_members": "registry",
    "check_options": "registry",
    "method_class": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
