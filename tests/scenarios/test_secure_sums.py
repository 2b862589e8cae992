"""Secure sums and differential privacy through the daemons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.algorithms.forward import BaffleOptions
from gossamer.algorithms.forward.residues import decode_mean, from_bytes
from gossamer.edge.daemon import Device
from gossamer.edge.data import DeviceData
from gossamer.edge.engines import Engines
from gossamer.edge.methods import open_work
from gossamer.edge.methods.baffle import BaffleWork
from gossamer.edge.pacing import Pace
from gossamer.peer.commands.status import privacy_words
from gossamer.peer.event_kinds import PrivacySpent, Warned
from gossamer.peer.events import read_events
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.protocol import devices
from gossamer.protocol.edge_pb2 import JournalEntry, Uplink
from gossamer.protocol.errors import InvalidMessage, UnknownMethod
from gossamer.simulator.world import Simulation

from .fleet import Fleet, digits_manifest

pytestmark = pytest.mark.scenario


def secure_fleet(tmp_path: Path, seed: int, *, steps: int = 6, devices_min: int = 4, **options: Any) -> Fleet:
    manifest = digits_manifest(steps=steps, perturbations="shared", secure=True, **options)
    return Fleet(
        tmp_path,
        Simulation(seed=seed),
        manifest=manifest,
        options=GatewayOptions(devices_min=devices_min, patience_floor_s=1.0, patience_initial_s=20.0),
    )


def sums(fleet: Fleet) -> list[JournalEntry]:
    return [entry for entry in fleet.entries() if entry.HasField("summed")]


def warnings(fleet: Fleet) -> list[str]:
    return [entry.event.message for entry in read_events(fleet.folder.events) if isinstance(entry.event, Warned)]


def test_sum_of_all_trains_the_model_that_all_hold(tmp_path: Path) -> None:
    fleet = secure_fleet(tmp_path, 31)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        result = await fleet.work
        await asyncio.gather(*fleet.lives)
        assert result.step == 6

    fleet.run(main())

    assert fleet.weights() == [fleet.final_weights()] * 4
    assert [device.counts["rounds_counted"] for device in fleet.devices] == [6] * 4
    assert [len(entry.summed.devices) for entry in sums(fleet)] == [4] * 6
    assert fleet.accepted() == []  # no single answer is written down anywhere
    assert not warnings(fleet)


def test_sum_is_that_of_what_the_devices_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = secure_fleet(tmp_path, 32, steps=3)
    measured: list[npt.NDArray[np.float32]] = []
    differences = BaffleWork.differences

    async def listen(work: BaffleWork, seed: bytes, task: devices.Task, data: DeviceData) -> npt.NDArray[np.float32]:
        measured.append(await differences(work, seed, task, data))
        return measured[-1]

    monkeypatch.setattr(BaffleWork, "differences", listen)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        await fleet.work

    fleet.run(main())

    assert len(measured) == 12
    for index, entry in enumerate(sums(fleet)):
        expected = np.mean(measured[4 * index : 4 * index + 4], axis=0)
        # The encoding's step: 4 values within 20 sigma in 31 bits.
        assert np.abs(np.frombuffer(entry.summed.mean, "<f4") - expected).max() <= 2 * 4 * 20e-3 / 2**31 + 1e-9


def test_devices_that_drop_out_in_any_phase_leave_a_sum_of_the_others(tmp_path: Path) -> None:
    fleet = secure_fleet(tmp_path, 33, steps=12, devices_min=5, secure_fraction=0.5)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(6, flops_per_s=2e6)
        for number, step in enumerate((2, 5, 8)):
            await fleet.reach(step)
            await asyncio.sleep(0.05 + 0.4 * number)
            fleet.hosts[number].kill()
            await asyncio.sleep(0.5)
            fleet.restart_device(number)
        await fleet.end()

    fleet.run(main())

    behind = [len(entry.summed.devices) for entry in sums(fleet)]
    assert len(behind) == 12
    assert min(behind) == 5
    assert {*fleet.weights()} == {fleet.final_weights()}
    assert fleet.updates() == [[(index, 0)] for index in range(12)]


def test_below_the_threshold_nothing_is_revealed_until_enough_are_back(tmp_path: Path) -> None:
    fleet = secure_fleet(tmp_path, 34, steps=6, secure_fraction=0.9)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4, flops_per_s=2e6)
        await fleet.reach(2)
        await asyncio.sleep(1.0)  # keys and shares are through, devices measure
        fleet.hosts[0].kill()
        await asyncio.sleep(20.0)
        assert fleet.daemon.replica.step == 2
        fleet.restart_device(0)
        await fleet.end()

    fleet.run(main())

    assert any("nothing was revealed" in warning for warning in warnings(fleet))
    assert len(sums(fleet)) == 6
    assert {*fleet.weights()} == {fleet.final_weights()}


def test_killed_gateway_uses_a_sum_that_was_unmasked_and_makes_the_others_anew(tmp_path: Path) -> None:
    fleet = secure_fleet(tmp_path, 35, steps=30, devices_min=3)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(3)
        await fleet.reach(5)
        await asyncio.sleep(0.31)
        await fleet.outlive_a_kill()

    fleet.run(main())

    assert fleet.daemon.replica.step == 30
    assert {*fleet.weights()} == {fleet.final_weights()}
    counted = [name for names in fleet.updates() for name in names]
    assert len(counted) == len({*counted}) == 30


def test_a_device_takes_no_part_in_a_sum_over_too_few(tmp_path: Path) -> None:
    """The gateway would sum over two; the run's owner has signed that three is the least."""
    fleet = secure_fleet(tmp_path, 36, devices_min=2, secure_devices=3)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(2)
        await asyncio.sleep(60.0)
        assert fleet.daemon.replica.step == 0
        fleet.start_devices(1)
        await fleet.work

    fleet.run(main())

    assert [len(entry.summed.devices) for entry in sums(fleet)] == [3] * 6


def test_what_single_devices_upload_looks_uniform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = secure_fleet(tmp_path, 37, steps=8, K=64)
    seen: list[int] = []
    say = Device._say

    def listen(device: Device, word: Uplink) -> None:
        if word.HasField("submission"):
            submission = devices.read_submission_body(word.submission.body, device._identity.peer_id)
            seen.extend(np.frombuffer(submission.scalars, "<u4").tolist())
            assert submission.loss == 0
        say(device, word)

    monkeypatch.setattr(Device, "_say", listen)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        await fleet.work

    fleet.run(main())

    counts = np.bincount(np.array(seen) >> 28, minlength=16)
    assert counts.sum() == 8 * 4 * 64
    chi_squared = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi_squared < 37.7  # 99.9 % of uniform samples, 15 degrees of freedom


@pytest.mark.parametrize("secure", [False, True])
def test_noise_is_added_and_what_was_spent_is_told(tmp_path: Path, secure: bool) -> None:
    pytest.importorskip("dp_accounting")
    options: dict[str, Any] = {"dp_clip": 5.0, "dp_noise": 2.0}
    if secure:
        fleet = secure_fleet(tmp_path, 38, **options)
    else:
        manifest = digits_manifest(**options)
        fleet = Fleet(tmp_path, Simulation(seed=38), manifest=manifest, options=GatewayOptions(devices_min=4))

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        await fleet.end()

    fleet.run(main())

    assert {*fleet.weights()} == {fleet.final_weights()}
    told = fleet.final()["privacy"]
    assert (told["rounds"], told["delta"], told["sums_only"]) == (6, 1e-5, secure)
    assert 4 < told["epsilon"] < 12
    events = [entry.event for entry in read_events(fleet.folder.events) if isinstance(entry.event, PrivacySpent)]
    assert (events[-1].rounds, events[-1].epsilon) == (6, told["epsilon"])
    assert "epsilon" in privacy_words(told)
    # A tenth of the noise would be a slope of this model; shares of it add up to a little more than was asked for.
    if secure:
        total = np.concatenate([4 * np.frombuffer(entry.summed.mean, "<f4") for entry in sums(fleet)])
        expected = 2.0 * 5.0 * BaffleOptions().sigma * np.sqrt(4 / 3)
    else:
        chosen = BaffleOptions(K=8, **options)
        answers = [from_bytes(submission.scalars, 8) for _, submission in fleet.accepted()]
        total = np.concatenate([decode_mean(answer, chosen, n_roster=1, n=1) for answer in answers])
        expected = 2.0 * 5.0 * chosen.sigma
    assert total.std() == pytest.approx(expected, rel=0.35)


def test_device_without_the_systems_randomness_takes_no_part(tmp_path: Path) -> None:
    fleet = secure_fleet(tmp_path, 39)

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(1)
        await asyncio.sleep(5.0)
        card = fleet.by_number[0]._card
        assert card is not None
        with pytest.raises(InvalidMessage, match="randomness"):
            open_work(card, Pace(fleet.hosts[0].network, cpu_share=1.0), Engines())

    fleet.run(main())


def test_no_single_answer_stands_for_a_sum(tmp_path: Path) -> None:
    fleet = secure_fleet(tmp_path, 40, steps=2, devices_min=5)

    async def head() -> AsyncIterator[bytes]:
        yield b"a long answer's head"

    async def main() -> None:
        fleet.start_gateway()
        fleet.start_devices(4)
        while len(fleet.hall().present if fleet.daemons else ()) < 4:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.05)
        with pytest.raises(UnknownMethod):
            async for _ in fleet.hosts[0].network.stream(
                fleet.gateway.peer_id, devices.LONG_ANSWER, head(), timeout_s=5
            ):
                pass

    fleet.run(main())
