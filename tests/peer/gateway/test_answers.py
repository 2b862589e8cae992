"""What counts, and what has become part of an update."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from gossamer.algorithms import Schedule
from gossamer.algorithms.baffle import Baffle
from gossamer.algorithms.forward import BaffleOptions
from gossamer.peer.gateway import answers as answers_module
from gossamer.peer.gateway.answers import REFUSALS_TOLD_MAX, Answers, DeviceRound
from gossamer.peer.gateway.spool import Spool, name_of
from gossamer.protocol.devices import Submission, sign_submission
from gossamer.protocol.edge_pb2 import JournalEntry, Receipt
from gossamer.protocol.identity import Identity

RUN_ID = "0" * 32
GATEWAY = Identity(b"gateway".ljust(32))
DEVICES = [Identity(bytes([number]) * 32) for number in range(3)]
K = 2
HERE, ELSEWHERE = b"a" * 32, b"b" * 32
"""Two states of the model."""

T = TypeVar("T")


class Network:
    """Computes at once."""

    async def compute(self, work: Callable[[], T], cost: object) -> T:
        return work()


class Desk:
    """Answers, and a disk that takes its time where it is told to."""

    def __init__(self, folder: Path, **options: Any) -> None:
        method = Baffle({"w": torch.zeros(4)}, BaffleOptions(K=K, **options), Schedule(lr=0.1, total_steps=9))
        network: Any = Network()
        self.spool = Spool(folder / "answers")
        self.written: list[JournalEntry] = []
        self.told: list[str] = []
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.answers = Answers(
            gateway=GATEWAY.peer_id,
            run_id=RUN_ID,
            method=method,
            network=network,
            spool=self.spool,
            staleness_max=3,
            write=self._write,
            tell=lambda device, reason: self.told.append(reason),
        )

    async def _write(self, entries: Sequence[JournalEntry]) -> None:
        await self.may_write.wait()
        self.written += entries

    def open(self, index: int, base: bytes) -> DeviceRound:
        round_ = self.answers.open = self.answers.opened(index, base)
        round_.roster = [device.peer_id for device in DEVICES]
        return round_

    async def offer(self, slot: int, *, index: int = 1, base: bytes = HERE, long: bool = False) -> int | None:
        scalars = bytes(4 * K)
        submission = Submission(round_index=index, slot=slot, base=base, loss=0.5, scalars=scalars)
        if long:
            digest, length = hashlib.sha256(scalars).digest(), len(scalars)
            submission = Submission(round_index=index, slot=slot, base=base, loss=0.5, digest=digest, length=length)
            self.spool.write(name_of(submission), 0, scalars)
            self.spool.complete(name_of(submission), digest, length)
        device = DEVICES[slot]
        return await self.answers.judge(device.peer_id, sign_submission(device, RUN_ID, submission), submission)


async def test_of_two_states_with_one_rounds_index_only_the_last_ones_answers_count(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open(1, HERE)
    assert await desk.offer(0) == Receipt.COUNTED

    there = desk.open(1, ELSEWHERE)
    late = await desk.offer(1)
    fresh = await desk.offer(2, base=ELSEWHERE)

    assert (late, fresh) == (Receipt.STALE, Receipt.COUNTED)
    assert list(desk.answers.pending) == [(there.seed, 2)]


async def test_answer_on_its_way_to_the_disk_does_not_count_in_a_round_that_is_gone(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open(1, HERE)
    desk.may_write.clear()
    offer = asyncio.create_task(desk.offer(0))
    await asyncio.sleep(0)

    desk.open(1, ELSEWHERE)
    desk.may_write.set()

    assert await offer == Receipt.STALE
    assert not desk.answers.pending


@pytest.mark.parametrize("long", [False, True])
async def test_device_that_leaves_while_its_answer_is_written_counts_once(tmp_path: Path, long: bool) -> None:
    desk = Desk(tmp_path)
    round_ = desk.open(1, HERE)
    desk.may_write.clear()
    first = asyncio.create_task(desk.offer(0, long=long))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    desk.answers.sweep()

    again = asyncio.create_task(desk.offer(0, long=long)) if not long else None
    await asyncio.sleep(0.01)
    desk.may_write.set()
    await asyncio.sleep(0.01)

    assert again is None or await again == Receipt.COUNTED
    assert list(desk.answers.pending) == [(round_.seed, 0)]
    assert len(desk.written) == 1
    desk.answers.sweep()
    assert len(list((tmp_path / "answers").iterdir())) == int(long)


@pytest.mark.parametrize("perturbations", ["distinct", "shared"])
async def test_answer_that_came_too_late_for_a_payload_waits_for_the_next(tmp_path: Path, perturbations: str) -> None:
    desk = Desk(tmp_path, perturbations=perturbations)
    seed = desk.open(1, HERE).seed
    await desk.offer(0)
    await desk.offer(1)

    taken = desk.answers.take()
    assert await desk.offer(2) == Receipt.COUNTED
    counted = frozenset({(seed, 0)} if perturbations == "shared" else {(seed, 0), (seed, 1)})
    spent = desk.answers.part_of(counted)
    desk.answers.retire(spent, 2)

    assert [one.slot for one in taken] == [0, 1]
    assert spent == {(seed, 0), (seed, 1)}
    assert list(desk.answers.pending) == [(seed, 2)]


async def test_payload_takes_the_oldest_answers_where_it_cannot_hold_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "DEVICES_MAX", 2)
    desk = Desk(tmp_path)
    desk.open(1, HERE)
    await desk.offer(2)
    later = desk.open(2, ELSEWHERE)
    await desk.offer(0, index=2, base=ELSEWHERE)
    await desk.offer(1, index=2, base=ELSEWHERE)

    taken = desk.answers.take()
    desk.answers.retire(desk.answers.part_of(frozenset((one.key.round_seed, one.slot) for one in taken)), 3)

    assert [(one.key.round_index, one.slot) for one in taken] == [(1, 2), (2, 0)]
    assert list(desk.answers.pending) == [(later.seed, 1)]


async def test_device_cannot_fill_the_log_with_what_is_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    verdicts = {await desk.offer(0, index=9) for _ in range(REFUSALS_TOLD_MAX + 50)}

    assert verdicts == {Receipt.REFUSED}
    assert len(desk.told) == REFUSALS_TOLD_MAX
