"""The journal after a crash at any byte."""

from __future__ import annotations

import asyncio
import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gossamer.peer.gateway import journal as journal_module
from gossamer.peer.gateway.journal import PAYLOAD_BYTES_MAX, Journal
from gossamer.peer.gateway.replica import check_updates_can_be_kept
from gossamer.peer.gateway.writing import JournalWriter
from gossamer.protocol.edge_pb2 import Accepted, AppliedStep, JournalEntry, Step
from gossamer.protocol.errors import NetworkClosed, UsageError


def entry(number: int) -> JournalEntry:
    return JournalEntry(accepted=Accepted(device=bytes([number]) * 32, body=bytes(number)))


def reopened(path: Path) -> list[JournalEntry]:
    journal = Journal(path)
    journal.close()
    return list(journal.entries())


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")

    journal.append([entry(1), entry(2)])
    journal.append([entry(3)])
    journal.close()

    assert reopened(tmp_path / "journal") == [entry(1), entry(2), entry(3)]


@pytest.mark.parametrize("lost", [1, 5, 20, 43])
def test_torn_record_at_the_end_is_cut_off_and_writing_goes_on(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append([entry(1), entry(2)])
    journal.close()
    path.write_bytes(path.read_bytes()[:-lost])

    journal = Journal(path)
    assert list(journal.entries()) == [entry(1)]
    journal.append([entry(3)])
    journal.close()

    assert reopened(path) == [entry(1), entry(3)]


def test_flipped_bit_ends_what_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append([entry(1), entry(2), entry(3)])
    journal.close()
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)

    assert reopened(path) == [entry(1)]


def test_compacting_leaves_what_is_of_use(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append([entry(1), entry(2), entry(3)])

    journal.compact(lambda one: one if len(one.accepted.body) != 2 else None)
    journal.append([entry(4)])
    journal.close()

    assert reopened(tmp_path / "journal") == [entry(1), entry(3), entry(4)]


@contextmanager
def files_end_at(n_bytes: int) -> Iterator[None]:
    """Meanwhile no file of this process grows beyond that: a write gets as far as there is room, and then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 3, 20, 60])
def test_write_that_fails_half_way_leaves_nothing_before_what_comes_later(tmp_path: Path, room: int) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append([entry(1)])
    sound = journal.size_bytes

    with files_end_at(sound + room), pytest.raises(OSError, match=r".+") as raised:
        journal.append([entry(2), entry(100)])
    assert (raised.value.errno, journal.size_bytes, path.stat().st_size) == (errno.EFBIG, sound, sound)
    journal.append([entry(3)])
    journal.close()

    assert reopened(path) == [entry(1), entry(3)]


def test_rewriting_that_fails_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append([entry(1), entry(100)])

    with files_end_at(60), pytest.raises(Exception, match="cannot rewrite"):
        journal.compact(lambda one: one)
    journal.append([entry(3)])
    journal.close()

    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
    assert reopened(tmp_path / "journal") == [entry(1), entry(100), entry(3)]


def update(*payloads: bytes) -> JournalEntry:
    step = Step(learning_rate=0.5, payloads=payloads)
    return JournalEntry(applied=AppliedStep(step_before=1, step_after=2, step=step, base=bytes(32), round=7))


def test_payloads_of_an_update_may_be_longer_together_than_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "APART_ABOVE_BYTES", 100)
    monkeypatch.setattr(journal_module, "RECORD_BYTES_MAX", 1000)
    path, large = tmp_path / "journal", update(b"a" * 600, b"b" * 600, b"c" * 600)
    journal = Journal(path)

    journal.append([entry(1), update(b"few"), large])
    journal.compact(lambda one: one)
    journal.append([large, entry(2)])
    journal.close()

    assert reopened(path) == [entry(1), update(b"few"), large, large, entry(2)]


@pytest.mark.parametrize("lost", [1, 100, 700, 1250])
def test_update_that_is_torn_goes_with_all_its_payloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    monkeypatch.setattr(journal_module, "APART_ABOVE_BYTES", 100)
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append([entry(1), update(b"a" * 600, b"b" * 600)])
    journal.close()
    path.write_bytes(path.read_bytes()[:-lost])

    journal = Journal(path)
    journal.append([update(b"c" * 600, b"d" * 600)])
    journal.close()

    assert reopened(path) == [entry(1), update(b"c" * 600, b"d" * 600)]


def test_model_whose_updates_no_journal_takes_is_refused_at_the_start() -> None:
    check_updates_can_be_kept(PAYLOAD_BYTES_MAX)

    with pytest.raises(UsageError, match="smaller model"):
        check_updates_can_be_kept(PAYLOAD_BYTES_MAX + 1)


class Failing:
    """A network that cannot compute any more."""

    async def compute(self, work: Callable[[], object], cost: object) -> object:
        raise NetworkClosed("closed")


def test_whoever_waits_for_the_disk_hears_of_any_failure(tmp_path: Path) -> None:
    network: Any = Failing()
    writer = JournalWriter(tmp_path / "journal", network, before=lambda: None)

    async def main() -> list[object]:
        async with asyncio.timeout(10):
            return await asyncio.gather(*(writer.write([entry(n)]) for n in range(3)), return_exceptions=True)

    failures = asyncio.run(main())
    writer.abandon()

    assert [type(failure) for failure in failures] == [NetworkClosed] * 3
