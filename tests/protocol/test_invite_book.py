import json
import math

import pytest

from gossamer.protocol.admission import Admission, Role
from gossamer.protocol.errors import BadSignature, Expired, InvalidMessage, NotAdmitted, StateError
from gossamer.protocol.identity import Identity
from gossamer.protocol.invite_book import InviteBook
from gossamer.protocol.invites import Invite

OWNER = Identity(b"\x01" * 32)
PEER = Identity(b"\x02" * 32).peer_id
THIEF = Identity(b"\x03" * 32).peer_id
RUN = "0123456789abcdef" * 2
NOW_S = 1_800_000_000.0
ADMISSION = Admission("ticket", OWNER.peer_id, RUN)


def invite(secret: int = 7, run_id: str = RUN) -> Invite:
    addresses = (f"/ip4/192.0.2.1/tcp/4001/p2p/{OWNER.peer_id}",)
    return Invite(run_id=run_id, owner=OWNER.peer_id, addresses=addresses, secret=bytes([secret]) * 32)


def book_with(*secrets: int, role: Role = "peer", lifetime_s: float = 1000.0) -> InviteBook:
    book = InviteBook(RUN)
    for secret in secrets:
        book.issue(invite(secret), now_s=NOW_S, expires_at_s=NOW_S + 60, role=role, ticket_lifetime_s=lifetime_s)
    return book


def test_an_invite_is_redeemed_for_a_ticket() -> None:
    book = book_with(7, role="device")

    data = book.redeem(invite().redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S + 5)

    ticket = ADMISSION.check_ticket(data, peer=PEER, now_s=NOW_S + 5)
    assert (ticket.role, ticket.expires_at_s, ticket.serial) == ("device", NOW_S + 1005, 1)


def test_the_same_peer_gets_the_same_ticket_again() -> None:
    book = book_with(7)
    request = invite().redemption(PEER)

    first = book.redeem(request, peer=PEER, owner=OWNER, now_s=NOW_S)
    again = book.redeem(request, peer=PEER, owner=OWNER, now_s=NOW_S + 500)  # the invite itself is over by now

    assert first == again


def test_an_invite_serves_one_peer_only() -> None:
    book = book_with(7)
    book.redeem(invite().redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S)

    with pytest.raises(NotAdmitted, match="redeemed by another peer"):
        book.redeem(invite().redemption(THIEF), peer=THIEF, owner=OWNER, now_s=NOW_S)


def test_a_redemption_that_was_overheard_is_worthless() -> None:
    book = book_with(7)

    with pytest.raises(BadSignature):
        book.redeem(invite().redemption(PEER), peer=THIEF, owner=OWNER, now_s=NOW_S)

    book.redeem(invite().redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S)


def test_a_wrong_secret_is_refused() -> None:
    with pytest.raises(NotAdmitted, match="never issued"):
        book_with(7).redeem(invite(8).redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S)


def test_an_invite_for_another_run_is_refused() -> None:
    other = invite(run_id="f" * 32)

    with pytest.raises(BadSignature):
        book_with(7).redeem(other.redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S)
    with pytest.raises(InvalidMessage, match="use the right book"):
        InviteBook(RUN).issue(other, now_s=NOW_S, expires_at_s=NOW_S + 60)


def test_an_invite_expires() -> None:
    with pytest.raises(Expired, match="expired 0 s ago"):
        book_with(7).redeem(invite().redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S + 60)


def test_a_ticket_that_has_expired_is_not_handed_out_again() -> None:
    book = book_with(7, lifetime_s=10)
    book.redeem(invite().redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S)

    with pytest.raises(Expired):
        book.redeem(invite().redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S + 10)


def test_a_redemption_with_any_flipped_bit_is_refused() -> None:
    book = book_with(7)
    request = invite().redemption(PEER)

    for bit in range(8 * len(request)):
        flipped = bytearray(request)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InvalidMessage, NotAdmitted)):
            book.redeem(bytes(flipped), peer=PEER, owner=OWNER, now_s=NOW_S)

    assert '"peer": null' in book.to_json()


def test_a_book_survives_on_disk() -> None:
    book = book_with(7, 8)
    ticket = book.redeem(invite(7).redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S)

    read = InviteBook.from_json(book.to_json())

    assert read.to_json() == book.to_json()
    assert read.redeem(invite(7).redemption(PEER), peer=PEER, owner=OWNER, now_s=NOW_S) == ticket
    second = read.redeem(invite(8).redemption(THIEF), peer=THIEF, owner=OWNER, now_s=NOW_S)
    assert ADMISSION.check_ticket(second, peer=THIEF, now_s=NOW_S).serial == 2


def test_a_book_does_not_give_the_secrets_away() -> None:
    text = book_with(7).to_json()

    assert invite(7).secret.hex() not in text
    assert invite(7).name in text


def test_a_book_forgets_what_is_over_when_it_grows() -> None:
    book = book_with(7)

    book.issue(invite(8), now_s=NOW_S + 60, expires_at_s=NOW_S + 120)

    assert list(json.loads(book.to_json())["invites"]) == [invite(8).name]


@pytest.mark.parametrize("change", ["", "[]", "{}", '{"version": 2}', "null"])
def test_a_damaged_book_is_refused(change: str) -> None:
    with pytest.raises(StateError, match="book of invites is damaged"):
        InviteBook.from_json(change)


@pytest.mark.parametrize(
    ("field", "value"),
    [("role", "king"), ("expires_at_s", "soon"), ("expires_at_s", math.nan), ("peer", PEER), ("extra", 1)],
)
def test_a_book_with_a_damaged_page_is_refused(field: str, value: object) -> None:
    fields = json.loads(book_with(7).to_json())
    fields["invites"][invite().name][field] = value

    with pytest.raises(StateError, match="restore it or issue new invites"):
        InviteBook.from_json(json.dumps(fields))


def test_an_invite_out_of_bounds_is_not_issued() -> None:
    book = InviteBook(RUN)

    with pytest.raises(InvalidMessage, match="use a later time"):
        book.issue(invite(), now_s=NOW_S, expires_at_s=NOW_S)
    with pytest.raises(InvalidMessage, match="use up to"):
        book.issue(invite(), now_s=NOW_S, expires_at_s=NOW_S + 1, ticket_lifetime_s=math.inf)
