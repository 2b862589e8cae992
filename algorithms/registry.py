"""The methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch

from .allreduce import AllReduce
from .baffle import Baffle
from .demo import DeMo
from .errors import NoSuchMethod
from .method import Method
from .options import OptionValue, nearest, read_options
from .schedule import Schedule

METHODS: Final[Mapping[str, type[Method]]] = {
    "allreduce": AllReduce,
    "baffle": Baffle,
    "demo": DeMo,
}


def method_class(name: str) -> type[Method]:
    """The class of a method, e.g. for its `default_lr`.

    Raises: NoSuchMethod.
    """
    if name not in METHODS:
        raise NoSuchMethod(f"unknown method {name!r}: {nearest(name, METHODS)}")
    return METHODS[name]


def check_options(name: str, options: Mapping[str, OptionValue]) -> None:
    """Raise NoSuchMethod, UnknownOption or BadOption unless `build_method` would accept these."""
    read_options(method_class(name).options_type, options, owner=f"method {name!r}")


def build_method(
    name: str, parameters: Mapping[str, torch.Tensor], options: Mapping[str, OptionValue], schedule: Schedule
) -> Method:
    """One replica's side of a method.

    Args:
        parameters: name -> parameter, updated in place; iteration order is the wire order, the same on all replicas.
        options: by name; what is left out has the method's default.
    Raises: NoSuchMethod, UnknownOption, BadOption.
    """
    method = method_class(name)
    typed = read_options(method.options_type, options, owner=f"method {name!r}")
    return method(parameters, typed, schedule)
