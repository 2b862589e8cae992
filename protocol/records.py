"""Signed records that expire: what peers publish in the DHT, and what a DHT may keep.

A record is a value under (key, signer). Anybody may store and forward it, nobody but its signer can make one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from .errors import Expired, InvalidMessage, MessageTooLarge, NotAdmitted
from .identity import SIGNATURE_BYTES, Identity, PeerId, parse_peer_id, verify
from .network import MAX_RECORD_BYTES, Record
from .records_pb2 import RecordBody, SignedRecord
from .wire import parse

DOMAIN = "record"
MAX_KEY_BYTES = 256
MAX_LIFETIME_S = 24 * 3600.0
MAX_SIGNED_RECORD_BYTES = MAX_RECORD_BYTES + MAX_KEY_BYTES + 256
"""Longest result of `sign_record`: value, key, and room for signer, signature and field headers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedRecord(Record):
    """A record whose signature, key, bounds and expiry were right when it was checked."""

    sequence: int
    signature: bytes


def sign_record(identity: Identity, key: str, value: bytes, *, expires_at_s: float, sequence: int) -> bytes:
    """Make a record to publish.

    Args:
        expires_at_s: unix time, at most `MAX_LIFETIME_S` ahead when others check it.
        sequence: 0..2**64-1; must grow from one record to the next of this signer under this key.
    Raises: MessageTooLarge, InvalidMessage.
    """
    _check_bounds(key, value, expires_at_s, sequence)
    signer = identity.peer_id
    told = RecordBody(key=key, signer=signer, value=value, expires_at_s=expires_at_s, sequence=sequence)
    body = told.SerializeToString()
    return SignedRecord(body=body, signature=identity.sign(DOMAIN, body)).SerializeToString()


def signed_record_bytes(signer: PeerId, key: str, value: bytes, *, expires_at_s: float, sequence: int) -> int:
    """How long the result of `sign_record` is, without making it. Raises as it does."""
    _check_bounds(key, value, expires_at_s, sequence)
    n_bytes = _names_bytes(key, signer) + _field_bytes(len(value))
    n_bytes += (9 if expires_at_s else 0) + (1 + _varint_bytes(sequence) if sequence else 0)
    return _field_bytes(n_bytes) + _field_bytes(SIGNATURE_BYTES)


@lru_cache(maxsize=1 << 14)
def _names_bytes(key: str, signer: PeerId) -> int:
    return _field_bytes(len(key.encode())) + _field_bytes(len(signer.encode()))


def _field_bytes(length: int) -> int:
    """Of a protobuf field with so many bytes, which is left out if it is empty."""
    return 1 + _varint_bytes(length) + length if length else 0


def _varint_bytes(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))


def check_lifetime(ttl_s: float) -> None:
    """See that others will keep a record that is to live for so long from now. Raises InvalidMessage."""
    if not 0 < ttl_s <= MAX_LIFETIME_S:
        raise InvalidMessage(f"a record is to live for {ttl_s} s: give it more than 0 and at most {MAX_LIFETIME_S:.0f}")


def check_record(data: bytes, *, key: str, now_s: float) -> CheckedRecord:
    """Read a record that is said to be under `key`.

    Args:
        now_s: unix time.
    Raises: MessageTooLarge, BadSignature, Expired, InvalidMessage.
    """
    record = _verified(data)
    if record.key != key:
        raise InvalidMessage(
            f"a record of {record.signer} for the key {record.key!r} is kept under {key!r}: discard it"
        )
    _check_time(record, now_s)
    return record


def newer(a: CheckedRecord, b: CheckedRecord) -> bool:
    """Whether `a` replaces `b`, of the same signer and key. A total order, so that all replicas settle alike."""
    return _age(a) > _age(b)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A record as a DHT presents it to its validator: the bytes and the place they are meant for."""

    key_id: bytes
    """The key as the DHT knows it, often a hash."""
    signer: str
    """The subkey."""
    data: bytes
    expires_at_s: float
    """When the DHT itself forgets it; must equal what was signed."""


class RecordRules:
    """Decides what a DHT node stores and returns. Pure state: the caller brings the clock.

    `check` looks at one entry alone and fits records that others return. `admit` also holds it against all those
    admitted before, and fits records that others ask this node to store.
    """

    def __init__(
        self,
        *,
        key_id: Callable[[str], bytes] = str.encode,
        admits: Callable[[PeerId], bool] | None = None,
        identities_max: int = 4096,
        keys_max: int = 64,
        entries_max: int = 65_536,
    ) -> None:
        """Args:
        key_id: how the DHT names a key.
        admits: which signers may publish; None: all.
        identities_max: signers under one key.
        keys_max: keys of one signer.
        entries_max: (key, signer) pairs altogether; bounds the memory.
        """
        self._key_id = key_id
        self._admits = admits
        self._identities_max = identities_max
        self._keys_max = keys_max
        self._entries_max = entries_max
        self._newest: dict[tuple[bytes, PeerId], CheckedRecord] = {}
        self._signers_under: Counter[bytes] = Counter()
        self._keys_of: Counter[PeerId] = Counter()
        self._next_expiry_s = math.inf

    def check(self, entry: Entry, *, now_s: float) -> CheckedRecord:
        """Raises MessageTooLarge, BadSignature, Expired, NotAdmitted, InvalidMessage."""
        record = _verified(entry.data)
        if self._key_id(record.key) != entry.key_id or record.signer != entry.signer:
            raise InvalidMessage(
                f"a record of {record.signer} for {record.key!r} is kept in another's place: discard it"
            )
        if record.expires_at_s != entry.expires_at_s:
            raise InvalidMessage(f"a record of {record.signer} is kept past the time it was signed for: discard it")
        _check_time(record, now_s)
        if self._admits is not None and not self._admits(record.signer):
            raise NotAdmitted(f"{record.signer} is not admitted and published {record.key!r}: it needs a ticket")
        return record

    def admit(self, entry: Entry, *, now_s: float) -> CheckedRecord:
        """As `check`; also refuses a record older than the signer's last, and more identities than there may be.

        The record last admitted is admitted again: nodes store the same record more than once.
        """
        record = self.check(entry, now_s=now_s)
        place = (entry.key_id, record.signer)
        last = self._newest.get(place)
        if last is not None and newer(last, record):
            raise InvalidMessage(
                f"{record.signer} published {record.key!r} again since (sequence {last.sequence}, this one is "
                f"{record.sequence}): discard the older"
            )
        if last is None:
            self._make_room(place, now_s)
            self._signers_under[entry.key_id] += 1
            self._keys_of[record.signer] += 1
        # Only the order matters from here on, so the value's bytes need not stay in memory.
        self._newest[place] = replace(record, value=b"")
        self._next_expiry_s = min(self._next_expiry_s, record.expires_at_s)
        return record

    def _make_room(self, place: tuple[bytes, PeerId], now_s: float) -> None:
        reason = self._full(place)
        if reason and now_s >= self._next_expiry_s:
            self._forget_expired(now_s)
            reason = self._full(place)
        if reason:
            raise InvalidMessage(f"no room for a record of {place[1]}: {reason}; try again when some have expired")

    def _full(self, place: tuple[bytes, PeerId]) -> str:
        key_id, signer = place
        if self._signers_under[key_id] >= self._identities_max:
            return f"{self._identities_max} identities already publish under its key"
        if self._keys_of[signer] >= self._keys_max:
            return f"it already publishes under {self._keys_max} keys"
        if len(self._newest) >= self._entries_max:
            return f"{self._entries_max} records are kept already"
        return ""

    def _forget_expired(self, now_s: float) -> None:
        self._newest = {place: last for place, last in self._newest.items() if last.expires_at_s > now_s}
        self._signers_under = Counter(key_id for key_id, _ in self._newest)
        self._keys_of = Counter(signer for _, signer in self._newest)
        self._next_expiry_s = min((last.expires_at_s for last in self._newest.values()), default=math.inf)


def _verified(data: bytes) -> CheckedRecord:
    signed = parse(SignedRecord, data, bytes_max=MAX_SIGNED_RECORD_BYTES, what="a record")
    body = parse(RecordBody, signed.body, bytes_max=MAX_SIGNED_RECORD_BYTES, what="a record's body")
    signer = parse_peer_id(body.signer)
    _check_bounds(body.key, body.value, body.expires_at_s)
    verify(signer, DOMAIN, signed.body, signed.signature)
    return CheckedRecord(
        key=body.key,
        signer=signer,
        value=body.value,
        expires_at_s=body.expires_at_s,
        sequence=body.sequence,
        signature=signed.signature,
    )


def _check_bounds(key: str, value: bytes, expires_at_s: float, sequence: int = 0) -> None:
    if not 0 < len(key.encode()) <= MAX_KEY_BYTES:
        raise InvalidMessage(f"a record's key has {len(key.encode())} bytes: use 1..{MAX_KEY_BYTES}")
    if len(value) > MAX_RECORD_BYTES:
        raise MessageTooLarge(f"a record's value has {len(value)} bytes: {MAX_RECORD_BYTES} are allowed")
    if not math.isfinite(expires_at_s):
        raise InvalidMessage(f"a record expires at {expires_at_s}: use a unix time")
    if not 0 <= sequence < 1 << 64:
        raise InvalidMessage(f"the record {key!r} has sequence {sequence}: use one in 0..2**64-1")


def _check_time(record: CheckedRecord, now_s: float) -> None:
    left_s = record.expires_at_s - now_s
    if left_s <= 0:
        raise Expired(
            f"a record of {record.signer} expired {abs(left_s):.1f} s ago: it must publish again, or its clock is wrong"
        )
    if left_s > MAX_LIFETIME_S:
        raise InvalidMessage(
            f"a record of {record.signer} expires in {left_s:.0f} s, at most {MAX_LIFETIME_S:.0f} are allowed: "
            "discard it, and compare clocks"
        )


def _age(record: CheckedRecord) -> tuple[int, float, bytes]:
    return record.sequence, record.expires_at_s, record.signature
