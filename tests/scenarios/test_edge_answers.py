"""What devices answer counts once: over kills of the gateway and of devices, late, and on a full disk."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gossamer.edge.enrolment import enrol
from gossamer.peer.gateway.following import Following
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.peer.gateway.replica import Unpublished
from gossamer.peer.rounds.snapshots import Standing
from gossamer.protocol import devices
from gossamer.protocol.edge_pb2 import Hello, Uplink
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation

from .fleet import Fleet, digits_manifest, was_not_kept
from .swarm import identity

pytestmark = pytest.mark.scenario


@pytest.mark.parametrize("at_s", [0.31, 0.76])
def test_killed_gateway_counts_nothing_twice_and_loses_nothing(tmp_path: Path, at_s: float) -> None:
    fleet = Fleet(
        tmp_path, Simulation(seed=2), manifest=digits_manifest(steps=40), options=GatewayOptions(devices_min=3)
    )

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        await fleet.reach(2)
        await asyncio.sleep(at_s)
        await fleet.outlive_a_kill()

    fleet.run(main())

    assert fleet.daemon.replica.step == 40
    assert {*fleet.weights()} == {fleet.final_weights()}
    assert [device.counts["rounds_counted"] for device in fleet.devices] == [40] * 3
    fleet.check_exactly_once()


def test_answers_count_once_also_where_the_journal_was_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.peer.gateway.gateway.COMPACT_ABOVE_BYTES", 0)
    manifest = digits_manifest(steps=16, checkpoint_every=1)
    fleet = Fleet(tmp_path, Simulation(seed=17), manifest=manifest, options=GatewayOptions(devices_min=3))
    counted: list[tuple[bytes, int]] = []
    publish = Following.publish

    async def publish_and_note(following: Following, one: Unpublished, standing: Standing) -> None:
        payloads = list(one.kept.step.payloads)
        counted.extend(fleet.daemon.gateway.replica.of_devices.counted(payloads))  # type: ignore[union-attr]
        await publish(following, one, standing)

    monkeypatch.setattr(Following, "publish", publish_and_note)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        for step in (6, 11):
            await fleet.reach(step)
            fleet.kill_gateway()
            await asyncio.sleep(1.0)
            fleet.restart_gateway()
            await asyncio.sleep(0.1)
        await fleet.end()

    fleet.run(main())

    assert fleet.daemon.replica.step == 16
    assert len(counted) == len({*counted}) == 3 * 16
    assert {*fleet.weights()} == {fleet.final_weights()}


def test_rounds_far_apart_do_not_fail(tmp_path: Path) -> None:
    options = GatewayOptions(devices_min=3, round_every_s=300)
    fleet = Fleet(tmp_path, Simulation(seed=18), manifest=digits_manifest(steps=5), options=options)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        await fleet.end()
        assert fleet.sim.now_s > 4 * 300

    fleet.run(main())

    assert fleet.daemon.trainer.tally.rounds_failed == 0
    assert {*fleet.weights()} == {fleet.final_weights()}


def test_device_killed_in_mid_round_comes_back_as_itself_and_counts_once(tmp_path: Path) -> None:
    fleet = Fleet(
        tmp_path, Simulation(seed=3), manifest=digits_manifest(steps=15), options=GatewayOptions(devices_min=2)
    )
    entropy = random.Random(3)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        for step in range(2, 14, 2):
            await fleet.reach(step)
            await asyncio.sleep(entropy.uniform(0, 0.1))
            fleet.hosts[1].kill()
            await asyncio.sleep(entropy.uniform(0, 0.3))
            fleet.restart_device(1)
        await fleet.end()

    fleet.run(main())

    assert len(fleet.daemon.gateway.book.devices if fleet.daemon.gateway else []) == 3
    assert {*fleet.weights()} == {fleet.final_weights()}
    fleet.check_exactly_once()


def test_a_third_of_the_devices_dropping_out_of_every_round_does_not_stop_it(tmp_path: Path) -> None:
    options = GatewayOptions(devices_min=7, patience_floor_s=1.0, patience_initial_s=10.0)
    fleet = Fleet(tmp_path, Simulation(seed=4), manifest=digits_manifest(steps=20), options=options)
    entropy = random.Random(4)

    async def drop() -> None:
        step = 0
        while True:
            await fleet.reach(step + 1)
            step = fleet.daemon.replica.step
            await asyncio.sleep(1.0)  # in mid-round
            for number in entropy.sample(range(10), 3):
                fleet.restart_device(number)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(10, flops_per_s=5e5)
        dropping = asyncio.create_task(drop())
        result = await fleet.work
        dropping.cancel()
        assert result.step == 20

    fleet.run(main())

    per_update = [len(names) for names in fleet.updates()]
    assert sum(per_update) >= 6 * len(per_update)
    fleet.check_exactly_once()


def test_late_answers_count_in_the_next_update_unless_they_are_too_late(tmp_path: Path) -> None:
    options = GatewayOptions(devices_min=4, devices_per_round=3, backups=1, staleness_max=2)
    fleet = Fleet(tmp_path, Simulation(seed=5), manifest=digits_manifest(steps=12), options=options)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        fleet.start_devices(1, flops_per_s=3e7)  # its round takes longer than the others'
        await fleet.end()

    fleet.run(main())

    rounds = [{index for index, _ in names} for names in fleet.updates()]
    assert any(len(indices) > 1 for indices in rounds)
    assert all(max(indices) - min(indices) <= 2 for indices in rounds)
    fleet.check_exactly_once()


def test_answer_that_a_full_disk_did_not_take_is_offered_again(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=19), manifest=digits_manifest(steps=3))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(1, flops_per_s=1e6)  # slow: a round is written down long before it is answered
        await fleet.reach(1)
        while max(entry.opened.round for entry in fleet.entries()) < 2:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.05)
        fleet.peer_host.disk_is_full = True
        while not was_not_kept(fleet):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.5)
        fleet.peer_host.disk_is_full = False
        mended_s = fleet.sim.now_s
        await fleet.reach(3)
        assert fleet.sim.now_s < mended_s + 30
        await fleet.end()

    fleet.run(main(), timeout_s=300)

    assert fleet.devices[0].counts["rounds_counted"] == 3
    fleet.check_exactly_once()


@pytest.mark.parametrize("perturbations", ["distinct", "shared"])
def test_late_answers_count_once_also_where_all_have_the_same_perturbations(tmp_path: Path, perturbations: str) -> None:
    options = GatewayOptions(devices_min=3, devices_per_round=3, backups=1, staleness_max=2)
    manifest = digits_manifest(steps=12, perturbations=perturbations)
    fleet = Fleet(tmp_path, Simulation(seed=20), manifest=manifest, options=options)

    async def main() -> None:
        fleet.peer_host.flops_per_s = 2e5  # answers come while it makes a payload and an update
        fleet.start_gateway()
        fleet.start_devices(3)
        fleet.start_devices(1, flops_per_s=3e7)  # its round takes longer than the others'
        await fleet.reach(6)
        await fleet.outlive_a_kill()

    fleet.run(main())

    updates = [entry.applied for entry in fleet.entries() if entry.HasField("applied")]
    spent = [(one.round_seed, slot) for applied in updates for one in applied.answered for slot in one.slots]
    seed_of = {submission.round_index: seed_at(fleet, submission) for _, submission in fleet.accepted()}
    accepted = [(seed_of[submission.round_index], submission.slot) for _, submission in fleet.accepted()]
    assert len(spent) == len({*spent})
    assert any(len(applied.answered) > 1 for applied in updates)
    assert {name for name in accepted if name[0] != seed_of[max(seed_of)]} <= {*spent}


def test_device_that_never_answers_does_not_make_rounds_longer_and_longer(tmp_path: Path) -> None:
    options = GatewayOptions(devices_min=4, patience_initial_s=30.0)
    fleet = Fleet(tmp_path, Simulation(seed=22), manifest=digits_manifest(steps=40), options=options)

    async def greet_for_ever() -> AsyncIterator[bytes]:
        while True:
            yield Uplink(hello=Hello()).SerializeToString()  # so it is never taken for one that is busy
            await asyncio.sleep(0.02)

    async def attend(host: Host) -> None:
        await enrol(host.network, fleet.token(50))
        async for _ in host.network.stream(fleet.gateway.peer_id, devices.ATTEND, greet_for_ever(), timeout_s=1e6):
            pass

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        await asyncio.sleep(1.0)
        silent = fleet.sim.host("silent", identity=identity(6, 0))
        silent.spawn(attend(silent))
        await fleet.end()

    fleet.run(main(), timeout_s=1e5)

    assert fleet.sim.now_s < 3 * 30 + 40 * 3


def seed_at(fleet: Fleet, submission: devices.Submission) -> bytes:
    return devices.round_seed(fleet.manifest.run_id, fleet.gateway.peer_id, submission.round_index, submission.base)
