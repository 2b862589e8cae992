"""Who is enrolled, across restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.peer.gateway.book import ROTATE_EVERY_S, Book, issue_token, revoke
from gossamer.protocol.enrolment import Token, rotation_request
from gossamer.protocol.errors import Expired, InvalidMessage, NotAdmitted, StateError
from gossamer.protocol.identity import Identity, PeerId

RUN_ID = "0" * 32
GATEWAY, ONE, TWO, THREE = (Identity(name.ljust(32)) for name in (b"gateway", b"one", b"two", b"three"))


def open_book(folder: Path) -> Book:
    return Book(folder, run_id=RUN_ID, gateway=GATEWAY.peer_id)


def issued(folder: Path, number: int, *, expires_at_s: float = 100.0) -> Token:
    token = Token(run_id=RUN_ID, gateway=GATEWAY.peer_id, certificate_hash=bytes(32), secret=bytes([number]) * 32)
    issue_token(folder, token, expires_at_s=expires_at_s)
    return token


def enrol(folder: Path, token: Token, device: PeerId, *, now_s: float = 50.0) -> Book:
    book = open_book(folder)
    book.enrol(token.request(device), device=device, now_s=now_s)
    return book


def test_nobody_is_enrolled_without_a_token(tmp_path: Path) -> None:
    assert not open_book(tmp_path).is_enrolled(ONE.peer_id)


def test_token_serves_once_and_the_same_device_again_also_after_a_restart(tmp_path: Path) -> None:
    token = issued(tmp_path, 1)

    enrol(tmp_path, token, ONE.peer_id)
    enrol(tmp_path, token, ONE.peer_id, now_s=1000.0)
    with pytest.raises(NotAdmitted, match="another device"):
        enrol(tmp_path, token, TWO.peer_id)

    assert open_book(tmp_path).devices == [ONE.peer_id]
    assert not list((tmp_path / "tokens").iterdir())


def test_second_token_for_an_enrolled_device_is_not_used_up(tmp_path: Path) -> None:
    enrol(tmp_path, issued(tmp_path, 1), ONE.peer_id)
    second = issued(tmp_path, 2)

    enrol(tmp_path, second, ONE.peer_id)
    enrol(tmp_path, second, TWO.peer_id)

    assert open_book(tmp_path).devices == sorted([ONE.peer_id, TWO.peer_id])


def test_token_past_its_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Expired):
        enrol(tmp_path, issued(tmp_path, 1, expires_at_s=49.0), ONE.peer_id)


def test_revoked_device_stays_out(tmp_path: Path) -> None:
    book = enrol(tmp_path, issued(tmp_path, 1), ONE.peer_id)

    revoke(tmp_path, ONE.peer_id)
    book.refresh()

    assert not book.is_enrolled(ONE.peer_id)
    assert not open_book(tmp_path).is_enrolled(ONE.peer_id)
    with pytest.raises(NotAdmitted, match="revoked"):
        enrol(tmp_path, issued(tmp_path, 2), ONE.peer_id)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "12D3KooW"])
def test_only_devices_can_be_revoked(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidMessage):
        revoke(tmp_path, name)


def test_new_key_takes_the_old_ones_place_and_no_other(tmp_path: Path) -> None:
    book = enrol(tmp_path, issued(tmp_path, 1), ONE.peer_id)
    request = rotation_request(TWO, run_id=RUN_ID, gateway=GATEWAY.peer_id, old=ONE.peer_id)

    assert book.rotate(request, device=ONE.peer_id, now_s=60.0) == TWO.peer_id
    assert open_book(tmp_path).rotate(request, device=ONE.peer_id, now_s=70.0) == TWO.peer_id

    assert open_book(tmp_path).devices == [TWO.peer_id]
    another = rotation_request(THREE, run_id=RUN_ID, gateway=GATEWAY.peer_id, old=ONE.peer_id)
    with pytest.raises(NotAdmitted):
        open_book(tmp_path).rotate(another, device=ONE.peer_id, now_s=70.0)


def test_key_changes_once_a_day_and_never_back(tmp_path: Path) -> None:
    enrol(tmp_path, issued(tmp_path, 1), ONE.peer_id)

    def rotate(old: Identity, new: Identity, now_s: float) -> PeerId:
        request = rotation_request(new, run_id=RUN_ID, gateway=GATEWAY.peer_id, old=old.peer_id)
        return open_book(tmp_path).rotate(request, device=old.peer_id, now_s=now_s)

    rotate(ONE, TWO, 1000.0)
    with pytest.raises(NotAdmitted, match="a day ago"):
        rotate(TWO, THREE, 1000.0 + ROTATE_EVERY_S - 1)
    with pytest.raises(NotAdmitted, match="fresh key"):
        rotate(TWO, ONE, 1000.0 + ROTATE_EVERY_S)
    rotate(TWO, THREE, 1000.0 + ROTATE_EVERY_S)

    assert {open_book(tmp_path).holder(one.peer_id) for one in (ONE, TWO, THREE)} == {THREE.peer_id}


def test_damaged_book_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    enrol(tmp_path, issued(tmp_path, 1), ONE.peer_id)
    (tmp_path / "devices.json").write_text('{"version": 1, "tokens": {"x": "y"}}')

    with pytest.raises(StateError, match="damaged"):
        open_book(tmp_path)


def test_book_is_for_its_owners_eyes(tmp_path: Path) -> None:
    token = issued(tmp_path, 1)
    assert (tmp_path / "tokens" / f"{token.name}.json").stat().st_mode & 0o077 == 0

    enrol(tmp_path, token, ONE.peer_id)

    assert (tmp_path / "devices.json").stat().st_mode & 0o077 == 0
