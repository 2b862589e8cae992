"""Enrolment tokens and key rotations."""

from __future__ import annotations

import dataclasses

import pytest

from gossamer.protocol.enrolment import Token, check_request, check_rotation, parse_token, rotation_request
from gossamer.protocol.errors import BadSignature, InvalidMessage, UsageError
from gossamer.protocol.identity import Identity

RUN_ID = "0123456789abcdef" * 2
GATEWAY, DEVICE, OTHER = (Identity(name.ljust(32)) for name in (b"gateway", b"device", b"other"))
TOKEN = Token(run_id=RUN_ID, gateway=GATEWAY.peer_id, certificate_hash=bytes(range(32)), secret=b"s" * 32)


def test_line_carries_all_that_a_device_needs() -> None:
    assert parse_token(TOKEN.line()) == TOKEN
    assert parse_token(" \n".join([TOKEN.line()[:40], TOKEN.line()[40:]])) == TOKEN
    assert "s" * 8 not in repr(TOKEN)


@pytest.mark.parametrize(
    "line",
    ["", "gossamer1:abc", "gossamer-edge1:", TOKEN.line()[:-5], TOKEN.line()[:-1] + "!", TOKEN.line() + "A" * 400],
)
def test_line_that_was_not_copied_whole_is_refused_in_words(line: str) -> None:
    with pytest.raises(UsageError, match=r"token"):
        parse_token(line)


def test_changed_character_is_noticed() -> None:
    line = TOKEN.line()
    changed = line[:30] + ("A" if line[30] != "A" else "B") + line[31:]

    with pytest.raises(UsageError, match="damaged"):
        parse_token(changed)


def test_request_serves_one_device_at_one_gateway_in_one_run() -> None:
    request = TOKEN.request(DEVICE.peer_id)

    assert check_request(request, run_id=RUN_ID, gateway=GATEWAY.peer_id, device=DEVICE.peer_id) == TOKEN.name
    with pytest.raises(BadSignature):
        check_request(request, run_id=RUN_ID, gateway=GATEWAY.peer_id, device=OTHER.peer_id)
    with pytest.raises(BadSignature):
        check_request(request, run_id=RUN_ID, gateway=OTHER.peer_id, device=DEVICE.peer_id)
    with pytest.raises(BadSignature):
        check_request(request, run_id="f" * 32, gateway=GATEWAY.peer_id, device=DEVICE.peer_id)


@pytest.mark.parametrize("data", [b"\xff", b"", b"x" * 600])
def test_request_that_is_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        check_request(data, run_id=RUN_ID, gateway=GATEWAY.peer_id, device=DEVICE.peer_id)


def test_fields_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(InvalidMessage):
        dataclasses.replace(TOKEN, secret=b"short")
    with pytest.raises(InvalidMessage):
        dataclasses.replace(TOKEN, run_id="abc")


def test_rotation_is_signed_by_the_new_key_for_the_old_one() -> None:
    request = rotation_request(OTHER, run_id=RUN_ID, gateway=GATEWAY.peer_id, old=DEVICE.peer_id)

    assert check_rotation(request, run_id=RUN_ID, gateway=GATEWAY.peer_id, old=DEVICE.peer_id) == OTHER.peer_id
    with pytest.raises(BadSignature):
        check_rotation(request, run_id=RUN_ID, gateway=GATEWAY.peer_id, old=GATEWAY.peer_id)
