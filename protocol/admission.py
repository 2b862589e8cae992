"""Who may take part in a run: tickets that its owner signs.

A ticket names one peer, so it is worth nothing to anybody else and need not be kept secret.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from .admission_pb2 import SignedTicket, TicketBody
from .errors import Expired, InvalidMessage, NotAdmitted
from .identity import Identity, PeerId, parse_peer_id, verify
from .wire import parse

DOMAIN = "ticket"
MAX_TICKET_BYTES = 1024
MAX_TICKET_LIFETIME_S = 366 * 24 * 3600.0

Role = Literal["peer", "device", "gateway"]
Policy = Literal["open", "ticket"]

ROLES: tuple[Role, ...] = get_args(Role)
RUN_ID_DIGITS = 32


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """One peer's right to take part in one run, in one role, until a time."""

    run_id: str
    peer: PeerId
    role: Role
    expires_at_s: float
    """Unix time; infinite for those who need no ticket."""
    serial: int
    """Counts the owner's tickets; 0 for those who need none."""


class Admission:
    """Checks the tickets of one run."""

    def __init__(self, policy: Policy, owner: PeerId, run_id: str) -> None:
        self.policy = policy
        self.owner = owner
        self.run_id = run_id

    def check_ticket(self, data: bytes, *, peer: PeerId, now_s: float) -> Ticket:
        """The ticket that `peer`, whose identity is proven, presents.

        In an open run, and for the owner, none is needed: `data` is not read, and the role is "peer".
        Raises: NotAdmitted (no ticket, of another run, peer or owner), Expired, BadSignature, InvalidMessage.
        """
        if self.policy == "open" or peer == self.owner:
            return Ticket(run_id=self.run_id, peer=peer, role="peer", expires_at_s=math.inf, serial=0)
        if not data:
            raise NotAdmitted(f"{peer} holds no ticket for run {self.run_id}: ask its owner {self.owner} for an invite")
        ticket = self._read(data)
        if ticket.run_id != self.run_id:
            raise NotAdmitted(
                f"{peer} shows a ticket for run {ticket.run_id}, this is {self.run_id}: use the right one"
            )
        if ticket.peer != peer:
            raise NotAdmitted(f"{peer} shows the ticket of {ticket.peer}: ask the owner for an invite of your own")
        if ticket.expires_at_s <= now_s:
            late_s = now_s - ticket.expires_at_s
            raise Expired(
                f"the ticket of {peer} expired {late_s:.0f} s ago: ask the owner {self.owner} for a new invite"
            )
        return ticket

    def _read(self, data: bytes) -> Ticket:
        signed = parse(SignedTicket, data, bytes_max=MAX_TICKET_BYTES, what="a ticket")
        verify(self.owner, DOMAIN, signed.body, signed.signature)
        body = parse(TicketBody, signed.body, bytes_max=MAX_TICKET_BYTES, what="a ticket's body")
        if not math.isfinite(body.expires_at_s):
            raise InvalidMessage(f"a ticket expires at {body.expires_at_s}: ask the owner {self.owner} for another")
        return Ticket(
            run_id=body.run_id,
            peer=parse_peer_id(body.peer),
            role=parse_role(body.role),
            expires_at_s=body.expires_at_s,
            serial=body.serial,
        )


def issue_ticket(owner: Identity, ticket: Ticket) -> bytes:
    """Sign a ticket. Raises InvalidMessage if it is out of bounds."""
    if not math.isfinite(ticket.expires_at_s):
        raise InvalidMessage(f"a ticket cannot expire at {ticket.expires_at_s}: use a unix time")
    check_run_id(ticket.run_id)
    body = TicketBody(
        run_id=ticket.run_id,
        peer=parse_peer_id(ticket.peer),
        role=parse_role(ticket.role),
        expires_at_s=ticket.expires_at_s,
        serial=ticket.serial,
    ).SerializeToString()
    return SignedTicket(body=body, signature=owner.sign(DOMAIN, body)).SerializeToString()


def parse_role(text: str) -> Role:
    """Check a role that came from outside. Raises InvalidMessage."""
    for role in ROLES:
        if text == role:
            return role
    raise InvalidMessage(f"{text[:40]!r} is not a role: use one of {', '.join(ROLES)}")


def check_run_id(text: str) -> None:
    """Raises InvalidMessage unless `text` looks like a run id."""
    if len(text) != RUN_ID_DIGITS or not all(digit in "0123456789abcdef" for digit in text):
        raise InvalidMessage(f"{text[:RUN_ID_DIGITS]!r} is not a run id: expected {RUN_ID_DIGITS} hex digits")
