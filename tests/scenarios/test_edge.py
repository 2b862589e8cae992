"""Gateways and devices: what counts, what doesn't, and what a crash may cost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.algorithms.forward import Batch, Directions, Engine, Network, NumpyEngine
from gossamer.edge.engines import Engines
from gossamer.edge.enrolment import enrol, hand_over
from gossamer.edge.rules import Rules
from gossamer.edge.sensors import Reading
from gossamer.peer.gateway.book import revoke
from gossamer.peer.gateway.following import Following
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.peer.gateway.replica import Unpublished
from gossamer.peer.rounds.snapshots import Standing
from gossamer.protocol import devices
from gossamer.protocol.edge_pb2 import Hello, Receipt, Signed, Uplink
from gossamer.protocol.errors import BadSignature, NotAdmitted
from gossamer.protocol.identity import Identity
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation

from .fleet import Fleet, digits_manifest, was_not_kept
from .swarm import identity

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
        await fleet.work
        await asyncio.gather(*fleet.lives)

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


def trained_accuracy(root: Path, *, liars: int, steps: int = 150, **options: Any) -> float:
    """Of ten devices together."""
    manifest = digits_manifest(steps=steps, lr=4e-2, K=100, **options)
    fleet = Fleet(root, Simulation(seed=16), manifest=manifest, options=GatewayOptions(devices_min=10))
    fleet.engines = dict.fromkeys(range(liars), Lies())

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(10)
        await fleet.work
        await asyncio.gather(*fleet.lives)

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
        fleet.kill_gateway()
        await asyncio.sleep(1.0)
        fleet.restart_gateway()
        await fleet.work
        await asyncio.gather(*fleet.lives)

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
        await fleet.work
        await asyncio.gather(*fleet.lives)

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
        await fleet.work
        await asyncio.gather(*fleet.lives)
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
        await fleet.work
        await asyncio.gather(*fleet.lives)

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
        await fleet.work
        await asyncio.gather(*fleet.lives)

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
        await fleet.work
        await asyncio.gather(*fleet.lives)

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
        fleet.kill_gateway()
        await asyncio.sleep(1.0)
        fleet.restart_gateway()
        await fleet.work
        await asyncio.gather(*fleet.lives)

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
        await fleet.work
        await asyncio.gather(*fleet.lives)

    fleet.run(main(), timeout_s=1e5)

    assert fleet.sim.now_s < 3 * 30 + 40 * 3


def seed_at(fleet: Fleet, submission: devices.Submission) -> bytes:
    return devices.round_seed(fleet.manifest.run_id, fleet.gateway.peer_id, submission.round_index, submission.base)


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


def test_token_admits_one_device_and_that_one_as_often_as_it_asks(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=7))

    async def main() -> None:
        fleet.start_gateway()
        await asyncio.sleep(0.1)
        first, second, stranger = (fleet.sim.host(name).network for name in ("first", "second", "stranger"))
        token = fleet.token(1)

        await enrol(first, token)
        await enrol(first, token)
        await enrol(first, fleet.token(2))
        with pytest.raises(NotAdmitted, match="used by another device"):
            await enrol(second, token)
        with pytest.raises(NotAdmitted, match="no such token"):
            await enrol(stranger, fleet.unknown_token())
        with pytest.raises(NotAdmitted):
            await stranger.call(fleet.gateway.peer_id, devices.CARD, b"", timeout_s=5)
        assert fleet.book().devices == [first.peer_id]

    fleet.run(main())


def test_revoked_device_is_shut_out_in_mid_run(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=8), manifest=digits_manifest(steps=60))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        await fleet.reach(3)
        revoke(fleet.folder.path / "gateway", fleet.hosts[2].peer_id)
        await fleet.reach(6)
        assert fleet.status(2)["state"] == "refused"
        counted = fleet.devices[2].counts["rounds_counted"]
        await fleet.work
        assert fleet.devices[2].counts["rounds_counted"] == counted
        with pytest.raises(NotAdmitted, match="revoked"):
            await enrol(fleet.hosts[2].network, fleet.token(99))

    fleet.run(main())


def test_new_key_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=9))
    new = Identity(b"new".ljust(32))

    async def main() -> None:
        fleet.start_gateway()
        await asyncio.sleep(0.1)
        device, heir = fleet.sim.host("device").network, fleet.sim.host("heir", identity=new).network
        await enrol(device, fleet.token(1))

        for _ in range(2):  # the answer may have been lost
            await hand_over(device, new, gateway=fleet.gateway.peer_id, run_id=fleet.manifest.run_id)

        await heir.call(fleet.gateway.peer_id, devices.CARD, b"", timeout_s=5)
        with pytest.raises(NotAdmitted):
            await device.call(fleet.gateway.peer_id, devices.CARD, b"", timeout_s=5)

    fleet.run(main())


def test_forged_and_replayed_submissions_do_not_count(tmp_path: Path) -> None:
    """A device that is enrolled tries what it can, with what it has seen."""
    fleet = Fleet(
        tmp_path, Simulation(seed=10), manifest=digits_manifest(steps=40), options=GatewayOptions(staleness_max=1)
    )

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(2)
        await fleet.reach(4)
        rogue = fleet.sim.host("rogue", identity=identity(6, 0))
        await enrol(rogue.network, fleet.token(50))
        seen = [signed for signed in fleet.accepted() if signed[0] == fleet.hosts[0].peer_id]
        _, old = seen[0]
        _, recent = seen[-1]
        run_id, scalars = fleet.manifest.run_id, bytes(4 * 8)

        def own(submission: devices.Submission) -> Signed:
            return devices.sign_submission(rogue.identity, run_id, submission)

        assert await fleet.offer(rogue, own(recent)) == Receipt.REFUSED  # another's slot
        far = devices.Submission(round_index=10**6, slot=0, base=bytes(32), loss=0.0, scalars=scalars)
        assert await fleet.offer(rogue, own(far)) == Receipt.REFUSED  # a round that never was
        gone = devices.Submission(round_index=1, slot=0, base=bytes(32), loss=0.0, scalars=scalars)
        assert await fleet.offer(rogue, own(gone)) == Receipt.STALE
        theirs = devices.sign_submission(fleet.hosts[0].identity, run_id, recent)
        with pytest.raises(BadSignature):
            await fleet.offer(rogue, theirs)  # signed by another
        tampered = own(recent)
        tampered.body = theirs.body[:-1] + bytes([theirs.body[-1] ^ 1])
        with pytest.raises(BadSignature):
            await fleet.offer(rogue, tampered)
        assert old.round_index < recent.round_index

    fleet.run(main())

    fleet.check_exactly_once()


def test_same_submission_again_is_received_and_counts_once(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=11), manifest=digits_manifest(steps=40))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(2)
        await fleet.reach(4)
        fleet.hosts[0].kill()
        who, submission = [signed for signed in fleet.accepted() if signed[0] == fleet.hosts[0].peer_id][-1]
        fleet.hosts[0].restart()
        again = devices.sign_submission(fleet.hosts[0].identity, fleet.manifest.run_id, submission)
        assert who == fleet.hosts[0].peer_id
        assert [await fleet.offer(fleet.hosts[0], again) for _ in range(2)] == [Receipt.COUNTED] * 2

    fleet.run(main())

    fleet.check_exactly_once()


def test_device_that_sends_nonsense_is_parted_with_and_changes_nothing(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, Simulation(seed=12))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(2)
        await fleet.reach(1)
        rogue = fleet.sim.host("rogue", identity=identity(6, 0))
        await enrol(rogue.network, fleet.token(50))
        for garbage in (b"\xff" * 100, b"", Uplink(submission=Signed(body=b"x", signature=b"y")).SerializeToString()):
            answer = rogue.network.stream(fleet.gateway.peer_id, devices.ATTEND, _one(garbage), timeout_s=5)
            with pytest.raises(Exception, match=r".+"):
                async for _ in answer:
                    pass
        await fleet.work
        await asyncio.gather(*fleet.lives)

    fleet.run(main())

    assert {*fleet.weights()} == {fleet.final_weights()}


def test_idle_device_hears_a_heartbeat_and_says_nothing(tmp_path: Path) -> None:
    options = GatewayOptions(devices_min=2, heartbeat_s=60.0)
    fleet = Fleet(tmp_path, Simulation(seed=13), options=options)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(1)
        await asyncio.sleep(10.0)
        sent = fleet.hosts[0].network.traffic.sent[devices.ATTEND]
        received = fleet.hosts[0].network.traffic.received[devices.ATTEND]
        await asyncio.sleep(3600.0)
        assert fleet.hosts[0].network.traffic.sent[devices.ATTEND] == sent
        assert fleet.hosts[0].network.traffic.received[devices.ATTEND] - received <= 62 * 18
        assert list(fleet.hall().present) == [fleet.hosts[0].peer_id]

    fleet.run(main(), timeout_s=7200)


async def _one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk
    await asyncio.sleep(2.0)
