"""How a peer finds its place in a run: it resumes, starts with the owner's genesis, or is let into a living group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from ..protocol import rounds_pb2 as pb
from ..protocol.errors import InvalidManifest
from ..protocol.identity import PeerId
from ..protocol.manifest import SignedManifest
from ..protocol.network import Network
from .event_kinds import Event, Resynced, Warned, short_id
from .folder import PeerFolder, standing_of
from .joining import (
    GENESIS_KEY,
    GENESIS_TTL_S,
    Resync,
    best_lineage,
    find_genesis,
    resume_from_log,
    resync,
    standing_of_genesis,
)
from .membership import Announcement, Membership
from .replica import Replica
from .rounds.decision import HASH_BYTES
from .rounds.roster import Member, Roster
from .rounds.snapshots import Standing

SEEK_EVERY_S = 0.3
OWNER_PATIENCE_S = 5.0
"""An owner that finds no living group waits so long before it starts the run anew."""


class Seeker:
    """Seeks a place for one peer; keeps seeking until there is one, or the peer is asked to leave.

    Args:
        founds: whether this peer holds the owner's key and may sign the first roster.
        leaving: set when the peer is asked to leave.
    """

    def __init__(
        self,
        *,
        network: Network,
        manifest: SignedManifest,
        folder: PeerFolder,
        replica: Replica,
        membership: Membership,
        founds: bool,
        leaving: asyncio.Event,
        emit: Callable[[Event], None],
    ) -> None:
        self._network, self._signed, self._folder = network, manifest, folder
        self._replica, self._membership, self._emit = replica, membership, emit
        self._founds = founds
        self._leaving = leaving
        self.checkpoint: Standing | None = None
        """Where this peer's own checkpoint stands, while it may still be resumed from."""
        self._genesis: Standing | None = None
        self._published: Standing | None = None
        self._since_s = 0.0
        self._every_s = SEEK_EVERY_S
        self._told_lack = ""

    def load_checkpoint(self) -> None:
        """Take over the newest good checkpoint, if there is one. Raises InvalidManifest if it is of another run."""
        loaded = self._folder.newest_checkpoint()
        if loaded is None:
            return
        for path, reason in loaded.rejected:
            self._warn(f"checkpoint {path.name} is not used: {reason}")
        checkpoint = loaded.checkpoint
        standing = standing_of(checkpoint)
        try:
            self._replica.load(dict(checkpoint.model), dict(checkpoint.shared), dict(checkpoint.local))
        except ValueError as error:
            raise InvalidManifest(str(error)) from None
        if self._replica.digest() != standing.digest:
            self._warn("the checkpoint's state is not the one that its round agreed on: not used")
            self._replica.reset()
            return
        self.checkpoint = standing

    async def first(self, member: Member) -> Standing | None:
        """Where to begin: where a committed stop left off, else as `seek`."""
        if self.checkpoint is not None and self._is_on(self.checkpoint.roster, member):
            return self.checkpoint
        return await self.seek(member)

    async def seek(self, member: Member) -> Standing | None:
        """Where `member` may take part, with the replica in that state; None if asked to leave before."""
        self._since_s = asyncio.get_running_loop().time()
        while not self._leaving.is_set():
            standing = await self._start(member) or await self._join()
            if standing is not None:
                self._genesis = self._published = None
                return standing
            if self._founds:
                await self._found(member)
            await self._pause()
        return None

    def _is_on(self, roster: Roster, member: Member) -> bool:
        """Whether a roster names this peer in this very life."""
        return member in roster.members

    def _lacks(self, members: Sequence[Member]) -> str:
        """Why these cannot start the run; empty: they can."""
        return ""

    def _first_roster(self, members: Sequence[Member]) -> Roster:
        """Who starts the run."""
        return Roster.of(members)

    async def _resync(self, view: Mapping[PeerId, Announcement]) -> Resync | None:
        return await resync(self._network, self._replica, view, self._genesis)

    def forget(self) -> None:
        """What this peer holds is not the group's state any more: its checkpoint is no place to resume from."""
        self.checkpoint = None

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._every_s):
                await self._leaving.wait()
        except TimeoutError:
            return

    async def _start(self, member: Member) -> Standing | None:
        """Start with the roster that the owner signed, if this peer is on it and has the state to start from."""
        standing = self._published or await find_genesis(self._network, self._signed.owner, self._signed.run_id)
        self._genesis = standing
        if standing is None or not self._is_on(standing.roster, member):
            return None
        if await self._digest() == standing.digest:
            return standing
        return None  # `_join` downloads it

    async def _join(self) -> Standing | None:
        """Take over the state of a living group, by replaying what we missed or by downloading it."""
        view = self._membership.view
        lineage = best_lineage(view.values())
        if lineage is None:
            return None
        started_s = asyncio.get_running_loop().time()
        mine = self.checkpoint
        if mine is not None and mine.lineage == lineage:
            donors = [peer for peer, claim in sorted(view.items()) if claim.active]
            if await resume_from_log(self._network, mine, donors):
                self._replica.forget_local()  # an earlier life may have sent part of it
                how = Resync(standing=mine, bytes=0, donors=(), how="own checkpoint, then replay")
                self._tell(mine.index, how, started_s)
                return mine
        got = await self._resync(view)
        if got is None:
            return None
        self._tell(mine.index if mine is not None else 0, got, started_s)
        return got.standing

    async def _found(self, member: Member) -> None:
        """The owner signs the first roster once enough peers are here and nobody is training."""
        view = self._membership.view
        here = [claim for claim in view.values() if not claim.active]
        waited_s = asyncio.get_running_loop().time() - self._since_s
        anew = self.checkpoint is not None or self._folder.lived_before
        if self._published is not None:
            return
        if len(here) + 1 < self._signed.manifest.group.start_peers or len(here) < len(view):
            return
        if anew and waited_s < OWNER_PATIENCE_S:
            return
        members = [member, *(claim.member for claim in here)]
        if lacks := self._lacks(members):
            if lacks != self._told_lack:
                self._warn(lacks)
            self._told_lack = lacks
            return
        digest = await self._digest()
        # Who fell out of step and lost its standing says no digest, and who only trains has no state: nobody could
        # start from that.
        serving = [claim for claim in here if claim.member.serves and len(claim.digest) == HASH_BYTES]
        best = max(((one.samples, one.round_index, one.digest) for one in serving), default=(0, 0, b""))
        index = self.checkpoint.index if self.checkpoint is not None else 0
        if best[0] > (self._replica.samples if member.serves else 0):
            index, digest = best[1], best[2]
        genesis = pb.Genesis(
            run_id=self._signed.run_id,
            epoch=member.incarnation,
            round=index,
            digest=digest,
            roster=self._first_roster(members).to_wire(),
        )
        data = genesis.SerializeToString(deterministic=True)
        self._published = standing_of_genesis(data, self._signed.run_id)
        await self._network.publish(GENESIS_KEY, data, ttl_s=GENESIS_TTL_S)

    async def _digest(self) -> bytes:
        return await self._network.compute(self._replica.digest, self._replica.apply_cost())

    def _warn(self, message: str) -> None:
        self._emit(Warned(message=message))

    def _tell(self, from_round: int, got: Resync, started_s: float) -> None:
        donors: tuple[PeerId, ...] = got.donors
        self._emit(
            Resynced(
                from_round=from_round,
                to_round=got.standing.index,
                bytes=got.bytes,
                donors=tuple(short_id(donor) for donor in donors),
                seconds=asyncio.get_running_loop().time() - started_s,
                how=got.how,
                lineage=got.standing.lineage.hex(),
            )
        )
