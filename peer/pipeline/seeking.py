"""How a pipeline's peer finds its place: as `Seeker`, and which stage it serves.

A newcomer takes the stage that it was told to, else the one with the fewest replicas; one that comes back keeps its
own. It downloads that stage's state from all replicas of it that vouch for one digest, while a quorum of the run's
members, of whatever stage, vouches for the round that the state belongs to.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...protocol import rounds_pb2 as pb
from ...protocol.chunks import n_chunks
from ...protocol.errors import (
    ChecksumMismatch,
    GossamerError,
    InvalidManifest,
    InvalidMessage,
    NetworkClosed,
    PeerUnreachable,
)
from ...protocol.identity import PeerId
from ...protocol.wire import parse
from ..event_kinds import Settled
from ..folder import standing_of
from ..joining import Resync, best_lineage
from ..membership import Announcement
from ..rounds.decision import HASH_BYTES
from ..rounds.roster import WHOLE, Member, Roster
from ..rounds.snapshots import CHUNK_BYTES, INFO_BYTES_MAX, Offer, Standing, download
from ..seeking import Seeker
from .model import StageModel


def first_digest(run_id: str) -> bytes:
    """What the chain of a pipeline's digests begins with."""
    return hashlib.sha256(f"gossamer pipeline {run_id}".encode()).digest()


def neediest(taken: Counter[int], n_stages: int, *, rather: int = WHOLE) -> int:
    """The stage with the fewest replicas; among equals `rather`, else the first."""
    return min(range(n_stages), key=lambda stage: (taken[stage], stage != rather, stage))


def assigned(members: Sequence[Member], n_stages: int) -> tuple[Member, ...]:
    """Everybody with a stage: as wished, else the neediest, in order of peer ids."""
    taken = Counter(member.stage for member in members if member.stage != WHOLE)
    placed = []
    for member in sorted(members):
        stage = member.stage if member.stage != WHOLE else neediest(taken, n_stages)
        taken[stage] += member.stage == WHOLE
        placed.append(replace(member, stage=stage))
    return tuple(placed)


@dataclass(frozen=True)
class _Vouched:
    """A donor's word."""

    offer: Offer
    stage: int


class StageSeeker(Seeker):
    """Seeks a place in a pipeline, and settles the peer's `StageModel` there."""

    _replica: StageModel
    wish = WHOLE
    """The stage that this peer was told to serve; WHOLE: any."""

    def load_checkpoint(self) -> None:
        loaded = self._folder.newest_checkpoint()
        if loaded is None:
            return
        for path, reason in loaded.rejected:
            self._warn(f"checkpoint {path.name} is not used: {reason}")
        told = loaded.checkpoint.record.get("pipeline")
        stage = told.get("stage") if isinstance(told, dict) else None
        if not isinstance(told, dict) or not isinstance(stage, int) or not 0 <= stage < self._replica.n_stages:
            raise InvalidManifest("the checkpoint in this folder is of no stage of this run: use another folder")
        if self.wish not in (WHOLE, stage):
            self._warn(f"the checkpoint here is of stage {stage}, and stage {self.wish} is to be served: not used")
            return
        self._replica.settle(stage)
        checkpoint = loaded.checkpoint
        try:
            self._replica.load(dict(checkpoint.model), dict(checkpoint.shared), dict(checkpoint.local))
        except ValueError as error:
            raise InvalidManifest(str(error)) from None
        if self._replica.digest().hex() != told.get("state"):
            self._warn("the checkpoint's state is not the one that its round agreed on: not used")
            self._replica.reset()
            return
        self.checkpoint = standing_of(checkpoint)

    async def seek(self, member: Member) -> Standing | None:
        standing = await super().seek(member)
        if standing is not None:
            self._tell_settled("assigned" if self.wish == WHOLE else "as told")
        return standing

    async def first(self, member: Member) -> Standing | None:
        before = self.checkpoint
        standing = await super().first(member)
        if standing is not None and standing is before:
            self._tell_settled("own checkpoint")
        return standing

    def _tell_settled(self, how: str) -> None:
        model = self._replica
        self._emit(Settled(stage=model.stage, n_stages=model.n_stages, step=model.step, how=how))

    def _is_on(self, roster: Roster, member: Member) -> bool:
        """A roster's word on the stage is the one that counts."""
        for named in roster.members:
            if (named.peer, named.incarnation) == (member.peer, member.incarnation):
                if self._replica.stage != named.stage and 0 <= named.stage < self._replica.n_stages:
                    self._replica.settle(named.stage)
                return self._replica.stage == named.stage
        return False

    def _first_roster(self, members: Sequence[Member]) -> Roster:
        return Roster.of(assigned(members, self._replica.n_stages))

    async def _digest(self) -> bytes:
        if self.checkpoint is not None:
            return self.checkpoint.digest
        is_fresh = not self._replica.settled or self._replica.step == 0
        return first_digest(self._signed.run_id) if is_fresh else bytes(HASH_BYTES)

    # -- a stage's state -------------------------------------------------------------------------

    async def _resync(self, view: Mapping[PeerId, Announcement]) -> Resync | None:
        lineage = best_lineage(view.values())
        active = {peer: claim for peer, claim in view.items() if claim.active and claim.lineage == lineage}
        taken = Counter(claim.member.stage for claim in active.values())
        model = self._replica
        stage = self.wish if self.wish != WHOLE else neediest(taken, model.n_stages, rather=model.stage)
        model.settle(stage)
        told = await self._ask(sorted(active), lineage or b"")
        offers = _donors(told, stage, model.snapshot_bytes())
        if not offers:
            return None
        try:
            got = await download(self._network, offers)
        except (ChecksumMismatch, PeerUnreachable):
            return None
        await self._network.compute(lambda: model.restore(got.data), model.apply_cost())
        standing = offers[0].standing
        how = f"{len(got.donors)} replicas gave the state of stage {stage} at round {standing.index}"
        return Resync(standing=standing, bytes=len(got.data), donors=got.donors, how=how)

    async def _ask(self, donors: Sequence[PeerId], lineage: bytes) -> list[_Vouched]:
        request = pb.SnapshotRequest(lineage=lineage).SerializeToString()

        async def ask(donor: PeerId) -> _Vouched | None:
            try:
                answer = await self._network.call(donor, "sync/snapshot", request, timeout_s=5.0)
                return _read(donor, answer)
            except NetworkClosed:
                raise
            except GossamerError:
                return None

        answers: list[Any] = await asyncio.gather(*(ask(donor) for donor in donors))
        return [one for one in answers if one is not None and one.offer.standing.lineage == lineage]


def _read(donor: PeerId, data: bytes) -> _Vouched:
    """Raises InvalidMessage."""
    info = parse(pb.SnapshotInfo, data, bytes_max=INFO_BYTES_MAX, what="a snapshot's description")
    hashes = [info.digest, info.hash, *info.chunks]
    if any(len(digest) != HASH_BYTES for digest in hashes) or len(info.chunks) != n_chunks(info.length, CHUNK_BYTES):
        raise InvalidMessage(f"{donor} describes a snapshot that cannot be: not downloaded from it")
    standing = Standing(
        lineage=info.lineage, index=info.round, roster=Roster.from_wire(info.roster), digest=info.digest
    )
    return _Vouched(Offer(donor, standing, info.length, tuple(info.chunks), info.hash, info.rounded), info.stage - 1)


def _donors(told: Sequence[_Vouched], stage: int, state_bytes: int) -> list[Offer]:
    """Offers of one stage's state at the newest round that a quorum of its roster describes alike."""
    for one in sorted(told, key=lambda one: -one.offer.standing.index):
        standing = one.offer.standing
        alike = [other for other in told if other.offer.standing == standing]
        members = {other.offer.donor for other in alike if standing.roster.slot_of(other.offer.donor) is not None}
        mine = [other.offer for other in alike if other.stage == stage and other.offer.length == state_bytes]
        if len(members) >= standing.roster.quorum and mine:
            most, _ = Counter(offer.hash for offer in mine).most_common(1)[0]
            return [offer for offer in mine if offer.hash == most]
    return []
