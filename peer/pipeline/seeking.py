"""How a pipeline's peer finds its place: as `Seeker`, and which stage it serves.

A newcomer takes the stage that it was told or moved to, or none if it is to train only, else the neediest; one that
comes back keeps its own unless another needs it far more. It downloads that stage's state from all replicas of it that
vouch for one digest, while a quorum of the run's members, of whatever stage, vouches for the round that the state
belongs to. If nobody serves the stage any more, it brings what it has of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from ...algorithms.pipeline.rebalancing import Fleet, work_of_stages
from ...protocol.errors import (
    BadTensor,
    ChecksumMismatch,
    GossamerError,
    InvalidManifest,
    NetworkClosed,
    PeerUnreachable,
)
from ...protocol.identity import PeerId
from ..event_kinds import Settled
from ..folder import standing_of
from ..joining import Resync, best_lineage
from ..membership import Announcement
from ..rounds.decision import HASH_BYTES
from ..rounds.roster import NO_STAGE, WHOLE, Member, Roster
from ..rounds.snapshots import Offer, Standing, download
from ..seeking import SEEK_EVERY_S, Seeker
from .board import StageRecord
from .changes import serving_of
from .model import StageModel
from .present import Present, ask_present, newest_of_stage
from .vouching import Vouched, ask_donors, donors_of, newest_vouched

SEEK_SLOWER, SEEK_EVERY_S_MAX = 1.2, 3.0
MOVE_PATIENCE_S = 60.0
"""Whoever was moved and gets no state of that stage in this time takes any stage."""


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


class StageSeeker(Seeker):
    """Seeks a place in a pipeline, and settles the peer's `StageModel` there."""

    _replica: StageModel
    wish = WHOLE
    """The stage that this peer was told to serve; WHOLE: any; NO_STAGE: none."""
    moved_to: int | None = None
    """The stage that a decision sent it to."""
    n_lost = 0
    """Updates of the run that the state which was found has not seen; more than 0 only for a stage that was lost."""
    _found_none = False
    """Whether copies were offered, but none that a quorum vouches for."""
    look: Callable[[], Awaitable[Mapping[PeerId, StageRecord]]]
    """What replicas say of their speed and queues."""

    def load_checkpoint(self) -> None:
        loaded = self._folder.newest_checkpoint()
        if loaded is None:
            return
        for path, reason in loaded.rejected:
            self._warn(f"checkpoint {path.name} is not used: {reason}")
        told = loaded.checkpoint.record.get("pipeline")
        stage = told.get("stage") if isinstance(told, dict) else None
        if not isinstance(told, dict) or not isinstance(stage, int) or not self._replica.is_role(stage):
            raise InvalidManifest("the checkpoint in this folder is of no stage of this run: use another folder")
        if stage == NO_STAGE and self.wish == WHOLE:
            self.wish = NO_STAGE  # who only trained goes on so, unless it is told to serve a stage
        if self.wish not in (WHOLE, stage):
            was, wanted = (f"of stage {one}" if one != NO_STAGE else "without weights" for one in (stage, self.wish))
            self._warn(f"the checkpoint here is {was}, and one {wanted} is wanted: not used")
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
        self.n_lost, self._every_s, self._found_none = 0, SEEK_EVERY_S, False
        standing = await super().seek(member)
        if standing is not None:
            moved = self.moved_to is not None and self.moved_to == self._replica.stage
            self._tell_settled("moved" if moved else "assigned" if self.wish == WHOLE else "as told")
        return standing

    async def first(self, member: Member) -> Standing | None:
        before = self.checkpoint
        standing = await super().first(member)
        if standing is not None and standing is before:
            # In this life nobody counts on what an earlier one did alone: it is owed, and passed again.
            self._replica.start_settled()
            self._tell_settled("own checkpoint")
        return standing

    def _tell_settled(self, how: str) -> None:
        model = self._replica
        self._emit(Settled(stage=model.stage_served, n_stages=model.n_stages, step=model.step, how=how))

    def _is_on(self, roster: Roster, member: Member) -> bool:
        """A roster's word on the stage is the one that counts."""
        for named in roster.members:
            if (named.peer, named.incarnation) == (member.peer, member.incarnation):
                if self._replica.stage != named.stage and self._replica.is_role(named.stage):
                    self._replica.settle(named.stage)
                    self.forget()  # it was of another stage
                return self._replica.stage == named.stage
        return False

    def _lacks(self, members: Sequence[Member]) -> str:
        n_serving, n_stages = sum(member.serves for member in members), self._replica.n_stages
        if n_serving >= n_stages:
            return ""
        return f"{n_serving} of {len(members)} peers here would serve {n_stages} stages: the run begins when more come"

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
        active = sorted(peer for peer, claim in view.items() if claim.active and claim.lineage == lineage)
        present = await ask_present(self._network, active, lineage or b"", self._replica.n_stages)
        if present is None:
            return None
        # Everybody is asked each time: less often, the longer a group takes to give what is missing.
        self._every_s = min(SEEK_EVERY_S_MAX, SEEK_SLOWER * self._every_s)
        stage = await self._choose(present, lineage or b"")
        if stage == NO_STAGE:
            return await self._follow(active, lineage or b"")
        told = await ask_donors(self._network, active, lineage or b"", renew=self._found_none)
        if stage in present.lost:
            return await self._bring(stage, told, lineage or b"")
        self._replica.settle(stage)
        offers = donors_of(told, stage, self._replica.snapshot_bytes())
        self._found_none = bool(told) and not offers
        return await self._download(stage, offers) if offers else None

    async def _choose(self, present: Present, lineage: bytes) -> int:
        """As moved, as told, where only this peer has something to bring back, else the neediest of those served."""
        n_stages = self._replica.n_stages
        waited_s = asyncio.get_running_loop().time() - self._since_s
        if self.moved_to is not None and waited_s < MOVE_PATIENCE_S:
            return self.moved_to
        if self.wish != WHOLE:
            return self.wish
        unserved = present.unserved(n_stages)
        for stage in sorted(unserved):
            if newest_of_stage(self._folder.path, stage, lineage) is not None:
                return stage
        fleet = await self._fleet(present)
        return fleet.neediest(rather=self._replica.stage, but=unserved)

    async def _fleet(self, present: Present) -> Fleet:
        """Who else is there and answers, with what it says of its speed."""
        try:
            records = await self.look()
        except NetworkClosed:
            raise
        except GossamerError:
            records = {}
        others = [one for one in present.members if one.peer in present.answered and one.peer != self._network.peer_id]
        serving = [serving_of(member, records.get(member.peer)) for member in others]
        n_stages = self._replica.n_stages
        return Fleet(serving, n_stages, work_of_stages(serving, n_stages))

    async def _join(self) -> Standing | None:
        if self.checkpoint is not None and await self._is_needed_elsewhere(self.checkpoint):
            self.forget()
        return await super()._join()

    async def _is_needed_elsewhere(self, mine: Standing) -> bool:
        """Whether another stage needs this peer so much more than its checkpoint's that a download is worth it."""
        view, stage = self._membership.view, self._replica.stage
        active = sorted(peer for peer, claim in view.items() if claim.active and claim.lineage == mine.lineage)
        if self.wish != WHOLE or not active:
            return False
        present = await ask_present(self._network, active, mine.lineage, self._replica.n_stages)
        if present is None:
            return False
        fleet, unserved = await self._fleet(present), present.unserved(self._replica.n_stages)
        return stage not in unserved and fleet.is_better_off(stage, fleet.neediest(rather=stage, but=unserved))

    async def _follow(self, active: Sequence[PeerId], lineage: bytes) -> Resync | None:
        """Without weights there is nothing to download: where the run stands, by the word of a quorum, will do."""
        told = await ask_donors(self._network, active, lineage, renew=self._found_none)
        vouched = newest_vouched(told)
        self._found_none = bool(told) and vouched is None
        if vouched is None:
            return None
        self._replica.settle(NO_STAGE)
        try:
            self._replica.count_as(vouched.step, vouched.samples, vouched.unsettled)
        except ValueError as error:
            self._warn(str(error))
            return None
        how = f"a quorum vouches for round {vouched.offer.standing.index}; only trains"
        return Resync(standing=vouched.offer.standing, bytes=0, donors=(), how=how)

    async def _download(self, stage: int, offers: Sequence[Offer]) -> Resync | None:
        model = self._replica
        try:
            got = await download(self._network, offers)
            await self._network.compute(lambda: model.restore(got.data), model.apply_cost())
        except (ChecksumMismatch, BadTensor, PeerUnreachable):
            return None
        self.n_lost = 0
        standing = offers[0].standing
        how = f"{len(got.donors)} replicas gave the state of stage {stage} at round {standing.index}"
        return Resync(standing=standing, bytes=len(got.data), donors=got.donors, how=how)

    async def _bring(self, stage: int, told: Sequence[Vouched], lineage: bytes) -> Resync | None:
        """Nobody serves the stage: offer the newest state of it that lies here, or the initial one."""
        vouched = newest_vouched(told)
        if vouched is None:
            return None
        model, kept = self._replica, newest_of_stage(self._folder.path, stage, lineage)
        model.settle(stage)
        if kept is not None:
            model.load(dict(kept.model), dict(kept.shared), dict(kept.local))
        from_step = model.agreed_step
        if from_step > vouched.step:
            return None
        try:
            model.count_as(vouched.step, vouched.samples, vouched.unsettled)
        except ValueError as error:
            self._warn(str(error))
            return None
        self.n_lost = vouched.step - from_step
        where = "own checkpoint" if kept is not None else "initial weights"
        how = f"no replica of stage {stage} is left: {where} of step {from_step} offered for step {vouched.step}"
        return Resync(standing=vouched.offer.standing, bytes=0, donors=(), how=how)
