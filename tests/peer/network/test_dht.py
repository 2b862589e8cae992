from __future__ import annotations

import pytest
from hivemind.dht.routing import DHTID

from gossamer.peer.network import RealNetwork
from gossamer.peer.network.dht import RecordStore, key_id
from gossamer.protocol.errors import InvalidMessage, MessageTooLarge
from gossamer.protocol.identity import Identity
from gossamer.protocol.network import MAX_RECORD_BYTES, Traffic
from gossamer.protocol.records import sign_record
from gossamer.tests.peer.network.fleet import RUN_ID, Fleet

IDENTITY = Identity(bytes(32))
KEY = f"{RUN_ID}/k"
NOW_S = 1e9


def store() -> RecordStore:
    return RecordStore(IDENTITY, RUN_ID, Traffic(), lambda: NOW_S)


def signed(sequence: int, *, key: str = KEY, expires_at_s: float = NOW_S + 60) -> bytes:
    return sign_record(IDENTITY, key, b"v", expires_at_s=expires_at_s, sequence=sequence)


def test_a_record_in_its_signers_place_is_admitted() -> None:
    assert store().admit(key_id(KEY), IDENTITY.peer_id, signed(1), NOW_S + 60)


@pytest.mark.parametrize(
    ("key", "subkey", "data", "expires_at_s"),
    [
        (KEY, Identity(bytes(31) + b"\x01").peer_id, signed(1), NOW_S + 60),
        (KEY, None, signed(1), NOW_S + 60),
        (KEY + "x", IDENTITY.peer_id, signed(1), NOW_S + 60),
        (KEY, IDENTITY.peer_id, signed(1), NOW_S + 61),
        (KEY, IDENTITY.peer_id, signed(1)[:-1] + b"x", NOW_S + 60),
        (KEY, IDENTITY.peer_id, b"", NOW_S + 60),
        (KEY, IDENTITY.peer_id, {"not": "bytes"}, NOW_S + 60),
        (KEY, IDENTITY.peer_id, signed(1, expires_at_s=NOW_S - 1), NOW_S - 1),
    ],
)
def test_a_record_in_the_wrong_place_or_forged_is_not(
    key: str, subkey: object, data: object, expires_at_s: float
) -> None:
    assert not store().admit(key_id(key), subkey, data, expires_at_s)


def test_an_older_record_does_not_come_back() -> None:
    records = store()

    assert records.admit(key_id(KEY), IDENTITY.peer_id, signed(2), NOW_S + 60)
    assert not records.admit(key_id(KEY), IDENTITY.peer_id, signed(1), NOW_S + 60)
    assert records.admit(key_id(KEY), IDENTITY.peer_id, signed(2), NOW_S + 60)


async def values(network: RealNetwork) -> list[bytes]:
    return [record.value for record in await network.lookup("k")]


async def test_a_later_record_replaces_one_that_would_have_lived_longer() -> None:
    async with Fleet() as fleet:
        a, b = await fleet.pair()

        await a.publish("k", b"long", ttl_s=600)
        before = await values(a), await values(b)
        await a.publish("k", b"short", ttl_s=60)

        assert before == ([b"long"], [b"long"])
        assert (await values(a), await values(b)) == ([b"short"], [b"short"])


async def test_one_bad_record_does_not_hide_the_others() -> None:
    async with Fleet() as fleet:
        a, b = await fleet.pair()
        await a.publish("k", b"good", ttl_s=60)
        for network in (a, b):
            held = network._records._node.protocol.storage.get(DHTID.generate(source=KEY))
            held.value.store(Identity.generate().peer_id, b"nonsense", a.unix_time_s() + 50)

        assert await values(b) == [b"good"]


async def test_a_lone_peer_finds_its_own_records_and_what_is_too_large_is_refused() -> None:
    async with Fleet() as fleet:
        a = await fleet.open()
        await a.publish("k", bytes(MAX_RECORD_BYTES), ttl_s=60)

        assert await values(a) == [bytes(MAX_RECORD_BYTES)]
        with pytest.raises(MessageTooLarge):
            await a.publish("k", bytes(MAX_RECORD_BYTES + 1), ttl_s=60)
        with pytest.raises(InvalidMessage, match="too long"):
            await a.lookup("k" * 256)
