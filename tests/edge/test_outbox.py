"""What a device has measured and not yet got rid of."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gossamer.edge.outbox import KEPT_MAX, LONG_KEPT_MAX, Outbox
from gossamer.protocol.devices import Submission, sign_submission
from gossamer.protocol.identity import Identity

DEVICE = Identity(b"device".ljust(32))


def submission(index: int) -> Submission:
    return Submission(round_index=index, slot=1, base=bytes(32), loss=0.5, scalars=bytes(8))


def add(outbox: Outbox, index: int) -> None:
    outbox.add(submission(index), sign_submission(DEVICE, "0" * 32, submission(index)))


def test_what_was_added_is_there_after_a_crash_until_it_is_answered_for(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", DEVICE.peer_id)
    add(outbox, 1)
    add(outbox, 2)

    again = Outbox(tmp_path / "outbox", DEVICE.peer_id)
    assert again.waiting == outbox.waiting
    assert again.find(2, 1, bytes(32)) == outbox.waiting[1]
    assert again.find(2, 0, bytes(32)) is None
    assert again.remove(1, 1)
    assert not again.remove(1, 1)
    assert len(Outbox(tmp_path / "outbox", DEVICE.peer_id)) == 1


def test_measuring_the_same_round_again_replaces_what_was_there(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", DEVICE.peer_id)

    add(outbox, 1)
    add(outbox, 1)

    assert len(outbox) == 1


def long_submission(index: int, content: bytes) -> Submission:
    digest = hashlib.sha256(content).digest()
    return Submission(round_index=index, slot=1, base=bytes(32), loss=0.5, digest=digest, length=len(content))


def add_long(outbox: Outbox, index: int, content: bytes) -> None:
    submission = long_submission(index, content)
    outbox.add(submission, sign_submission(DEVICE, "0" * 32, submission), content)


def test_long_answers_are_in_files_of_their_own_which_go_with_them(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", DEVICE.peer_id)
    for index in range(LONG_KEPT_MAX + 1):
        add_long(outbox, index, bytes([index]) * 5000)
    add_long(outbox, LONG_KEPT_MAX, b"again" * 1000)  # measured anew
    (tmp_path / "outbox.long" / "left-behind").write_bytes(b"by a crash")

    again = Outbox(tmp_path / "outbox", DEVICE.peer_id)
    assert [submission.round_index for submission, _ in again.waiting] == [1, 2]
    assert again.remove(1, 1)

    assert [path.read_bytes() for path in (tmp_path / "outbox.long").iterdir()] == [b"again" * 1000]
    assert (tmp_path / "outbox").stat().st_size < 1000


def test_answer_whose_file_is_gone_is_not_offered(tmp_path: Path) -> None:
    add_long(Outbox(tmp_path / "outbox", DEVICE.peer_id), 1, b"gone" * 1000)
    next((tmp_path / "outbox.long").iterdir()).unlink()

    assert len(Outbox(tmp_path / "outbox", DEVICE.peer_id)) == 0


def test_the_oldest_give_way(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", DEVICE.peer_id)

    for index in range(KEPT_MAX + 3):
        add(outbox, index)

    assert len(outbox) == KEPT_MAX
    assert outbox.find(2, 1, bytes(32)) is None


def test_damaged_file_is_begun_anew_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    path.write_bytes(b"\xff\xff")

    outbox = Outbox(path, DEVICE.peer_id)
    add(outbox, 1)

    assert len(Outbox(path, DEVICE.peer_id)) == 1
    assert path.stat().st_mode & 0o077 == 0
