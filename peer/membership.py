"""Who is there, and who may be: announcements in the DHT, tickets, invites."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..protocol import rounds_pb2 as pb
from ..protocol.admission import Admission
from ..protocol.atomic import write_atomically
from ..protocol.errors import GossamerError, NetworkClosed, NotAdmitted, Refused, StateError
from ..protocol.identity import Identity, PeerId
from ..protocol.invite_book import InviteBook
from ..protocol.invites import Invite
from ..protocol.network import Network, Record
from ..protocol.wire import parse
from .rounds.roster import Member

PEERS_KEY = "peers"
TTL_S = 60.0
EVERY_S, CALM_EVERY_S = 10.0, 20.0
"""While all who are there take part in one lineage, ours, it is seldom that one needs to know who is there."""
EAGER_S = 0.5
"""While this peer waits for its place in the run."""
ANNOUNCEMENT_BYTES_MAX = 4 << 10
"""A ticket of some hundred bytes, and less of everything else."""
ANNOUNCEMENTS_REMEMBERED = 1024
"""Not parsed again: daemons may share a process."""


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What a peer says of itself. A claim, but signed and by an admitted peer."""

    member: Member
    lineage: bytes
    round_index: int
    step: int
    samples: int
    digest: bytes
    active: bool
    """Takes part in rounds, or follows them until it is let in."""
    decides: bool
    """Is one of those who can decide the next round of its lineage."""


class Membership:
    """Announces this peer, admits others, and keeps a view of who is there.

    Args:
        ticket: this peer's own; empty for the owner and in open runs.
        say: the announcement to publish now.
        on_view: called after each look at the others.
    """

    def __init__(
        self,
        network: Network,
        *,
        admission: Admission,
        ticket: bytes,
        say: Callable[[], pb.Status],
        on_view: Callable[[Mapping[PeerId, Announcement]], None],
        warn: Callable[[str], None],
    ) -> None:
        self.view: dict[PeerId, Announcement] = {}
        self.eager = True
        self._network = network
        self._admission = admission
        self._ticket = ticket
        self._say = say
        self._on_view = on_view
        self._warn = warn
        self._admitted: dict[PeerId, float] = {}
        self._greeted: dict[PeerId, int] = {}
        self._silent: dict[PeerId, int] = {}
        """Whose silence was told, in which life of theirs: once is enough."""
        self._ignored: dict[PeerId, bytes] = {}
        """What was wrong at the last look: it is told when it is new."""
        self._read: dict[PeerId, tuple[bytes, Announcement]] = {}
        """What each record said at the last look: most say the same again."""
        self._said: tuple[list[PeerId], list[bytes]] | None = None
        """Signers and values of all records at the last look; None: not all were good, so they are read again."""
        self._good_until_s = math.inf
        """When the first of those in the view is not admitted any more."""
        self._all_greeted = False
        """Whether everybody in the view has seen our ticket."""
        self._lineage = b""
        """Ours, as we announced it."""
        self._wake = asyncio.Event()
        network.set_gate(self.is_admitted)
        network.serve("member/hello", self._hello, public=True)

    def is_admitted(self, peer: PeerId) -> bool:
        return self._admitted.get(peer, 0.0) > self._network.unix_time_s()

    def admit(self, peer: PeerId, ticket: bytes) -> None:
        """Raises InvalidMessage, NotAdmitted for a ticket that is not good."""
        checked = self._admission.check_ticket(ticket, peer=peer, now_s=self._network.unix_time_s())
        self._admitted[peer] = checked.expires_at_s
        self._good_until_s = min(self._good_until_s, checked.expires_at_s)

    def hurry(self) -> None:
        """Announce and look now."""
        self._wake.set()

    def greet_anew(self, peer: PeerId) -> None:
        """A peer does not know our ticket (any more): show it again."""
        self._greeted.pop(peer, None)
        self._all_greeted = False
        self._wake.set()

    async def run(self) -> None:
        """Announce and look, for ever."""
        while True:
            try:
                await self._announce()
                await self._look()
            except NetworkClosed:
                raise
            except GossamerError as error:
                self._warn(f"membership: {error}")
            await self._pause()

    async def _pause(self) -> None:
        every_s = EAGER_S if self.eager else CALM_EVERY_S if self._is_calm() else EVERY_S
        timer = asyncio.get_running_loop().call_later(every_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        self._wake.clear()

    def _is_calm(self) -> bool:
        return bool(self.view) and all(one.active and one.lineage == self._lineage for one in self.view.values())

    async def _announce(self) -> None:
        status = self._say()
        self._lineage = status.lineage
        status.ticket = self._ticket
        await self._network.publish(PEERS_KEY, status.SerializeToString(), ttl_s=TTL_S)

    async def _look(self) -> None:
        records = await self._network.lookup(PEERS_KEY)
        said = [record.signer for record in records], [record.value for record in records]
        if said != self._said or self._network.unix_time_s() >= self._good_until_s:
            self._said = said if self._read_all(records) else None
        if not self._all_greeted:
            self._all_greeted = True  # until a greeting fails, or somebody forgets it meanwhile
            members = [one.member for one in self.view.values()]
            strangers = [member for member in members if self._greeted.get(member.peer) != member.incarnation]
            await asyncio.gather(*(self._greet(member) for member in strangers))
        self._on_view(self.view)

    def _read_all(self, records: Sequence[Record]) -> bool:
        """Make the view anew. Whether all announcements were good."""
        view, read, ignored = {}, {}, dict[PeerId, bytes]()
        admitted, own, now_s = self._admitted, self._network.peer_id, self._network.unix_time_s()
        for record in records:
            signer = record.signer
            if signer == own:
                continue
            known = self._read.get(signer)
            if known is not None and known[0] == record.value and admitted.get(signer, 0.0) > now_s:
                read[signer], view[signer] = known, known[1]
                continue
            try:
                self.admit(signer, _status(record.value).ticket)
                view[signer] = _announced(record.value, signer)
                read[signer] = (record.value, view[signer])
            except GossamerError as error:
                ignored[signer] = record.value
                if self._ignored.get(signer) != record.value:
                    self._warn(f"announcement of {signer} ignored: {error}")
        self.view, self._read, self._ignored, self._all_greeted = view, read, ignored, False
        self._good_until_s = min((admitted[signer] for signer in view), default=math.inf)
        return not ignored

    async def _greet(self, member: Member) -> None:
        """Show a peer our ticket, once in each of its lives."""
        try:
            await self._network.call(member.peer, "member/hello", self._ticket, timeout_s=5.0)
        except NetworkClosed:
            raise
        except GossamerError as error:
            self._all_greeted = False
            if self._silent.get(member.peer) != member.incarnation:
                self._silent[member.peer] = member.incarnation
                self._warn(f"{member.peer} did not answer our greeting: {error}")
        else:
            self._greeted[member.peer] = member.incarnation
            self._silent.pop(member.peer, None)

    async def _hello(self, peer: PeerId, ticket: bytes) -> bytes:
        self.admit(peer, ticket)
        self._wake.set()
        return self._ticket


@lru_cache(maxsize=ANNOUNCEMENTS_REMEMBERED)
def _status(value: bytes) -> pb.Status:
    """Not to be written to. Raises MessageTooLarge, InvalidMessage."""
    return parse(pb.Status, value, bytes_max=ANNOUNCEMENT_BYTES_MAX, what="an announcement")


@lru_cache(maxsize=ANNOUNCEMENTS_REMEMBERED)
def _announced(value: bytes, signer: PeerId) -> Announcement:
    return read_announcement(_status(value), signer)


def read_announcement(status: pb.Status, signer: PeerId) -> Announcement:
    """Check a status that came from outside. Raises InvalidMessage, NotAdmitted."""
    member = Member.from_wire(status.member)
    if member.peer != signer:
        raise NotAdmitted(f"{signer} announces {member.peer}: each peer speaks for itself")
    return Announcement(
        member=member,
        lineage=status.lineage,
        round_index=status.round,
        step=status.step,
        samples=status.samples,
        digest=status.digest,
        active=status.active,
        decides=status.active and status.decides,
    )


class InviteDesk:
    """The owner's side of one-time invites: redeems them for tickets, and writes down that it did."""

    def __init__(
        self, network: Network, owner: Identity, run_id: str, path: Path, *, warn: Callable[[str], object]
    ) -> None:
        """Args: warn: is told of a book that cannot be read, which newcomers alone would notice."""
        self._network, self._owner, self._run_id, self._path, self._warn = network, owner, run_id, path, warn
        if path.exists():
            with contextlib.suppress(StateError):
                self._book()
        network.serve("member/redeem", self._redeem, public=True)

    async def _redeem(self, peer: PeerId, request: bytes) -> bytes:
        if not self._path.exists():
            raise NotAdmitted("no invites were issued for this run: ask its owner for one")
        book = self._book()
        ticket = book.redeem(request, peer=peer, owner=self._owner, now_s=self._network.unix_time_s())
        write_atomically(self._path, book.to_json().encode(), mode=0o600)
        return ticket

    def _book(self) -> InviteBook:
        """Raises StateError."""
        try:
            return InviteBook.from_json(self._path.read_text())
        except StateError as error:
            self._warn(f"{self._path}: {error}")
            raise


async def redeem(network: Network, invite: Invite) -> bytes:
    """Trade an invite for a ticket, with whichever bootstrap peer holds the owner's key.

    Raises: Refused, NetworkError.
    """
    failure: GossamerError = Refused("the invite names no peer that redeems it: ask the owner for a new one")
    names = [address.rsplit("/p2p/", 1)[-1] for address in invite.addresses]
    for name in dict.fromkeys(names):
        try:
            return await network.call(PeerId(name), "member/redeem", invite.redemption(network.peer_id), timeout_s=15.0)
        except GossamerError as error:
            failure = error
    raise failure
