"""One device's stream."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gossamer.peer.gateway.attendance import Attendance, Hall
from gossamer.protocol.edge_pb2 import Downlink, Hello, Signed, SumRoster, Uplink
from gossamer.protocol.errors import InvalidMessage, RemoteFailure
from gossamer.protocol.identity import Identity

DEVICE = Identity(b"device".ljust(32)).peer_id


async def words(hello: Hello) -> AsyncIterator[bytes]:
    yield Uplink(hello=hello).SerializeToString()
    yield Uplink(submission=Signed()).SerializeToString()


async def fail(attendance: Attendance, signed: Signed) -> None:
    raise ZeroDivisionError("a bug")


def hall_with_a_bug() -> Hall:
    return Hall(
        heartbeat_s=1e6, on_submission=fail, on_abandonment=lambda attendance, word: None, on_change=lambda: None
    )


async def test_device_hears_that_its_gateway_failed_and_is_not_left_unheard(caplog: pytest.LogCaptureFixture) -> None:
    hall = hall_with_a_bug()

    with pytest.raises(RemoteFailure):
        async for _ in hall.attend(DEVICE, words(Hello())):
            pass

    assert "ZeroDivisionError" in caplog.text
    assert not hall.present


async def test_device_whose_digest_is_none_is_not_admitted() -> None:
    hall = hall_with_a_bug()

    with pytest.raises(InvalidMessage, match="1000 bytes"):
        async for _ in hall.attend(DEVICE, words(Hello(digest=bytes(1000)))):
            pass

    assert not hall.present


async def test_device_that_does_not_read_is_parted_with_before_it_costs_much() -> None:
    attendance = Attendance(DEVICE)
    word = Downlink(sum_roster=SumRoster(devices=[bytes(1 << 20)]))

    n_sent = 0
    while not attendance.over:
        attendance.send(word)
        n_sent += 1

    assert n_sent <= 6
    with pytest.raises(InvalidMessage, match="does not read"):
        async for _ in attendance.outgoing(1e6):
            pass
