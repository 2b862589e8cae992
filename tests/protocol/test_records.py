import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.protocol.errors import BadSignature, Expired, InvalidMessage, MessageTooLarge, NotAdmitted
from gossamer.protocol.identity import Identity
from gossamer.protocol.network import MAX_RECORD_BYTES
from gossamer.protocol.records import (
    DOMAIN,
    MAX_LIFETIME_S,
    Entry,
    RecordRules,
    check_record,
    newer,
    sign_record,
    signed_record_bytes,
)
from gossamer.protocol.records_pb2 import RecordBody, SignedRecord

ALICE = Identity(b"\x01" * 32)
BOB = Identity(b"\x02" * 32)
NOW_S = 1_800_000_000.0


def record(
    identity: Identity = ALICE, key: str = "peers", value: bytes = b"hello", ttl_s: float = 60.0, sequence: int = 1
) -> bytes:
    return sign_record(identity, key, value, expires_at_s=NOW_S + ttl_s, sequence=sequence)


def forged(**fields: object) -> bytes:
    """A record that is signed all right but breaks the rules that `sign_record` keeps."""
    body = RecordBody(key="peers", signer=ALICE.peer_id, expires_at_s=NOW_S + 60)
    for name, value in fields.items():
        setattr(body, name, value)
    data = body.SerializeToString()
    return SignedRecord(body=data, signature=ALICE.sign(DOMAIN, data)).SerializeToString()


def entry(data: bytes, *, key: str = "peers", identity: Identity = ALICE, ttl_s: float = 60.0) -> Entry:
    return Entry(key_id=key.encode(), signer=identity.peer_id, data=data, expires_at_s=NOW_S + ttl_s)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.binary(max_size=500),
    st.integers(0, 2**64 - 1),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_record_says_what_its_signer_said(key: str, value: bytes, sequence: int) -> None:
    data = sign_record(ALICE, key, value, expires_at_s=NOW_S + 60, sequence=sequence)

    checked = check_record(data, key=key, now_s=NOW_S)

    assert (checked.key, checked.value, checked.sequence) == (key, value, sequence)
    assert (checked.signer, checked.expires_at_s) == (ALICE.peer_id, NOW_S + 60)
    assert len(data) == signed_record_bytes(ALICE.peer_id, key, value, expires_at_s=NOW_S + 60, sequence=sequence)


def test_a_record_with_any_flipped_bit_is_refused() -> None:
    data = record()

    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidMessage):
            check_record(bytes(flipped), key="peers", now_s=NOW_S)


def test_a_record_cut_anywhere_is_refused() -> None:
    data = record()

    for length in range(len(data)):
        with pytest.raises(InvalidMessage):
            check_record(data[:length], key="peers", now_s=NOW_S)


def test_a_record_in_anothers_name_is_refused() -> None:
    with pytest.raises(BadSignature, match=BOB.peer_id):
        check_record(forged(signer=BOB.peer_id), key="peers", now_s=NOW_S)


def test_a_record_under_another_key_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="for the key 'peers' is kept under 'other'"):
        check_record(record(), key="other", now_s=NOW_S)


def test_a_record_expires() -> None:
    data = record(ttl_s=60)

    check_record(data, key="peers", now_s=NOW_S + 59.9)
    with pytest.raises(Expired, match=r"expired 0\.0 s ago"):
        check_record(data, key="peers", now_s=NOW_S + 60)


def test_a_record_that_would_stay_too_long_is_refused() -> None:
    check_record(record(ttl_s=MAX_LIFETIME_S), key="peers", now_s=NOW_S)
    with pytest.raises(InvalidMessage, match="at most 86400 are allowed"):
        check_record(record(ttl_s=MAX_LIFETIME_S + 1), key="peers", now_s=NOW_S)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"key": ""}, InvalidMessage),
        ({"key": "é" * 129}, InvalidMessage),
        ({"value": bytes(MAX_RECORD_BYTES + 1)}, MessageTooLarge),
        ({"value": bytes(10 * MAX_RECORD_BYTES)}, MessageTooLarge),
        ({"expires_at_s": math.nan}, InvalidMessage),
        ({"expires_at_s": math.inf}, InvalidMessage),
        ({"expires_at_s": -math.inf}, InvalidMessage),
        ({"signer": "nobody"}, InvalidMessage),
    ],
)
def test_a_signed_record_out_of_bounds_is_refused(fields: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        check_record(forged(**fields), key="peers", now_s=NOW_S)


def test_nobody_signs_a_record_that_others_would_refuse() -> None:
    with pytest.raises(MessageTooLarge):
        record(value=bytes(MAX_RECORD_BYTES + 1))
    with pytest.raises(InvalidMessage):
        record(key="")
    with pytest.raises(InvalidMessage):
        record(ttl_s=math.inf)
    with pytest.raises(InvalidMessage):
        record(sequence=-1)


def test_the_largest_record_passes() -> None:
    data = record(key="k" * 256, value=bytes(MAX_RECORD_BYTES), sequence=2**64 - 1)

    assert len(check_record(data, key="k" * 256, now_s=NOW_S).value) == MAX_RECORD_BYTES


def test_newer_is_a_strict_order_led_by_the_sequence() -> None:
    first, again, later = (
        check_record(data, key="peers", now_s=NOW_S)
        for data in (record(sequence=1, ttl_s=900), record(sequence=1, ttl_s=901), record(sequence=2, ttl_s=5))
    )

    assert newer(later, first)
    assert not newer(first, later)
    assert newer(again, first)
    assert not newer(first, first)


def test_an_older_record_does_not_come_back() -> None:
    rules = RecordRules()
    rules.admit(entry(record(sequence=2)), now_s=NOW_S)

    with pytest.raises(InvalidMessage, match=r"sequence 2, this one is 1"):
        rules.admit(entry(record(sequence=1)), now_s=NOW_S)

    assert rules.check(entry(record(sequence=1)), now_s=NOW_S).sequence == 1  # by itself it is in order
    assert rules.admit(entry(record(sequence=2)), now_s=NOW_S).value == b"hello"
    assert rules.admit(entry(record(sequence=3)), now_s=NOW_S).sequence == 3


def test_a_record_stays_in_its_place() -> None:
    rules = RecordRules()
    data = record()

    for misplaced in [
        entry(data, key="other"),
        entry(data, identity=BOB),
        entry(data, ttl_s=61),
        entry(data, ttl_s=59),
    ]:
        with pytest.raises(InvalidMessage):
            rules.check(misplaced, now_s=NOW_S)


def test_keys_may_be_known_by_their_hash() -> None:
    rules = RecordRules(key_id=lambda key: b"hash of " + key.encode())

    checked = rules.check(entry(record(), key="hash of peers"), now_s=NOW_S)

    assert checked.key == "peers"


def test_only_admitted_signers_publish() -> None:
    rules = RecordRules(admits=lambda peer: peer == ALICE.peer_id)

    rules.admit(entry(record()), now_s=NOW_S)
    with pytest.raises(NotAdmitted, match=BOB.peer_id):
        rules.admit(entry(record(BOB), identity=BOB), now_s=NOW_S)


def crowd(n: int) -> list[Identity]:
    return [Identity(bytes([i + 1]) * 32) for i in range(n)]


def test_a_key_holds_only_so_many_identities() -> None:
    rules = RecordRules(identities_max=3)
    *early, late = crowd(4)
    for identity in early:
        rules.admit(entry(record(identity), identity=identity), now_s=NOW_S)

    with pytest.raises(InvalidMessage, match="3 identities already"):
        rules.admit(entry(record(late), identity=late), now_s=NOW_S)

    rules.admit(entry(record(early[0], sequence=2), identity=early[0]), now_s=NOW_S)  # those inside may renew
    rules.admit(entry(record(late, key="other"), key="other", identity=late), now_s=NOW_S)


def test_places_become_free_when_records_expire() -> None:
    rules = RecordRules(identities_max=2)
    first, second, third = crowd(3)
    rules.admit(entry(record(first, ttl_s=10), identity=first, ttl_s=10), now_s=NOW_S)
    rules.admit(entry(record(second, ttl_s=60), identity=second), now_s=NOW_S)

    rules.admit(entry(record(third), identity=third), now_s=NOW_S + 10)

    with pytest.raises(InvalidMessage, match="2 identities"):
        rules.admit(entry(record(first, sequence=2), identity=first), now_s=NOW_S + 10)


def test_one_signer_cannot_fill_the_table() -> None:
    rules = RecordRules(keys_max=2)
    for key in ("a", "b"):
        rules.admit(entry(record(key=key), key=key), now_s=NOW_S)

    with pytest.raises(InvalidMessage, match="already publishes under 2 keys"):
        rules.admit(entry(record(key="c"), key="c"), now_s=NOW_S)


def test_the_table_is_bounded() -> None:
    rules = RecordRules(entries_max=2)
    first, second, third = crowd(3)
    for identity in (first, second):
        rules.admit(entry(record(identity), identity=identity), now_s=NOW_S)

    with pytest.raises(InvalidMessage, match="2 records are kept already"):
        rules.admit(entry(record(third), identity=third), now_s=NOW_S)
