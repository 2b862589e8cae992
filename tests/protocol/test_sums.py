"""Keys and shares of secure sums, as they come from outside."""

from __future__ import annotations

import hashlib

import pytest

from gossamer.protocol.edge_pb2 import SlotBytes, SumKeys
from gossamer.protocol.errors import BadSignature, InvalidMessage
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.sums import (
    DEVICES_MAX,
    SEALED_BYTES_MAX,
    check_keys,
    read_roster,
    roster_message,
    sign_keys,
    slots_from_wire,
    slots_to_wire,
)

RUN_ID, BASE = "0" * 32, bytes(32)
DEVICES = [Identity(hashlib.sha256(bytes([number])).digest()) for number in range(3)]


def keys_of(number: int, *, attempt: int = 7, slot: int | None = None) -> SumKeys:
    keys = (bytes([number + 9]) * 32, bytes([number + 1]) * 32, bytes([number + 2]) * 32)
    slot = number if slot is None else slot
    return sign_keys(DEVICES[number], RUN_ID, BASE, attempt=attempt, slot=slot, keys=keys)


def members(*keys: SumKeys) -> list[tuple[PeerId, SumKeys]]:
    return [(DEVICES[number].peer_id, one) for number, one in enumerate(keys)]


def test_roster_comes_back_as_it_was_sent() -> None:
    sent = members(*(keys_of(number) for number in range(3)))

    read = read_roster(roster_message(7, sent), run_id=RUN_ID, base=BASE, attempt=7)

    assert read == dict(enumerate(sent))


def test_keys_of_another_device_attempt_state_or_run_are_refused() -> None:
    keys, device = keys_of(0), DEVICES[0].peer_id
    check_keys(keys, run_id=RUN_ID, base=BASE, device=device, attempt=7)

    with pytest.raises(InvalidMessage, match="another sum"):
        check_keys(keys, run_id=RUN_ID, base=BASE, device=device, attempt=8)
    for changed in (
        {"run_id": "1" * 32, "base": BASE, "device": device},
        {"run_id": RUN_ID, "base": bytes([1]) * 32, "device": device},
        {"run_id": RUN_ID, "base": BASE, "device": DEVICES[1].peer_id},
    ):
        with pytest.raises(BadSignature):
            check_keys(keys, attempt=7, **changed)  # type: ignore[arg-type]  # a table of cases


@pytest.mark.parametrize("field", ["channel", "mask", "seed_digest"])
def test_exchanged_keys_are_noticed(field: str) -> None:
    keys = keys_of(0)
    setattr(keys, field, bytes(32))

    with pytest.raises(BadSignature):
        check_keys(keys, run_id=RUN_ID, base=BASE, device=DEVICES[0].peer_id, attempt=7)


def test_slot_that_is_taken_twice_is_refused() -> None:
    message = roster_message(7, members(keys_of(0), keys_of(1, slot=0)))

    with pytest.raises(InvalidMessage, match="twice"):
        read_roster(message, run_id=RUN_ID, base=BASE, attempt=7)


def test_roster_of_more_keys_than_devices_is_refused() -> None:
    message = roster_message(7, members(keys_of(0), keys_of(1)))
    del message.devices[1]

    with pytest.raises(InvalidMessage, match="more keys"):
        read_roster(message, run_id=RUN_ID, base=BASE, attempt=7)


def test_shares_are_bounded_in_number_and_length() -> None:
    shares = {2: b"b", 0: b"a"}

    assert slots_from_wire(slots_to_wire(shares)) == shares
    for spoilt in (
        [SlotBytes(slot=1, data=b"x"), SlotBytes(slot=1, data=b"y")],
        [SlotBytes(slot=1, data=bytes(SEALED_BYTES_MAX + 1))],
        [SlotBytes(slot=slot) for slot in range(DEVICES_MAX + 1)],
    ):
        with pytest.raises(InvalidMessage):
            slots_from_wire(spoilt)
