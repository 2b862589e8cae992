"""Catches code that looks at the real clock or draws entropy of its own during a simulated run.

Refused are calls from the rooms that must run unchanged in both worlds, and from modules of users: whatever is neither
ours nor a library. Libraries, our tests and the simulator may do as they like, but for one thing: at the end of a run
the global random generators must be as they were at its beginning, whoever drew.

Not caught are clocks and entropy that C hands out under no module's name: `datetime.now`, unseeded bit generators.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import random
import secrets
import site
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from functools import cache, partial
from pathlib import Path
from types import BuiltinFunctionType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

_PACKAGE = __name__.partition(".")[0]
_ROOMS = tuple(f"{_PACKAGE}.{room}" for room in ("protocol", "algorithms", "tasks", "peer", "edge"))
_OUTSIDE = (f"{_PACKAGE}.peer.network", f"{_PACKAGE}.peer.commands")
_PASSED_THROUGH = ("threading", "concurrent", "asyncio", "socket", "multiprocessing", "subprocess", __name__)

_OURS = Path(__file__).resolve().parents[1]
_FOLDERS = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_LIBRARIES = tuple(
    Path(str(folder)).resolve() for folder in (*_FOLDERS, site.getusersitepackages(), Path(contextlib.__file__).parent)
)

_CLOCKS = (
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"),
    *("process_time", "process_time_ns", "thread_time", "thread_time_ns", "clock_gettime", "clock_gettime_ns"),
)
_CALENDARS = {"localtime": 0, "gmtime": 0, "ctime": 0, "asctime": 0, "strftime": 1}
"""How many arguments they have when they look at the clock."""
_RANDOM = (
    *("random", "randint", "randrange", "uniform", "choice", "choices", "shuffle", "sample", "gauss", "seed"),
    *("getrandbits", "randbytes", "normalvariate", "expovariate", "triangular", "betavariate"),
)
_NUMPY_RANDOM = (
    *("rand", "randn", "random", "randint", "uniform", "normal", "standard_normal", "choice", "shuffle"),
    *("permutation", "seed", "random_sample", "get_state", "set_state", "beta", "bytes", "binomial", "exponential"),
)
_TORCH = ("manual_seed", "seed", "set_rng_state", "set_num_threads")
_TORCH_RANDOM = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson")
_FUNCTIONS = (BuiltinFunctionType, FunctionType, MethodType)
_TORCH_LIKE = ("rand_like", "randn_like", "randint_like", "dropout")
"""No generator can be given to these."""


class Forbidden(RuntimeError):
    """Code in a simulated run reached for what does not follow from its seed."""


@contextlib.contextmanager
def forbid_wall_clock() -> Iterator[None]:
    """Meanwhile daemon code and users' that uses a clock, global randomness, a thread or a socket gets a
    `Forbidden`.

    Raises: Forbidden at the end if anybody has drawn from a global random generator.
    """
    before = _global_states()
    armed = [True]
    with contextlib.ExitStack() as stack:
        stack.callback(armed.clear)  # a module that is imported meanwhile keeps what it took
        refusing: dict[Any, Callable[..., Any]] = {}
        for owner, name, is_fine in _forbidden():
            original = getattr(owner, name)
            refusing[original] = _refusing(original, f"{owner.__name__}.{name}", is_fine, armed)
            stack.enter_context(_replaced(owner, name, refusing[original]))
        for module, name, original in _taken_by_users(refusing):
            stack.enter_context(_replaced(module, name, refusing[original]))
        yield
    after = _global_states()
    drawn = [name for name, state in before.items() if after[name] != state]
    if drawn:
        raise Forbidden(
            f"something in the simulated run drew from the global generator of {' and '.join(drawn)}, which does not "
            "follow from the run's seed: give whatever draws a generator of your own, and make layers, which draw "
            "their weights, in `gossamer.tasks.build_initialised`"
        )


_Fine = Callable[[tuple[Any, ...], dict[str, Any]], bool]
"""Whether a call with these arguments does no harm."""


def _never(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return False


def _seeded(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(value is not None for value in (*args, *kwargs.values()))


def _has_more(n: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return len(args) > n


def _with_generator(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return kwargs.get("generator") is not None


def _forbidden() -> Iterator[tuple[Any, str, _Fine]]:
    named: list[tuple[Any, tuple[str, ...], _Fine]] = [
        (time, _CLOCKS, _never),
        (random, _RANDOM, _never),
        (random.SystemRandom, ("random", "getrandbits"), _never),
        (uuid, ("uuid1", "uuid4"), _never),
        (secrets, ("token_bytes", "token_hex", "token_urlsafe", "randbelow", "choice"), _never),
        (os, ("urandom", "getrandom", "fork", "system", "popen", "posix_spawn", "posix_spawnp"), _never),
        (_thread, ("start_new_thread",), _never),
        (threading.Thread, ("start",), _never),
        (subprocess.Popen, ("__init__",), _never),
        (socket.socket, ("__init__",), _never),
        (random.Random, ("__init__", "seed"), lambda args, kwargs: _seeded(args[1:], kwargs)),
    ]
    named += [(time, (name,), partial(_has_more, n)) for name, n in _CALENDARS.items()]
    if "numpy" in sys.modules:
        numpy_random = sys.modules["numpy"].random
        named += [(numpy_random, _NUMPY_RANDOM, _never), (numpy_random, ("default_rng",), _seeded)]
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        named += [(torch, (*_TORCH, *_TORCH_LIKE), _never), (torch, _TORCH_RANDOM, _with_generator)]
    for owner, names, is_fine in named:
        for name in names:
            if hasattr(owner, name):
                yield owner, name, is_fine


def _global_states() -> dict[str, Any]:
    """Of the generators that are there; torch and numpy come while a run goes on, or not at all."""
    states: dict[str, Any] = {"random": random.getstate()}
    if "numpy" in sys.modules:
        _, key, *rest = sys.modules["numpy"].random.get_state()
        states["numpy.random"] = key.tobytes(), rest
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().numpy().tobytes()
    return states


def _taken_by_users(originals: Collection[Any]) -> list[tuple[ModuleType, str, Any]]:
    """What modules of users, imported by now, have by names of their own: `from time import monotonic`."""
    modules = [module for module in list(sys.modules.values()) if _is_users(getattr(module, "__file__", None) or "<")]
    return [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, _FUNCTIONS) and value in originals
    ]


@contextlib.contextmanager
def _replaced(owner: Any, name: str, by: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)
    inherited = name not in vars(owner)
    setattr(owner, name, by)
    try:
        yield
    finally:
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)


def _refusing(original: Callable[..., Any], name: str, is_fine: _Fine, armed: list[bool]) -> Callable[..., Any]:
    """Args: armed: empty when the run is over."""

    def call(*args: Any, **kwargs: Any) -> Any:
        caller = _caller(sys._getframe(1)) if armed else None
        if caller is not None and _is_bound(caller) and not is_fine(args, kwargs):
            raise Forbidden(
                f"{caller.f_globals.get('__name__')} called {name} in a simulated run: time is the event loop's, "
                "entropy and threads come in through the entry point and Network"
            )
        return original(*args, **kwargs)

    return call


def _caller(frame: FrameType | None) -> FrameType | None:
    """Where the call comes from, seen through the standard library's own layers."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _PASSED_THROUGH and module != __name__:
            return frame
        frame = frame.f_back
    return None


def _is_bound(caller: FrameType) -> bool:
    """To the rules."""
    module = str(caller.f_globals.get("__name__", ""))
    if module.startswith(_ROOMS):
        return not module.startswith(_OUTSIDE)
    return _is_users(caller.f_code.co_filename)


@cache
def _is_users(filename: str) -> bool:
    """Neither ours, tests included, nor a library's."""
    if filename.startswith("<"):
        return False
    path = Path(filename).resolve()
    return not path.is_relative_to(_OURS) and not any(path.is_relative_to(one) for one in _LIBRARIES)
