"""Catches daemon code that looks at the real clock or draws entropy of its own during a simulated run.

Only calls that come from the rooms which must run unchanged in both worlds are refused: libraries, tests and the
simulator may do as they like.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_PACKAGE = __name__.partition(".")[0]
_ROOMS = tuple(f"{_PACKAGE}.{room}" for room in ("protocol", "algorithms", "tasks", "peer", "edge"))
_OUTSIDE = (f"{_PACKAGE}.peer.network", f"{_PACKAGE}.peer.commands")
_PASSED_THROUGH = ("threading", "concurrent", "asyncio", "socket", "multiprocessing", __name__)

_CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "sleep")
_RANDOM = (
    *("random", "randint", "randrange", "uniform", "choice", "choices", "shuffle", "sample", "gauss", "seed"),
    *("getrandbits", "randbytes", "normalvariate", "expovariate", "triangular", "betavariate"),
)
_NUMPY_RANDOM = (
    *("rand", "randn", "random", "randint", "uniform", "normal", "standard_normal", "choice", "shuffle"),
    *("permutation", "seed", "random_sample", "get_state", "set_state"),
)
_FINE_WITH_SEED = ("default_rng",)
_TORCH = ("manual_seed", "seed", "set_rng_state", "set_num_threads")


@contextlib.contextmanager
def forbid_wall_clock() -> Iterator[None]:
    """Meanwhile daemon code that uses a clock, global randomness, a thread or a socket gets a RuntimeError."""
    with contextlib.ExitStack() as stack:
        for owner, names in _forbidden():
            for name in names:
                stack.enter_context(_guarded(owner, name))
        yield


def _forbidden() -> list[tuple[Any, tuple[str, ...]]]:
    found: list[tuple[Any, tuple[str, ...]]] = [
        (time, _CLOCKS),
        (random, _RANDOM),
        (uuid, ("uuid1", "uuid4")),
        (secrets, ("token_bytes", "token_hex", "token_urlsafe", "randbelow", "choice")),
        (os, ("urandom",)),
        (threading.Thread, ("start",)),
        (socket.socket, ("__init__",)),
    ]
    if "numpy" in sys.modules:
        found.append((sys.modules["numpy"].random, (*_NUMPY_RANDOM, *_FINE_WITH_SEED)))
    if "torch" in sys.modules:
        found.append((sys.modules["torch"], _TORCH))
    return found


@contextlib.contextmanager
def _guarded(owner: Any, name: str) -> Iterator[None]:
    original = getattr(owner, name)
    inherited = name not in vars(owner)
    setattr(owner, name, _refusing(original, f"{owner.__name__}.{name}"))
    try:
        yield
    finally:
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)


def _refusing(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        caller = _caller(sys._getframe(1))
        seeded = (args or kwargs) and name.endswith(_FINE_WITH_SEED)
        if not seeded and caller.startswith(_ROOMS) and not caller.startswith(_OUTSIDE):
            raise RuntimeError(
                f"{caller} called {name} in a simulated run: time is the event loop's, entropy and threads come in "
                "through the entry point and Network"
            )
        return original(*args, **kwargs)

    return call


def _caller(frame: FrameType | None) -> str:
    """The module that called, seen through the standard library's own layers."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _PASSED_THROUGH and module != __name__:
            return module
        frame = frame.f_back
    return ""
