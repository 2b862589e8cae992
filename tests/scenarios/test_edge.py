"""Gateways and devices: what counts, what doesn't, and what a crash may cost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gossamer.simulator.world import Simulation

from .fleet import Fleet

pytestmark = pytest.mark.scenario


def test_devices_and_gateway_end_with_the_same_weights(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=1))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        result = await fleet.work
        await asyncio.gather(*fleet.lives)
        assert (result.outcome, result.step) == ("finished", 6)

    fleet.run(main())

    assert len({*fleet.weights()}) == 1
