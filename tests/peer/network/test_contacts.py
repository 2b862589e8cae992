from __future__ import annotations

import dataclasses

import pytest

from gossamer.peer.network.addresses import parse_address
from gossamer.peer.network.contacts import Contact, ContactBook, contact_key, decode_contact
from gossamer.protocol.errors import BadSignature, InvalidMessage
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.records import CheckedRecord, sign_record
from gossamer.protocol.transport_pb2 import Contact as ContactMessage

IDENTITY = Identity(bytes(32))
OTHER = Identity(bytes(31) + b"\x01")
PEER = IDENTITY.peer_id
NOW_S = 1e9
CONTACT = Contact(
    peer=PEER,
    host="10.0.0.1",
    grpc_port=4002,
    certificate=b"der",
    addresses=(parse_address(f"/ip4/10.0.0.1/tcp/4001/p2p/{PEER}"),),
    dialable=True,
)


def signed(contact: Contact, sequence: int, *, by: Identity = IDENTITY) -> bytes:
    key = f"r/{contact_key(PEER)}"
    return sign_record(by, key, contact.encode(), expires_at_s=NOW_S + 60, sequence=sequence)


async def nothing(key: str) -> list[CheckedRecord]:
    return []


def test_a_contact_survives_the_wire() -> None:
    assert decode_contact(PEER, CONTACT.encode()) == CONTACT


@pytest.mark.parametrize(
    "message",
    [
        ContactMessage(host="a/b", grpc_port=1),
        ContactMessage(host="h" * 300, grpc_port=1),
        ContactMessage(host="h", grpc_port=65536),
        ContactMessage(host="h", certificate=bytes(4096)),
        ContactMessage(host="h", multiaddrs=["/ip4/1.2.3.4/tcp/1"]),
        ContactMessage(host="h", multiaddrs=[f"/ip4/1.2.3.4/tcp/1/p2p/{OTHER.peer_id}"]),
        ContactMessage(host="h", multiaddrs=[f"/ip4/1.2.3.4/tcp/{port}/p2p/{PEER}" for port in range(1, 18)]),
    ],
)
def test_a_contact_that_breaks_a_rule_is_refused(message: ContactMessage) -> None:
    with pytest.raises(InvalidMessage):
        decode_contact(PEER, message.SerializeToString())


def test_the_newest_contact_counts_in_whatever_order_they_come() -> None:
    book = ContactBook("r", nothing)
    moved = dataclasses.replace(CONTACT, grpc_port=5000)
    new: list[Contact] = []
    book.on_new = new.append

    for contact, sequence in ((CONTACT, 1), (moved, 3), (CONTACT, 2)):
        book.learn(PEER, signed(contact, sequence), now_s=NOW_S)

    assert book.get(PEER) == moved
    assert new == [CONTACT, moved]


def test_a_contact_handed_over_for_somebody_else_is_refused() -> None:
    book = ContactBook("r", nothing)

    with pytest.raises(InvalidMessage):
        book.learn(PEER, signed(CONTACT, 1, by=OTHER), now_s=NOW_S)
    with pytest.raises(BadSignature):
        book.learn(PEER, signed(CONTACT, 1)[:-1] + b"x", now_s=NOW_S)
    assert book.get(PEER) is None


async def test_what_is_known_is_not_looked_up_again_unless_asked() -> None:
    asked: list[str] = []

    async def look_up(key: str) -> list[CheckedRecord]:
        asked.append(key)
        return []

    book = ContactBook("r", look_up)
    book.learn(PEER, signed(CONTACT, 1), now_s=NOW_S)

    assert await book.resolve(PEER) == CONTACT
    assert asked == []
    assert await book.resolve(PEER, fresh=True) == CONTACT
    assert asked == [contact_key(PeerId(PEER))]
