"""Runs every test of this folder in every world."""

from __future__ import annotations

import pytest

from .edge import EdgeWorld
from .real import WORLDS as REAL_WORLDS
from .world import SIMULATED_WORLDS, World

_NOT_FOR_DEVICES = ("test_records", "test_peer")
"""Modules about records and whole peers: a device has neither."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "world" in metafunc.fixturenames:
        worlds: list[World] = [*SIMULATED_WORLDS, *REAL_WORLDS]
        if not metafunc.module.__name__.endswith(_NOT_FOR_DEVICES):
            worlds.append(EdgeWorld())
        metafunc.parametrize("world", worlds, ids=[world.name for world in worlds])
