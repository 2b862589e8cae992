"""Federated rounds of devices that backpropagate and of those that cannot, through the daemons."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gossamer.edge.engines import Engines
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.simulator.world import Simulation

from .fleet import Fleet, federated_manifest

pytestmark = pytest.mark.scenario

TORCH = Engines(backpropagates=True)


def everybody(n: int) -> dict[int, Engines]:
    return dict.fromkeys(range(n), TORCH)


@pytest.mark.parametrize("rule", ["fedavg", "fedprox", "fedadam", "fedyogi"])
def test_devices_that_backpropagate_end_with_the_gateways_weights_and_learn(tmp_path: Path, rule: str) -> None:
    fleet = Fleet(
        tmp_path,
        Simulation(seed=41),
        manifest=federated_manifest(steps=12, rule=rule),
        options=GatewayOptions(devices_min=3),
        engines=everybody(3),
    )

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        result = await fleet.work
        await asyncio.gather(*fleet.lives)
        assert result.step == 12

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()] * 3
    assert fleet.devices[0].status()["engine"] == "torch"
    fleet.check_exactly_once()
    accuracy = fleet.daemon.replica.evaluate().accuracy
    assert accuracy is not None
    assert accuracy > 0.6  # 0.1 at first


def test_both_kinds_of_devices_and_a_peer_train_one_model(tmp_path: Path) -> None:
    fleet = Fleet(
        tmp_path,
        Simulation(seed=42),
        manifest=federated_manifest(steps=8, start_peers=2),
        options=GatewayOptions(devices_min=4),
        engines=everybody(2),
    )

    async def main() -> None:
        fleet.start_gateway()
        peer = fleet.start_peer()
        fleet.start_devices(4)
        results = [await fleet.work, await peer]
        await asyncio.gather(*fleet.lives)
        assert [result.step for result in results] == [8, 8]
        assert len({result.digest for result in results}) == 1

    fleet.run(main())

    assert {*fleet.weights()} == {fleet.final_weights()}
    lengths = {len(submission.scalars) for _, submission in fleet.accepted()}
    assert lengths == {4 + 4 * 8, 4 + 4 * 2410}  # differences of those that cannot, changes of those that can
    shares = fleet.final()["shares"]
    assert 0 < shares["peers"] < shares["devices"]
    fleet.check_exactly_once()


def test_killed_gateway_counts_no_change_twice_and_loses_none(tmp_path: Path) -> None:
    fleet = Fleet(
        tmp_path,
        Simulation(seed=43),
        manifest=federated_manifest(steps=25),
        options=GatewayOptions(devices_min=3),
        engines=everybody(2),
    )

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        await fleet.reach(4)
        await asyncio.sleep(0.31)
        await fleet.outlive_a_kill()

    fleet.run(main())

    assert fleet.daemon.replica.step == 25
    assert {*fleet.weights()} == {fleet.final_weights()}
    fleet.check_exactly_once()
