"""A group that lost its quorum: pause, or, where the run allows it, go on as a new lineage.

A fork needs the signature of every member of its roster. Who signs leaves the old lineage for good, as if it had died
there, so that each lineage by itself keeps its promise of one result.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import GossamerError, NetworkClosed, StaleRound
from ...protocol.identity import PeerId, verify
from .decision import LINEAGE_BYTES
from .roster import Roster
from .snapshots import Standing

if TYPE_CHECKING:
    from .group import Group
    from .round import Round

FORK_DOMAIN = "fork"
RETIRED_S = 10.0
LOOKS = 3
"""The quorum must be missing at so many looks in a row, one patience apart."""


def forked_lineage(lineage: bytes, roster: Roster, index: int) -> bytes:
    """The name of the lineage that a part of a group founds."""
    return hashlib.sha256(b"fork" + lineage + roster.hash() + index.to_bytes(8, "little")).digest()[:LINEAGE_BYTES]


class Forking:
    """Watches a round for the loss of its quorum."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._adopted = asyncio.Event()

    async def watch(self, round_: Round) -> None:
        """Returns once this peer has gone over to a forked lineage; never where forks are not allowed."""
        self._adopted.clear()
        may_fork = round_.rules.may_fork(len(round_.place.roster))
        missing = 0
        while not self._adopted.is_set():
            await self._pause(round_.patience_s)
            missing = missing + 1 if self._has_lost_quorum(round_) else 0
            if missing == LOOKS:
                peers = round_.place.roster.peers
                self._group.delegate.paused(self._group.standing, [peers[slot] for slot in round_.live()])
            if may_fork and missing >= LOOKS and min(round_.live()) == round_.place.slot:
                await self._propose(round_)

    async def _pause(self, patience_s: float) -> None:
        try:
            async with asyncio.timeout(max(0.5, patience_s)):
                await self._adopted.wait()
        except TimeoutError:
            return

    def _has_lost_quorum(self, round_: Round) -> bool:
        return not round_.place.roster.has_quorum(round_.live())

    async def _propose(self, round_: Round) -> None:
        """Ask everybody whom we can reach to found a lineage with us."""
        place = round_.place
        roster = Roster.of(place.roster.members[slot] for slot in round_.live())
        fork = pb.Fork(lineage=place.lineage, round=place.index, base=place.base, roster=roster.to_wire())
        statement = fork.SerializeToString(deterministic=True)
        votes = [pb.ForkVote(peer=self._group.network.peer_id, signature=self.sign(round_, statement))]
        for peer in roster.peers:
            if peer != self._group.network.peer_id:
                vote = await self._seek_vote(peer, fork, statement)
                if vote is None:
                    return
                votes.append(vote)
        if round_.decided.done():
            return
        message = pb.ForkCertificate(fork=fork, votes=votes).SerializeToString()
        for peer in roster.peers:
            if peer != self._group.network.peer_id:
                self._group.spawn(self._tell(peer, message))
        self.adopt(roster)

    async def _seek_vote(self, peer: PeerId, fork: pb.Fork, statement: bytes) -> pb.ForkVote | None:
        try:
            signature = await self._group.network.call(peer, "group/fork", fork.SerializeToString(), timeout_s=5.0)
            verify(peer, FORK_DOMAIN, statement, signature)
        except NetworkClosed:
            raise
        except GossamerError as error:
            self._group.delegate.warned(f"no fork: {error}")
            return None
        return pb.ForkVote(peer=peer, signature=signature)

    async def _tell(self, peer: PeerId, message: bytes) -> None:
        try:
            await self._group.network.call(peer, "group/forked", message, timeout_s=5.0)
        except NetworkClosed:
            raise
        except GossamerError as error:
            self._group.delegate.warned(f"a member of the fork did not hear of it: {error}")

    # -- the other side --------------------------------------------------------------------------

    def consider(self, fork: pb.Fork) -> bytes:
        """Sign a fork if this peer sees the same loss. Raises StaleRound."""
        group, round_ = self._group, self._group.round
        if (
            round_ is None
            or round_.decided.done()
            or (fork.lineage, fork.round, fork.base) != (group.lineage, group.index, group.digest)
        ):
            raise StaleRound(f"{group.network.peer_id} is not in that round and state: no fork with it")
        roster = Roster.from_wire(fork.roster)
        seen = Roster.of(round_.place.roster.members[slot] for slot in round_.live())
        allowed = round_.rules.may_fork(len(round_.place.roster)) and self._has_lost_quorum(round_)
        if not allowed or roster != seen:
            raise StaleRound(f"{group.network.peer_id} does not see the same loss of quorum: no fork with it yet")
        return self.sign(round_, fork.SerializeToString(deterministic=True))

    def sign(self, round_: Round, statement: bytes) -> bytes:
        round_.acceptor.retired = True
        asyncio.get_running_loop().call_later(RETIRED_S, self._return, round_)
        return self._group.identity.sign(FORK_DOMAIN, statement)

    def _return(self, round_: Round) -> None:
        """The fork was not founded in time: vote again, lest a member that looks alive blocks the round."""
        if not self._adopted.is_set():
            round_.acceptor.retired = False

    def on_forked(self, certificate: pb.ForkCertificate) -> None:
        """A fork that we signed was signed by all. Raises StaleRound, BadSignature."""
        group, fork = self._group, certificate.fork
        here = (group.lineage, group.index, group.digest)
        if group.round is None or group.round.decided.done() or (fork.lineage, fork.round, fork.base) != here:
            raise StaleRound(f"{group.network.peer_id} is not in that round: fork not followed")
        roster, statement = Roster.from_wire(fork.roster), fork.SerializeToString(deterministic=True)
        signers = sorted(vote.peer for vote in certificate.votes)
        if signers != list(roster.peers) or group.member not in roster.members:
            raise StaleRound("a fork that not all of its members signed: not followed")
        for vote in certificate.votes:
            verify(PeerId(vote.peer), FORK_DOMAIN, statement, vote.signature)
        self.adopt(roster)

    def adopt(self, roster: Roster) -> None:
        group = self._group
        lineage = forked_lineage(group.lineage, roster, group.index)
        group.adopt(Standing(lineage=lineage, index=group.index, roster=roster, digest=group.digest))
        self._adopted.set()
