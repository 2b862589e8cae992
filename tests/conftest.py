"""What every test gets: one torch thread, steady property tests, and no process left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in every child process

import hypothesis
import psutil
import pytest
import torch

_MARK = "GOSSAMER_TEST_SESSION"
_GRACE_S = 12.0  # a libp2p daemon whose parent died before it connected waits for up to 10 s

hypothesis.settings.register_profile("here", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)


def pytest_configure() -> None:
    hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")
    os.environ[_MARK] = str(os.getpid())
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side, system tests would wait for each other's daemons: one worker takes them all."""
    for item in items:
        if item.get_closest_marker("system"):
            item.add_marker(pytest.mark.xdist_group("system"))


@pytest.fixture(scope="module", autouse=True)
def no_process_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test module that ends while processes which it started, or their orphans, are still alive."""
    known = set(_our_processes())
    yield
    left = [process for process in _our_processes() if process not in known]
    _, alive = psutil.wait_procs(left, timeout=_GRACE_S)
    names = [_describe(process) for process in alive]
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)
    if names:
        pytest.fail(f"{request.node.nodeid} left processes behind: {'; '.join(names)}", pytrace=False)


def _our_processes() -> list[psutil.Process]:
    """All that descend from this test session, re-parented ones too: they carry its mark in their environment."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _is_ours(process)]


def _is_ours(process: psutil.Process) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE or process.environ().get(_MARK) != str(os.getpid()):
            return False
        # multiprocessing's own bookkeeper lives as long as the interpreter.
        return "multiprocessing.resource_tracker" not in " ".join(process.cmdline())
    except psutil.Error:
        return False  # gone meanwhile, or somebody else's


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({' '.join(process.cmdline())[:120]})"
    except psutil.Error:
        return str(process.pid)
