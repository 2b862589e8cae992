"""Long answers on a gateway's disk: pieces, digests, and what a crash leaves."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from gossamer.peer.gateway.spool import Spool
from gossamer.protocol.errors import ChecksumMismatch, DiskFull, InvalidMessage, StateError

CONTENT = bytes(range(256)) * 10
DIGEST = hashlib.sha256(CONTENT).digest()


def spool_with(folder: Path, *names: str) -> Spool:
    spool = Spool(folder)
    for name in names:
        spool.write(name, 0, CONTENT)
        spool.complete(name, DIGEST, len(CONTENT))
    return spool


def test_answer_is_there_when_all_of_it_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    spool.write("a", 0, CONTENT[:1000])
    assert (spool.received("a"), spool.has("a")) == (1000, False)
    spool.write("a", 0, CONTENT[:1000])  # a stream that broke off may still write what a newer one has written
    spool.write("a", 1000, CONTENT[1000:])
    spool.complete("a", DIGEST, len(CONTENT))

    assert spool.has("a")
    assert bytes(spool.view("a")) == CONTENT
    assert Spool(tmp_path).has("a")


def test_other_bytes_or_fewer_than_were_announced_are_no_answer(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    spool.write("a", 0, CONTENT[:-1])
    with pytest.raises(InvalidMessage, match="ended before"):
        spool.complete("a", DIGEST, len(CONTENT))
    spool.write("a", len(CONTENT) - 1, b"x")
    with pytest.raises(ChecksumMismatch):
        spool.complete("a", DIGEST, len(CONTENT))

    assert not spool.has("a")
    assert spool.received("a") == 0


def test_view_outlives_its_file(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, "a")
    view = spool.view("a")

    spool.keep_only([])

    assert list(tmp_path.iterdir()) == []
    assert bytes(view) == CONTENT


def test_only_what_is_wanted_stays(tmp_path: Path) -> None:
    spool = spool_with(tmp_path, "a", "b")
    for name in ("c", "d"):
        spool.write(name, 0, CONTENT)

    spool.keep_only(["a"])
    spool.keep_parts(["c"])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c.part"]


def test_crash_leaves_no_parts(tmp_path: Path) -> None:
    spool_with(tmp_path, "a").write("b", 0, CONTENT)

    again = Spool(tmp_path)

    assert (again.has("a"), again.received("b")) == (True, 0)


def test_full_disk_is_an_error_of_ours(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "a.part").symlink_to("/dev/full")

    with pytest.raises((DiskFull, StateError), match="cannot keep"):
        spool.write("a", 0, CONTENT)


def test_sync_that_fails_is_made_up_for_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, synced = spool_with(tmp_path, "a", "b"), list[str]()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="full"):
        spool.sync()
    monkeypatch.setattr(os, "fsync", note)
    spool.sync()
    spool.sync()

    assert synced == ["a", "b", tmp_path.name]
