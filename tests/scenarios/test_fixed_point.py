"""Fixed-point forward gradients through the daemons: integers on devices, votes up, votes down, one hash."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.algorithms.forward.fixedpoint import votes_bytes
from gossamer.edge.engines import Choice, Engines
from gossamer.peer.event_kinds import PeerRefused, Warned
from gossamer.peer.events import read_events
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.protocol.devices import ATTEND
from gossamer.protocol.errors import UsageError
from gossamer.simulator.world import Simulation

from .fleet import Fleet, digits_manifest, fixed_point_manifest
from .swarm import identity

pytestmark = pytest.mark.scenario


def test_gateway_and_devices_end_with_the_same_integers(tmp_path: Path) -> None:
    fleet = Fleet(
        tmp_path, Simulation(seed=21), manifest=fixed_point_manifest(steps=12), options=GatewayOptions(devices_min=4)
    )

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        result = await fleet.work
        await asyncio.gather(*fleet.lives)
        assert (result.outcome, result.step) == ("finished", 12)

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()] * 4
    assert [device.counts["rounds_counted"] for device in fleet.devices] == [12] * 4
    assert [device.counts["resyncs"] for device in fleet.devices] == [1] * 4
    assert {len(submission.scalars) for _, submission in fleet.accepted()} == {votes_bytes(3)} == {1}
    fleet.check_exactly_once()


def test_votes_of_onnxruntime_pass_the_audit_of_numpy(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    fleet = Fleet(
        tmp_path,
        Simulation(seed=28),
        manifest=fixed_point_manifest(),
        options=GatewayOptions(devices_min=2, audit_rate=1.0),
        engines={1: Engines(Choice(integers="onnx"))},
    )
    for number in range(2):
        fleet.show_samples(number)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(2)
        await fleet.end()

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()] * 2
    assert fleet.final()["audited"] == 12
    assert [device.status()["engine"] for device in fleet.devices] == ["numpy int64", "onnxruntime MatMulInteger"]


def test_samples_that_cannot_be_read_are_told_and_nobody_suffers(tmp_path: Path) -> None:
    fleet = Fleet(
        tmp_path,
        Simulation(seed=29),
        manifest=fixed_point_manifest(steps=2),
        options=GatewayOptions(devices_min=5, audit_rate=1.0),
    )
    for number in range(5):
        fleet.show_samples(number)
    home = fleet.folder.path / "gateway" / "audit"
    no_end, no_middle, empty, no_names, no_labels = (home / f"{identity(5, number).peer_id}.npz" for number in range(5))
    whole = no_end.read_bytes()
    no_end.write_bytes(whole[:1000])
    no_middle.write_bytes(whole[:1000] + bytes(5000) + whole[6000:])
    empty.write_bytes(b"")
    with no_names.open("wb") as file:
        np.save(file, np.zeros(3))
    np.savez(no_labels, inputs=np.zeros(3, np.uint8), labels=np.int64(3))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(5)
        await fleet.end()

    fleet.run(main())

    told = [entry.event.message for entry in read_events(fleet.folder.events) if isinstance(entry.event, Warned)]
    assert sum("is not audited" in message for message in told) == 5
    assert [device.counts["rounds_counted"] for device in fleet.devices] == [2] * 5
    assert fleet.weights() == [fleet.final_weights()] * 5


def test_a_round_takes_a_device_few_bytes_whatever_the_model(tmp_path: Path) -> None:
    fleet = Fleet(
        tmp_path, Simulation(seed=22), manifest=fixed_point_manifest(steps=30), options=GatewayOptions(devices_min=4)
    )

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        await fleet.end()

    fleet.run(main())

    for host in fleet.hosts:
        assert host.network.traffic.sent[ATTEND] / 30 <= votes_bytes(3) + 256
        assert host.network.traffic.received[ATTEND] / 30 <= 4 * votes_bytes(3) + 400


def test_killed_gateway_goes_on_with_the_integers_it_had(tmp_path: Path) -> None:
    fleet = Fleet(
        tmp_path, Simulation(seed=23), manifest=fixed_point_manifest(steps=30), options=GatewayOptions(devices_min=3)
    )

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        await fleet.reach(6)
        await fleet.outlive_a_kill()

    fleet.run(main())

    assert fleet.daemon.replica.step == 30
    assert {*fleet.weights()} == {fleet.final_weights()}
    fleet.check_exactly_once()


def test_device_whose_votes_are_not_its_samples_is_named_and_shut_out(tmp_path: Path) -> None:
    options = GatewayOptions(devices_min=3, audit_rate=0.5)
    fleet = Fleet(
        tmp_path,
        Simulation(seed=24),
        manifest=fixed_point_manifest(steps=20),
        options=options,
        liars=frozenset({2}),
    )
    for number in range(4):
        fleet.show_samples(number)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        await fleet.work
        await asyncio.gather(*(fleet.lives[number] for number in (0, 1, 3)))

    fleet.run(main())

    liar = fleet.hosts[2].peer_id
    assert liar not in fleet.book().devices
    assert len(fleet.book().devices) == 3
    refusals = [entry.event for entry in read_events(fleet.folder.events) if isinstance(entry.event, PeerRefused)]
    assert [refusal.refused for refusal in refusals] == [liar[-len(refusals[0].refused) :]]
    assert "not those of its samples" in refusals[0].reason
    assert fleet.devices[2].counts["rounds_refused"] == 1
    assert fleet.final()["audited"] > 10
    assert {fleet.devices[number].status()["weights"] for number in (0, 1, 3)} == {fleet.final_weights()}


def test_devices_whose_samples_the_gateway_does_not_have_are_not_audited(tmp_path: Path) -> None:
    options = GatewayOptions(devices_min=2, audit_rate=1.0)
    fleet = Fleet(tmp_path, Simulation(seed=25), manifest=fixed_point_manifest(), options=options)
    fleet.show_samples(0)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(2)
        await fleet.end()

    fleet.run(main())

    assert fleet.final()["audited"] == 6


def test_answers_in_floats_cannot_be_audited(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=26), manifest=digits_manifest(), options=GatewayOptions(audit_rate=0.5))

    async def main() -> None:
        fleet.start_gateway()
        with pytest.raises(UsageError, match="only those of fixedpoint"):
            await fleet.work

    fleet.run(main())


def test_peer_without_devices_is_told_what_to_add(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=27), manifest=fixed_point_manifest())

    async def main() -> None:
        with pytest.raises(UsageError, match="add --gateway"):
            await fleet.start_peer()

    fleet.run(main())


def test_enhanced_votes_of_any_engine_pass_the_audit(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    enhanced: dict[str, Any] = {"guidance": 1, "sharpness": 0.01, "kernelwise": True}
    fleet = Fleet(
        tmp_path,
        Simulation(seed=29),
        manifest=fixed_point_manifest(**enhanced),
        options=GatewayOptions(devices_min=2, audit_rate=1.0),
        engines={1: Engines(Choice(integers="onnx"))},
    )
    for number in range(2):
        fleet.show_samples(number)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(2)
        await fleet.end()

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()] * 2
    assert fleet.final()["audited"] == 12
    fleet.check_exactly_once()
