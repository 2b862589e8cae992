"""The methods by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Final

import torch

from .allreduce import AllReduce
from .baffle import Baffle
from .coded import Coded
from .demo import DecoupledMomentum
from .diloco import DiLoCo
from .errors import NoSuchMethod
from .federated import Federated
from .fixedpoint import FixedPoint
from .local import Local
from .method import Method, Slots
from .options import BadOption, OptionValue, nearest, read_options
from .schedule import Schedule
from .sparseloco import SparseLoCo
from .terngrad import TernGrad

METHODS: Final[Mapping[str, type[Method]]] = {
    "allreduce": AllReduce,
    "baffle": Baffle,
    "coded": Coded,
    "demo": DecoupledMomentum,
    "diloco": DiLoCo,
    "federated": Federated,
    "fixedpoint": FixedPoint,
    "local": Local,
    "sparseloco": SparseLoCo,
    "terngrad": TernGrad,
}

MEMBERS_MAX: Final = 64
"""Of so many peers at most a remedy is sought."""


def method_class(name: str) -> type[Method]:
    """The class of a method, e.g. for its `default_lr`.

    Args:
        name: one of METHODS, or `module:attribute` of code that this machine's owner installed. Importing it runs it,
            so a name that came from somebody else must have been approved by this machine's owner first.
    Raises: NoSuchMethod.
    """
    if is_users_own(name):
        return _import_own(name)
    if name not in METHODS:
        raise NoSuchMethod(f"unknown method {name!r}: {nearest(name, METHODS)}, or module:attribute for your own")
    return METHODS[name]


def is_users_own(name: str) -> bool:
    """Whether building the method imports a module that its name says."""
    return ":" in name


def check_options(name: str, options: Mapping[str, OptionValue]) -> None:
    """Raise NoSuchMethod, UnknownOption or BadOption unless `build_method` would accept these."""
    read_options(method_class(name).options_type, options, owner=f"method {name!r}")


def check_members(name: str, options: Mapping[str, OptionValue], n_members: int) -> None:
    """Raise BadOption if a group of so many could never make a step: a rule against liars needs more, for example."""
    if method_class(name).suffices is Method.suffices:
        return  # any number will do
    method = build_method(name, {"scalar": torch.zeros(1)}, options, Schedule(lr=1.0))
    if method.suffices(Slots.everybody(n_members)):
        return
    enough = next((n for n in range(n_members + 1, MEMBERS_MAX + 1) if method.suffices(Slots.everybody(n))), None)
    needed = f"needs at least {enough}" if enough is not None else f"cannot step with {MEMBERS_MAX} either"
    chosen = ", ".join(f"{key} = {value!r}" for key, value in options.items())
    raise BadOption(
        f"the run starts with {n_members} peers, but method {name!r} with {chosen or 'its defaults'} {needed}"
    )


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


def _import_own(name: str) -> type[Method]:
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute, None)
    except (ImportError, SyntaxError, TypeError, ValueError) as error:
        raise NoSuchMethod(
            f"cannot import the module of method {name!r} ({error}): install it on this machine or put its folder on "
            "PYTHONPATH"
        ) from error
    if inspect.isclass(found) and issubclass(found, Method):
        return found
    raise NoSuchMethod(f"method {name!r}: {module_name} has no {attribute!r} that is a subclass of Method")
