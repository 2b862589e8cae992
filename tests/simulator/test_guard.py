"""Daemon code that looks past the loop for time or entropy is caught in the act."""

from __future__ import annotations

import _thread
import importlib.util
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.protocol.errors import UsageError
from gossamer.simulator.guard import Forbidden, forbid_wall_clock
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of


def _as_if_in(module: str, function: Callable[[], object]) -> Callable[[], object]:
    """The function as it would be if that module had defined it."""
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__, {**function.__globals__, "__name__": module})


ACTS: list[Callable[[], object]] = [
    lambda: time.time() + 0,
    lambda: time.monotonic() + 0,
    lambda: time.perf_counter() + 0,
    lambda: time.thread_time() + 0,
    lambda: time.clock_gettime(0) + 0,
    lambda: time.localtime() is None,
    lambda: time.strftime("%H"),
    lambda: random.random() + 0,
    lambda: np.random.rand(3),
    lambda: random.Random().random(),
    lambda: random.Random(1).seed(),
    lambda: os.system("true"),
    lambda: os.popen("true").read(),
    lambda: os.posix_spawn("/bin/true", ["true"], {}),
    lambda: random.SystemRandom().random(),
    lambda: secrets.token_bytes(1),
    lambda: str(uuid.uuid4()),
    lambda: np.random.default_rng().random(),
    lambda: np.random.beta(1, 1),
    lambda: torch.manual_seed(0),
    lambda: torch.rand(1),
    lambda: torch.randperm(2),
    lambda: torch.dropout(torch.ones(2), 0.5, True),
    lambda: threading.Thread(target=int).start(),
    lambda: threading.Timer(0, int).start(),
    lambda: _thread.start_new_thread(int, ()),
    lambda: ThreadPoolExecutor(1).submit(int),
    lambda: subprocess.Popen(["true"]),
    lambda: socket.socket(socket.AF_INET),
    lambda: socket.create_connection(("127.0.0.1", 1)),
]


@pytest.mark.parametrize("act", ACTS)
def test_daemon_code_is_refused(act: Callable[[], object]) -> None:
    with forbid_wall_clock(), pytest.raises(RuntimeError, match=r"gossamer\.peer\.trainer called"):
        _as_if_in("gossamer.peer.trainer", act)()


@pytest.mark.parametrize("module", ["gossamer.peer.network.real", "gossamer.simulator.world", "torch.nn", "tests"])
def test_everybody_else_is_not(module: str) -> None:
    with forbid_wall_clock():
        assert _as_if_in(module, lambda: time.time() + 0)()


def _module(folder: Path, text: str) -> ModuleType:
    """Of a user's, who has it in a folder of their own."""
    path = folder / "of_mine.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("of_mine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('time').time()",
        "__import__('random').random()",
        "__import__('threading').Thread(target=int).start()",
        "__import__('socket').socket()",
    ],
)
def test_code_of_users_is_refused(tmp_path: Path, expression: str) -> None:
    mine = _module(tmp_path, f"def act():\n    return {expression}\n")

    with forbid_wall_clock(), pytest.raises(RuntimeError, match="of_mine called"):
        mine.act()


def test_what_users_took_by_names_of_their_own_is_refused_and_theirs_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from time import monotonic as clock\nfrom os import urandom\ndef act():\n    return clock(), urandom(1)\n"
    mine = _module(tmp_path, text)
    monkeypatch.setitem(sys.modules, "of_mine", mine)

    with forbid_wall_clock():
        with pytest.raises(Forbidden, match=r"of_mine called time\.monotonic"):
            mine.act()
        imported_meanwhile = _module(tmp_path, text)
        with pytest.raises(Forbidden, match=r"of_mine called time\.monotonic"):
            imported_meanwhile.act()

    assert mine.clock is time.monotonic
    assert mine.act()
    assert imported_meanwhile.act()


@pytest.mark.parametrize(
    "act", [lambda: torch.ones(3).normal_(), lambda: nn.Linear(2, 2), lambda: random.shuffle([1, 2])]
)
def test_global_generators_must_be_as_they_were_whoever_drew(act: Callable[[], object]) -> None:
    states = random.getstate(), torch.get_rng_state()
    try:
        with pytest.raises(RuntimeError, match="drew from the global generator of"), forbid_wall_clock():
            act()
    finally:
        random.setstate(states[0])
        torch.set_rng_state(states[1])


def test_a_task_of_ones_own_that_looks_at_the_clock_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["import time", "from gossamer.tasks.digits import Digits", "class Late(Digits):"]
    lines += [
        "    def output_loss(self, outputs, targets):",
        "        time.time()",
        "        return super().output_loss(outputs, targets)",
    ]
    (tmp_path / "late_digits.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = {"task": "late_digits:Late", "method": "allreduce", "steps": 3, "batch": 8, "evaluate_every": 3}

    played = play(scenario_of({"name": "late", "run": run, "fleet": {"peers": 3}}), tmp_path / "out")

    assert len(played.violations) == 1
    assert "late_digits called time.time in a simulated run" in played.violations[0]


@pytest.mark.parametrize("draw", ["np.random.default_rng().random()", "np.random.rand()", "time.time()"])
def test_a_task_that_draws_while_it_is_built_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: str
) -> None:
    lines = ["import time", "import numpy as np", "from gossamer.tasks.digits import Digits", "class Drawn(Digits):"]
    lines += ["    def __init__(self, **kwargs):", "        super().__init__(**kwargs)", f"        self.at = {draw}"]
    (tmp_path / "drawn_digits.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "drawn_digits", raising=False)
    run = {"task": "drawn_digits:Drawn", "method": "allreduce", "steps": 3}

    with pytest.raises(UsageError, match="drawn_digits called"):
        play(scenario_of({"name": "drawn", "run": run, "fleet": {"peers": 2}}), tmp_path / "out")


def test_own_generators_are_fine() -> None:
    with forbid_wall_clock():
        _as_if_in("gossamer.peer.trainer", lambda: random.Random(1).random())()
        _as_if_in("gossamer.peer.trainer", lambda: np.random.default_rng(1).random())()
        _as_if_in("gossamer.peer.trainer", lambda: torch.rand(1, generator=torch.Generator().manual_seed(1)))()


def test_everything_is_as_before_afterwards() -> None:
    def all_of_them() -> tuple[object, ...]:
        owners = time, random, random.Random, random.SystemRandom, np.random, torch, threading.Thread, subprocess.Popen
        return tuple(dict(vars(owner)) for owner in owners)

    before = all_of_them()

    with forbid_wall_clock():
        pass

    assert before == all_of_them()
    assert _as_if_in("gossamer.peer.trainer", lambda: time.time() + 0)()
