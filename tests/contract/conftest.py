"""Runs every test of this folder in every world."""

from __future__ import annotations

import pytest

from .real import WORLDS as REAL_WORLDS
from .world import SIMULATED_WORLDS, World


@pytest.fixture(params=[*SIMULATED_WORLDS, *REAL_WORLDS], ids=lambda world: str(world.name))
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.param
    return found
