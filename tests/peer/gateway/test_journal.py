"""The journal after a crash at any byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.peer.gateway.journal import Journal
from gossamer.protocol.edge_pb2 import Accepted, JournalEntry


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
