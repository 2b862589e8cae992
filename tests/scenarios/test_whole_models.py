"""Models too large for a word: they go both ways in pieces, go on where they broke off, and count once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.edge.engines import Engines
from gossamer.edge.enrolment import enrol
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.protocol import devices
from gossamer.protocol.devices import LONG_ANSWER, SNAPSHOT, Submission
from gossamer.protocol.edge_pb2 import LongAnswerWord, Receipt
from gossamer.protocol.errors import ChecksumMismatch, GossamerError, InvalidMessage
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation

from .fleet import Fleet, federated_manifest, was_not_kept
from .swarm import identity

pytestmark = pytest.mark.scenario

HIDDEN = 4096
N_WEIGHTS = 75 * HIDDEN + 10
ANSWER_BYTES = 4 + 4 * N_WEIGHTS
"""1.2 MB: two pieces."""
TORCH = Engines(backpropagates=True)


def fleet_of(
    tmp_path: Path, n: int, *, seed: int, steps: int = 3, rule: str = "fedavg", patience_s: float = 60
) -> Fleet:
    return Fleet(
        tmp_path,
        Simulation(seed=seed),
        manifest=federated_manifest(steps=steps, hidden=HIDDEN, rule=rule, local_steps=1),
        options=GatewayOptions(devices_min=n, patience_initial_s=patience_s),
        engines=dict.fromkeys(range(n), TORCH),
    )


def kept(fleet: Fleet) -> list[str]:
    """Names of what is in the gateway's spool."""
    return sorted(path.name for path in (fleet.folder.path / "gateway" / "answers").iterdir())


@pytest.mark.parametrize("rule", ["fedavg", "fedyogi"])
def test_devices_end_with_the_gateways_weights_and_leave_no_files(tmp_path: Path, rule: str) -> None:
    fleet = fleet_of(tmp_path, 3, seed=61, rule=rule)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        await fleet.end()

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()] * 3
    assert [device.counts["rounds_counted"] for device in fleet.devices] == [3] * 3
    assert {submission.length for _, submission in fleet.accepted()} == {ANSWER_BYTES}
    fleet.check_exactly_once()
    assert kept(fleet) == []
    assert [list((tmp_path / str(number) / "outbox.long").iterdir()) for number in range(3)] == [[]] * 3


def test_answer_goes_on_where_a_kill_broke_it_off(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, seed=62, steps=1)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(1, up_bytes_per_s=200e3)  # 6 s for an answer
        received = fleet.front_host.network.traffic.received
        while received[LONG_ANSWER] < 1 << 20:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.05)
        fleet.hosts[0].kill()
        await asyncio.sleep(0.5)
        fleet.restart_device(0)
        await fleet.end()
        assert received[LONG_ANSWER] < ANSWER_BYTES + 10_000  # nothing came twice

    fleet.run(main())

    fleet.check_exactly_once()
    assert fleet.weights() == [fleet.final_weights()]


def test_snapshot_goes_on_where_a_lost_link_broke_it_off(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, seed=63, steps=1, patience_s=600)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(1, down_bytes_per_s=200e3)
        await asyncio.sleep(1)
        received = fleet.hosts[0].network.traffic.received
        while received[SNAPSHOT] < 1 << 20:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.05)
        fleet.sim.partition(["d0"], ["front"])
        await asyncio.sleep(100)
        fleet.sim.heal(["d0"], ["front"])
        await fleet.end()
        assert received[SNAPSHOT] < 2 * ANSWER_BYTES + 20_000  # the first state and the last

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()]


@pytest.mark.parametrize("wait_s", [0.05, 0.2, 0.6])
def test_killed_gateway_counts_nothing_twice_and_loses_nothing(tmp_path: Path, wait_s: float) -> None:
    fleet = fleet_of(tmp_path, 3, seed=64, steps=4)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3, up_bytes_per_s=3e6)
        await fleet.reach(1)
        while not kept(fleet):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.01)
        await asyncio.sleep(wait_s)
        await fleet.outlive_a_kill()

    fleet.run(main())

    assert fleet.daemon.replica.step == 4
    assert fleet.weights() == [fleet.final_weights()] * 3
    fleet.check_exactly_once()
    assert kept(fleet) == []


def test_answer_that_was_counted_before_a_kill_outlasts_updates_that_are_done_again(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 2, seed=67, steps=3)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(1)
        fleet.start_devices(1, up_bytes_per_s=300e3)  # 4 s for an answer
        await fleet.reach(1)
        while len(fleet.accepted()) < 3:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.05)
        await fleet.outlive_a_kill()

    fleet.run(main())

    counted = [name for names in fleet.updates() for name in names]
    assert sorted(counted) == [(index, slot) for index in range(3) for slot in range(2)]
    assert {*fleet.weights()} == {fleet.final_weights()}


def test_answer_that_a_full_disk_did_not_take_is_offered_again(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, seed=68, steps=2)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(1, up_bytes_per_s=300e3)
        await fleet.reach(1)
        while not kept(fleet):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.05)
        fleet.peer_host.disk_is_full = True
        while not was_not_kept(fleet):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.5)
        fleet.peer_host.disk_is_full = False
        mended_s = fleet.sim.now_s
        await fleet.reach(2)
        assert fleet.sim.now_s < mended_s + 30
        await fleet.end()

    fleet.run(main(), timeout_s=300)

    assert fleet.weights() == [fleet.final_weights()]
    fleet.check_exactly_once()


def test_what_nobody_asked_for_or_is_not_what_was_announced_leaves_nothing(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, seed=65, steps=2)
    content = bytes(ANSWER_BYTES)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(1, flops_per_s=1e6)  # slow: the round stays open
        await asyncio.sleep(5)
        rogue = fleet.sim.host("rogue", identity=identity(6, 0))
        await enrol(rogue.network, fleet.token(50))
        assert await upload(fleet, rogue, long(1, 0, content), [content]) == Receipt.REFUSED  # another's slot
        assert await upload(fleet, rogue, long(9, 0, content), [content]) == Receipt.REFUSED  # no such round
        short = Submission(round_index=1, slot=0, base=bytes(32), loss=0.0, scalars=b"few")
        with pytest.raises(InvalidMessage, match="not long"):
            await upload(fleet, rogue, short, [])
        await fleet.end()

    fleet.run(main())

    assert kept(fleet) == []


def test_device_cannot_send_other_bytes_than_it_signed_or_more(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, 1, seed=66, steps=2)
    signed, other = bytes(ANSWER_BYTES), b"\1" * ANSWER_BYTES

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(1)
        await fleet.reach(1)
        await asyncio.sleep(0.05)
        host = fleet.hosts[0]
        host.kill()
        host.restart()
        index, base = open_round(fleet)
        head = replace(long(index, 0, signed), base=base)
        with pytest.raises(ChecksumMismatch):
            await upload(fleet, host, head, [other])
        with pytest.raises(InvalidMessage, match="cut off"):
            await upload(fleet, host, head, [signed[: 1 << 20], signed[: 1 << 20]])
        with pytest.raises(InvalidMessage, match="cut off"):
            await upload(fleet, host, head, [signed[:1000]])
        too_long = replace(head, length=ANSWER_BYTES + 1)
        assert await upload(fleet, host, too_long, [signed + b"1"]) == Receipt.REFUSED
        for number in range(3):
            nonsense = b"\2\0\0\0" + bytes([number]) + b"\xff" * (ANSWER_BYTES - 5)
            infinite = replace(long(index, 0, nonsense), base=base)
            assert await upload(fleet, host, infinite, [nonsense]) == Receipt.REFUSED
            assert kept(fleet) == []  # however many it sends, they take no room
        fleet.launch(0)  # as an honest device again
        await fleet.end()

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()]
    fleet.check_exactly_once()


def open_round(fleet: Fleet) -> tuple[int, bytes]:
    """Index and base of the newest round."""
    opened = [entry.opened for entry in fleet.entries() if entry.HasField("opened")][-1]
    return opened.round, opened.base


def long(index: int, slot: int, content: bytes) -> Submission:
    digest = hashlib.sha256(content).digest()
    return Submission(round_index=index, slot=slot, base=bytes(32), loss=0.0, digest=digest, length=len(content))


async def upload(fleet: Fleet, host: Host, submission: Submission, pieces: list[bytes]) -> int:
    """Send a long answer as `host`, whatever the gateway says to its head; the verdict."""
    signed = devices.sign_submission(host.identity, fleet.manifest.run_id, submission)
    go_on = asyncio.Event()

    async def words() -> AsyncIterator[bytes]:
        yield signed.SerializeToString()
        await go_on.wait()
        for piece in pieces:
            for start in range(0, len(piece), 1 << 20):
                yield piece[start : start + (1 << 20)]

    answer = host.network.stream(fleet.gateway.peer_id, LONG_ANSWER, words(), timeout_s=30)
    try:
        async for chunk in answer:
            word = LongAnswerWord.FromString(chunk)
            if word.HasField("receipt"):
                return int(word.receipt.verdict)
            go_on.set()
    finally:
        await answer.aclose()  # type: ignore[attr-defined]  # it is a generator
    raise GossamerError("no verdict")
