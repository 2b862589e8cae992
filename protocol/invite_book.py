"""The owner's book of invites: which are outstanding, and which peer redeemed the others.

Pure state. The owner's daemon keeps its JSON in a file of mode 0600 next to the run's manifest, and writes it before
it hands out a line or a ticket.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from .admission import MAX_TICKET_LIFETIME_S, Role, Ticket, check_run_id, issue_ticket, parse_role
from .admission_pb2 import Redemption
from .errors import Expired, InvalidMessage, NotAdmitted, StateError
from .identity import Identity, PeerId, parse_peer_id, verify
from .invites import DOMAIN, MAX_REDEMPTION_BYTES, Invite, redemption_claim
from .wire import parse

MAX_INVITES = 10_000
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class _Page:
    """One invite. The ticket's fields are None until it is redeemed."""

    expires_at_s: float
    role: Role
    ticket_lifetime_s: float
    peer: PeerId | None = None
    ticket_expires_at_s: float | None = None
    serial: int | None = None


class InviteBook:
    """Issues and redeems the invites of one run."""

    def __init__(self, run_id: str) -> None:
        check_run_id(run_id)
        self.run_id = run_id
        self._pages: dict[PeerId, _Page] = {}
        self._n_tickets = 0

    def issue(
        self,
        invite: Invite,
        *,
        now_s: float,
        expires_at_s: float,
        role: Role = "peer",
        ticket_lifetime_s: float = 30 * 24 * 3600.0,
    ) -> None:
        """Enter an invite, so that it can be redeemed once before it expires.

        Args:
            ticket_lifetime_s: how long the ticket will hold, from its redemption on.
        Raises: InvalidMessage if the invite is another run's or a bound is passed.
        """
        if invite.run_id != self.run_id:
            raise InvalidMessage(f"an invite for run {invite.run_id} in the book of {self.run_id}: use the right book")
        if not 0 < ticket_lifetime_s <= MAX_TICKET_LIFETIME_S:
            raise InvalidMessage(f"a ticket for {ticket_lifetime_s} s: use up to {MAX_TICKET_LIFETIME_S:.0f} s")
        if not now_s < expires_at_s < math.inf:
            raise InvalidMessage(f"an invite that expires at {expires_at_s}, and it is {now_s}: use a later time")
        self._forget_expired(now_s)
        if len(self._pages) >= MAX_INVITES:
            raise InvalidMessage(f"{MAX_INVITES} invites are outstanding or in use: wait until some expire")
        page = _Page(expires_at_s=expires_at_s, role=parse_role(role), ticket_lifetime_s=ticket_lifetime_s)
        self._pages[invite.name] = page

    def redeem(self, request: bytes, *, peer: PeerId, owner: Identity, now_s: float) -> bytes:
        """The ticket for `peer`, whose identity is proven. Asked again, the same peer gets the same ticket.

        Raises: NotAdmitted (no such invite, or another peer redeemed it), Expired, BadSignature, InvalidMessage.
        """
        message = parse(Redemption, request, bytes_max=MAX_REDEMPTION_BYTES, what="a redemption")
        name = parse_peer_id(message.invite)
        page = self._pages.get(name)
        if page is None:
            raise NotAdmitted(f"{peer} shows an invite that run {self.run_id} never issued: ask its owner for one")
        verify(name, DOMAIN, redemption_claim(self.run_id, peer), message.signature)
        if page.peer is None:
            page = self._pages[name] = self._redeemed(page, peer, now_s)
        return issue_ticket(owner, self._ticket(page, peer, now_s))

    def to_json(self) -> str:
        """The whole book, for a file that only its owner can read."""
        pages = {name: asdict(page) for name, page in self._pages.items()}
        book = {"version": _VERSION, "run_id": self.run_id, "n_tickets": self._n_tickets, "invites": pages}
        return json.dumps(book, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> InviteBook:
        """Raises StateError if the text is not what `to_json` wrote."""
        try:
            fields = json.loads(text)
            if fields["version"] != _VERSION:
                raise ValueError(f"version {fields['version']}, expected {_VERSION}")
            book = cls(str(fields["run_id"]))
            book._n_tickets = int(fields["n_tickets"])
            book._pages = {parse_peer_id(name): _page(page) for name, page in fields["invites"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, InvalidMessage) as error:
            raise StateError(f"the book of invites is damaged ({error}): restore it or issue new invites") from None
        return book

    def _redeemed(self, page: _Page, peer: PeerId, now_s: float) -> _Page:
        if page.expires_at_s <= now_s:
            late_s = now_s - page.expires_at_s
            raise Expired(f"the invite that {peer} shows expired {late_s:.0f} s ago: ask the run's owner for another")
        self._n_tickets += 1
        ends_s = now_s + page.ticket_lifetime_s
        return replace(page, peer=peer, ticket_expires_at_s=ends_s, serial=self._n_tickets)

    def _ticket(self, page: _Page, peer: PeerId, now_s: float) -> Ticket:
        assert page.ticket_expires_at_s is not None
        assert page.serial is not None
        if page.peer != peer:
            raise NotAdmitted(f"the invite that {peer} shows was redeemed by another peer: ask the run's owner for one")
        if page.ticket_expires_at_s <= now_s:
            raise Expired(f"the ticket from the invite of {peer} has expired: ask the run's owner for a new invite")
        return Ticket(
            run_id=self.run_id,
            peer=peer,
            role=page.role,
            expires_at_s=page.ticket_expires_at_s,
            serial=page.serial,
        )

    def _forget_expired(self, now_s: float) -> None:
        def ends_s(page: _Page) -> float:
            return page.expires_at_s if page.ticket_expires_at_s is None else page.ticket_expires_at_s

        self._pages = {name: page for name, page in self._pages.items() if ends_s(page) > now_s}


def _page(fields: dict[str, Any]) -> _Page:
    page = _Page(**fields)
    parse_role(page.role)
    times = (page.expires_at_s, page.ticket_lifetime_s, page.ticket_expires_at_s or 0.0)
    if not all(isinstance(time_s, (int, float)) and math.isfinite(time_s) for time_s in times):
        raise ValueError("a time in it is not a number")
    redeemed = [page.peer is not None, page.ticket_expires_at_s is not None, page.serial is not None]
    if any(redeemed) != all(redeemed):
        raise ValueError("an invite in it is half redeemed")
    return page
