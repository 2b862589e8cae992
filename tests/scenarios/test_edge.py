"""Gateways and devices train one model: the same weights everywhere, with liars, rests, and peers beside them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.algorithms.forward import Batch, Directions, Engine, Network, NumpyEngine
from gossamer.edge.engines import Engines
from gossamer.edge.rules import Rules
from gossamer.edge.sensors import Reading
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.simulator.world import Simulation

from .fleet import Fleet, digits_manifest

pytestmark = pytest.mark.scenario

F32 = npt.NDArray[np.float32]


def test_devices_and_gateway_end_with_the_same_weights(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=1), options=GatewayOptions(devices_min=4))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        result = await fleet.work
        await asyncio.gather(*fleet.lives)
        assert (result.outcome, result.step) == ("finished", 6)

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()] * 4
    assert [device.counts["rounds_counted"] for device in fleet.devices] == [6] * 4
    assert [device.counts["resyncs"] for device in fleet.devices] == [1] * 4
    fleet.check_exactly_once()


@pytest.mark.timeout(150)
def test_hundred_replayed_rounds_leave_the_same_weights_everywhere(tmp_path: Path) -> None:
    manifest = digits_manifest(steps=100, K=2)
    fleet = Fleet(tmp_path, Simulation(seed=15), manifest=manifest, options=GatewayOptions(devices_min=3))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        await fleet.end()

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()] * 3
    assert [device.counts["rounds_counted"] for device in fleet.devices] == [100] * 3
    assert [device.counts["resyncs"] for device in fleet.devices] == [1] * 3  # the first state; then replays alone


class Liar(NumpyEngine):
    """Says that losses are plus or minus a million."""

    def perturbed_losses(
        self, weights: F32, batch: Batch, directions: Directions, *, ks: range, step: float
    ) -> npt.NDArray[np.float64]:
        honest = super().perturbed_losses(weights, batch, directions, ks=ks, step=step)
        return np.where(np.arange(ks.start, ks.stop) % 2 == 0, 1e6, -1e6) + honest


class Lies(Engines):
    def engine(self, network: Network) -> Engine:
        return Liar(network)


def trained_accuracy(root: Path, *, liars: int, steps: int = 110, **options: Any) -> float:
    """Of ten devices together."""
    manifest = digits_manifest(steps=steps, lr=4e-2, K=100, **options)
    fleet = Fleet(root, Simulation(seed=16), manifest=manifest, options=GatewayOptions(devices_min=10))
    fleet.engines = dict.fromkeys(range(liars), Lies())

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(10)
        await fleet.end()

    fleet.run(main())
    return fleet.accuracy()


@pytest.mark.timeout(150)
def test_a_fifth_that_sends_a_million_costs_two_points_at_most(tmp_path: Path) -> None:
    honest = trained_accuracy(tmp_path / "honest", liars=0)

    clipped = trained_accuracy(tmp_path / "clipped", liars=2)
    unclipped = trained_accuracy(tmp_path / "unclipped", liars=2, steps=20, clip_median=0, clip_inf_norm=0)

    assert honest > 0.95
    assert clipped >= honest - 0.02, f"{clipped:.3f} with two liars, {honest:.3f} without"
    assert unclipped < 0.2


def test_device_rests_on_battery_and_comes_back(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=6), manifest=digits_manifest(steps=400), rules=Rules(mains_only=True))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(2)
        await fleet.reach(3)
        fleet.readings[1] = Reading(on_mains=False)
        await asyncio.sleep(6.0)
        assert fleet.status(1)["state"] == "resting"
        assert fleet.status(1)["why"] == "on battery"
        assert list(fleet.hall().present) == [fleet.hosts[0].peer_id]
        counted = fleet.devices[1].counts["rounds_counted"]

        del fleet.readings[1]
        await asyncio.sleep(8.0)
        assert fleet.devices[1].counts["rounds_counted"] > counted

    fleet.run(main())


def test_peer_that_backpropagates_and_devices_that_cannot_train_one_model(tmp_path: Path) -> None:
    fleet = Fleet(
        tmp_path,
        Simulation(seed=14),
        manifest=digits_manifest(steps=8, start_peers=2),
        options=GatewayOptions(devices_min=3),
    )

    async def main() -> None:
        fleet.start_gateway()
        peer = fleet.start_peer()
        fleet.start_devices(3)
        results = [await fleet.work, await peer]
        await asyncio.gather(*fleet.lives)
        assert [result.step for result in results] == [8, 8]
        assert len({result.digest for result in results}) == 1

    fleet.run(main())

    assert {*fleet.weights()} == {fleet.final_weights()}
    shares = fleet.final()["shares"]
    assert 0 < shares["devices"] < shares["peers"]
    fleet.check_exactly_once()
