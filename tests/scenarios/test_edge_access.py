"""Who is a gateway's device, and what becomes of those who are not, or send what they should not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gossamer.edge.enrolment import enrol, hand_over
from gossamer.peer.gateway.book import revoke
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.protocol import devices
from gossamer.protocol.edge_pb2 import Receipt, Signed, Uplink
from gossamer.protocol.errors import BadSignature, NotAdmitted
from gossamer.protocol.identity import Identity
from gossamer.simulator.world import Simulation

from .fleet import Fleet, digits_manifest
from .swarm import identity

pytestmark = pytest.mark.scenario


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
        await fleet.end()

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
