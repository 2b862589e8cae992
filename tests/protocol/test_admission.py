import math
from dataclasses import replace
from typing import Any

import pytest

from gossamer.protocol.admission import DOMAIN, Admission, Ticket, issue_ticket
from gossamer.protocol.admission_pb2 import SignedTicket, TicketBody
from gossamer.protocol.errors import BadSignature, Expired, InvalidMessage, MessageTooLarge, NotAdmitted
from gossamer.protocol.identity import Identity

OWNER = Identity(b"\x01" * 32)
PEER = Identity(b"\x02" * 32)
STRANGER = Identity(b"\x03" * 32)
RUN = "0123456789abcdef" * 2
NOW_S = 1_800_000_000.0
TICKET = Ticket(run_id=RUN, peer=PEER.peer_id, role="gateway", expires_at_s=NOW_S + 60, serial=7)
ADMISSION = Admission("ticket", OWNER.peer_id, RUN)


def test_a_ticket_admits_its_peer_in_its_role() -> None:
    data = issue_ticket(OWNER, TICKET)

    assert ADMISSION.check_ticket(data, peer=PEER.peer_id, now_s=NOW_S) == TICKET


def test_a_ticket_with_any_flipped_bit_is_refused() -> None:
    data = issue_ticket(OWNER, TICKET)

    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidMessage):
            ADMISSION.check_ticket(bytes(flipped), peer=PEER.peer_id, now_s=NOW_S)


def test_a_peer_without_ticket_is_told_whom_to_ask() -> None:
    with pytest.raises(NotAdmitted, match=f"ask its owner {OWNER.peer_id} for an invite"):
        ADMISSION.check_ticket(b"", peer=PEER.peer_id, now_s=NOW_S)


def test_another_peers_ticket_is_refused() -> None:
    with pytest.raises(NotAdmitted, match=f"{STRANGER.peer_id} shows the ticket of {PEER.peer_id}"):
        ADMISSION.check_ticket(issue_ticket(OWNER, TICKET), peer=STRANGER.peer_id, now_s=NOW_S)


def test_another_runs_ticket_is_refused() -> None:
    data = issue_ticket(OWNER, replace(TICKET, run_id="f" * 32))

    with pytest.raises(NotAdmitted, match="ticket for run ffff"):
        ADMISSION.check_ticket(data, peer=PEER.peer_id, now_s=NOW_S)


def test_only_the_owner_issues_tickets() -> None:
    with pytest.raises(BadSignature, match=OWNER.peer_id):
        ADMISSION.check_ticket(issue_ticket(PEER, TICKET), peer=PEER.peer_id, now_s=NOW_S)


def test_a_ticket_expires() -> None:
    with pytest.raises(Expired, match="expired 0 s ago"):
        ADMISSION.check_ticket(issue_ticket(OWNER, TICKET), peer=PEER.peer_id, now_s=NOW_S + 60)


def test_an_oversized_ticket_is_refused_unread() -> None:
    with pytest.raises(MessageTooLarge):
        ADMISSION.check_ticket(bytes(1 << 20), peer=PEER.peer_id, now_s=NOW_S)


@pytest.mark.parametrize("fields", [{"role": "king"}, {"expires_at_s": math.nan}, {"expires_at_s": math.inf}])
def test_nonsense_that_the_owner_signed_is_refused(fields: dict[str, object]) -> None:
    body = TicketBody(run_id=RUN, peer=PEER.peer_id, role="peer", expires_at_s=NOW_S + 60)
    for name, value in fields.items():
        setattr(body, name, value)
    data = body.SerializeToString()
    signed = SignedTicket(body=data, signature=OWNER.sign(DOMAIN, data)).SerializeToString()

    with pytest.raises(InvalidMessage):
        ADMISSION.check_ticket(signed, peer=PEER.peer_id, now_s=NOW_S)


def test_an_open_run_admits_anybody() -> None:
    ticket = Admission("open", OWNER.peer_id, RUN).check_ticket(b"junk", peer=STRANGER.peer_id, now_s=NOW_S)

    assert (ticket.peer, ticket.role) == (STRANGER.peer_id, "peer")


def test_the_owner_needs_no_ticket() -> None:
    assert ADMISSION.check_ticket(b"", peer=OWNER.peer_id, now_s=NOW_S).peer == OWNER.peer_id


def test_a_ticket_out_of_bounds_is_not_issued() -> None:
    king: Any = "king"

    for ticket in [replace(TICKET, expires_at_s=math.inf), replace(TICKET, run_id="x"), replace(TICKET, role=king)]:
        with pytest.raises(InvalidMessage):
            issue_ticket(OWNER, ticket)
