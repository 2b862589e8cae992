"""Secure sums on the wire: keys that devices sign, shares that the gateway hands on, all bounded and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .edge_pb2 import SlotBytes, SumKeys, SumRoster
from .errors import InvalidMessage
from .identity import Identity, PeerId, peer_id_of, public_key_of, verify

DOMAIN = "sum-keys"
KEY_BYTES = 32
DEVICES_MAX = 512
"""Of one sum: every device holds a share of every other."""
SEALED_BYTES_MAX = 128


def sign_keys(
    identity: Identity, run_id: str, base: bytes, *, attempt: int, slot: int, keys: tuple[bytes, bytes, bytes]
) -> SumKeys:
    """Args: keys: channel, mask, seed digest; 32 bytes each."""
    channel, mask, seed_digest = keys
    message = SumKeys(attempt=attempt, slot=slot, channel=channel, mask=mask, seed_digest=seed_digest)
    message.signature = identity.sign(DOMAIN, _signed(run_id, base, identity.peer_id, message))
    return message


def check_keys(message: SumKeys, *, run_id: str, base: bytes, device: PeerId, attempt: int) -> None:
    """Raises InvalidMessage, BadSignature unless `device` published these keys for this attempt."""
    lengths = {len(message.channel), len(message.mask), len(message.seed_digest)}
    if lengths != {KEY_BYTES} or message.attempt != attempt or message.slot >= DEVICES_MAX:
        raise InvalidMessage(f"{device} publishes keys that are none, or for another sum: discard them")
    verify(device, DOMAIN, _signed(run_id, base, device, message), message.signature)


def roster_message(attempt: int, members: Iterable[tuple[PeerId, SumKeys]]) -> SumRoster:
    """Everybody's keys."""
    listed = list(members)
    return SumRoster(
        attempt=attempt,
        devices=[public_key_of(device) for device, _ in listed],
        keys=[keys for _, keys in listed],
    )


def read_roster(message: SumRoster, *, run_id: str, base: bytes, attempt: int) -> dict[int, tuple[PeerId, SumKeys]]:
    """Slot -> device and its keys, every signature checked. Raises InvalidMessage, BadSignature."""
    if message.attempt != attempt or not 1 <= len(message.keys) <= DEVICES_MAX:
        raise InvalidMessage(f"a roster of {len(message.keys)} for another sum, or of too many: discard it")
    if len(message.devices) != len(message.keys) or any(len(key) != KEY_BYTES for key in message.devices):
        raise InvalidMessage("a roster with more keys than devices, or fewer: discard it")
    members: dict[int, tuple[PeerId, SumKeys]] = {}
    for public, keys in zip(message.devices, message.keys, strict=True):
        device = peer_id_of(public)
        check_keys(keys, run_id=run_id, base=base, device=device, attempt=attempt)
        members[keys.slot] = (device, keys)
    if len(members) != len(message.keys) or len({device for device, _ in members.values()}) != len(members):
        raise InvalidMessage("a roster names a device or a slot twice: discard it")
    return members


def slots_to_wire(items: Mapping[int, bytes]) -> list[SlotBytes]:
    return [SlotBytes(slot=slot, data=items[slot]) for slot in sorted(items)]


def slots_from_wire(items: Sequence[SlotBytes]) -> dict[int, bytes]:
    """Raises InvalidMessage for too many, too long or twice the same."""
    if len(items) > DEVICES_MAX or any(len(item.data) > SEALED_BYTES_MAX for item in items):
        raise InvalidMessage(f"{len(items)} shares, or some that are too long: discard them")
    found = {item.slot: item.data for item in items}
    if len(found) != len(items):
        raise InvalidMessage("two shares for one slot: discard them")
    return found


def _signed(run_id: str, base: bytes, device: PeerId, keys: SumKeys) -> bytes:
    head = f"{run_id}/{device}/{keys.attempt}/{keys.slot}/".encode()
    return head + base + keys.channel + keys.mask + keys.seed_digest
