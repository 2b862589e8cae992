"""Daemon code that looks past the loop for time or entropy is caught in the act."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from types import FunctionType

import numpy as np
import pytest
import torch

from gossamer.simulator.guard import forbid_wall_clock


def _as_if_in(module: str, function: Callable[[], object]) -> Callable[[], object]:
    """The function as it would be if that module had defined it."""
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__, {**function.__globals__, "__name__": module})


ACTS: list[Callable[[], object]] = [
    lambda: time.time() + 0,
    lambda: time.monotonic() + 0,
    lambda: time.perf_counter() + 0,
    lambda: random.random() + 0,
    lambda: np.random.rand(3),
    lambda: np.random.default_rng().random(),
    lambda: torch.manual_seed(0),
    lambda: threading.Thread(target=int).start(),
    lambda: socket.socket(socket.AF_INET),
]


@pytest.mark.parametrize("act", ACTS)
def test_daemon_code_is_refused(act: Callable[[], object]) -> None:
    with forbid_wall_clock(), pytest.raises(RuntimeError, match=r"gossamer\.peer\.trainer called"):
        _as_if_in("gossamer.peer.trainer", act)()


@pytest.mark.parametrize("module", ["gossamer.peer.network.real", "gossamer.simulator.world", "torch.nn", "tests"])
def test_everybody_else_is_not(module: str) -> None:
    with forbid_wall_clock():
        assert _as_if_in(module, lambda: time.time() + 0)()


def test_own_generators_are_fine() -> None:
    with forbid_wall_clock():
        _as_if_in("gossamer.peer.trainer", lambda: random.Random(1).random())()
        _as_if_in("gossamer.peer.trainer", lambda: np.random.default_rng(1).random())()
        _as_if_in("gossamer.peer.trainer", lambda: torch.rand(1, generator=torch.Generator().manual_seed(1)))()


def test_everything_is_as_before_afterwards() -> None:
    before = (time.time, random.random, np.random.rand, torch.manual_seed, threading.Thread.start)

    with forbid_wall_clock():
        pass

    assert before == (time.time, random.random, np.random.rand, torch.manual_seed, threading.Thread.start)
    assert _as_if_in("gossamer.peer.trainer", lambda: time.time() + 0)()
