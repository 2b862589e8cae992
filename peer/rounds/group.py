"""A peer's membership of a group: round after round, applied in order, or followed from outside until it is let in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from ...algorithms import Exchange, Slots, TooFewContributions
from ...protocol import rounds_pb2 as pb
from ...protocol.errors import Diverged
from ...protocol.identity import Identity, PeerId
from ...protocol.network import Network
from ..replica import Applied, Replica
from .backup import Backup
from .catchup import CatchUp
from .concluding import outcome_of
from .decision import LATE, Decision, Item
from .delegate import Delegate
from .drafting import draft
from .forking import Forking
from .gather import Gather
from .leading import Leadership
from .learning import learn
from .ledger import Committed, Ledger
from .lines import Uplink
from .opening import open_round
from .outcome import Ending
from .patience import Patience
from .place import Rules
from .reduce import Reduce
from .reducing import Units
from .roster import WHOLE, Member, Roster
from .round import Round
from .snapshots import Shelf, Snapshot, Standing
from .spreading import spread, tell_stop
from .transfer import Data, Proposal, Transfer


class Group:
    """Runs the rounds of one peer. `service.serve_group` answers other peers on its behalf.

    Args:
        member: this peer in its present life.
        standing: where to begin; `replica` holds that state.
        stop_at: updates after which the run's stop is committed.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        network: Network,
        replica: Replica,
        rules: Rules,
        member: Member,
        standing: Standing,
        delegate: Delegate,
        stop_at: int,
        peers_max: int = 32,
    ) -> None:
        self.identity = identity
        self.network = network
        self.replica = replica
        self.rules = rules
        self.member = member
        self.delegate = delegate
        self.stop_at = stop_at
        self.peers_max = peers_max
        self.lineage, self.index = standing.lineage, standing.index
        self.roster, self.digest = standing.roster, standing.digest
        self.ledger = Ledger()
        self.shelf = Shelf()
        self.patience = Patience(floor_s=rules.patience_floor_s, initial_s=rules.patience_initial_s)
        self.uplink = Uplink()
        self.backup = Backup(rules)
        self.joiners: dict[PeerId, Member] = {}
        self.heard: dict[PeerId, int] = {}
        """peer -> the last round in which it was heard of."""
        self.wants_snapshot = False
        self.stopped = False
        """Whether the run's stop was applied here: no round will take a snapshot any more."""
        self.leaving = False
        self.round: Round | None = None
        self.catch_up = CatchUp(self)
        self.forking = Forking(self)
        self._verdict: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._moved = asyncio.Event()
        self._background: asyncio.TaskGroup | None = None

    @property
    def standing(self) -> Standing:
        return Standing(lineage=self.lineage, index=self.index, roster=self.roster, digest=self.digest)

    @property
    def resumable(self) -> Standing:
        """Where who has this peer's state, and nothing else, can go on from."""
        return self.standing

    @property
    def slot(self) -> int | None:
        """My slot in the current roster, if I am in it in this life."""
        return self.roster.members.index(self.member) if self.member in self.roster.members else None

    @property
    def decides(self) -> bool:
        """Whether, as far as this peer sees, its roster can decide another round, and it has a place in it. Who merely
        follows a lineage does not know whether that still lives."""
        return self.slot is not None and (self.round is None or self.roster.has_quorum(self.round.live()))

    def leave(self) -> None:
        """Ask to be taken off the roster; `run` ends when that is committed."""
        self.leaving = True
        if self.round is not None:
            self.round.wake()

    def end(self, ending: Ending) -> None:
        """End at once: another lineage has won, or what this peer missed is not kept any more."""
        if not self._verdict.done():
            self._verdict.set_result(ending)

    @property
    def running(self) -> bool:
        """Whether what is spawned now will be run."""
        return self._background is not None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run something that ends with the group at the latest; None if that is over."""
        if self._background is None:
            work.close()
            return None
        return self._background.create_task(work)

    # -- the rounds ------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """Take part until the run stops, this peer leaves, or it must resynchronise."""
        rounds = asyncio.create_task(self._rounds())
        try:
            await asyncio.wait([rounds, self._verdict], return_when=asyncio.FIRST_COMPLETED)  # noqa: TID251 - a list
            return rounds.result() if rounds.done() else self._verdict.result()
        finally:
            rounds.cancel()
            await asyncio.gather(rounds, return_exceptions=True)

    async def _rounds(self) -> Ending:
        async with asyncio.TaskGroup() as self._background:
            anchor = self._background.create_task(asyncio.Event().wait())
            try:
                ending = None
                while ending is None:
                    ending = await self._one_round()
                return ending
            finally:
                anchor.cancel()
                self._end_background()

    def _end_background(self) -> None:
        group, self._background = self._background, None
        for task in list(getattr(group, "_tasks", ())):
            task.cancel()

    async def _one_round(self) -> Ending | None:
        committed = await (self._take_part() if self.slot is not None else self.catch_up.follow())
        if committed is None:  # forked: the same round again, in the new lineage
            return None
        if isinstance(committed, Ending):
            return committed
        round_, slot = self.round, self.slot
        if round_ is not None and slot == round_.place.leader_of(committed.certificate.ballot):
            spread(self, committed)
        items = await self.catch_up.collect(committed, self.wanted(committed.decision, committed.roster))
        if items is None:
            return Ending.LOST
        try:
            await self._apply(committed, items, round_, slot)
        except Diverged as error:
            self.delegate.warned(str(error))
            return Ending.LOST
        return await self._ending(committed)

    async def _take_part(self) -> Committed | None:
        round_ = self.round = open_round(self)
        round_.transfer = self._open_transfer(round_)
        self.catch_up.recall(round_)
        self._announce_move()
        work = asyncio.create_task(self._contribute(round_))
        fork = asyncio.create_task(self.forking.watch(round_))
        conclude = asyncio.create_task(round_.conclude())
        try:
            await asyncio.wait([conclude, fork], return_when=asyncio.FIRST_COMPLETED)  # noqa: TID251 - a list
            if self.lineage != round_.place.lineage:
                return None
            return conclude.result()
        finally:
            for task in (work, fork, conclude):
                task.cancel()
            await asyncio.gather(work, fork, conclude, return_exceptions=True)
            round_.close()

    def _open_transfer(self, round_: Round) -> Transfer:
        if self.replica.exchange is Exchange.GATHER:
            return Gather(round_, self.replica.check)
        units = Units(self.replica.unit_bytes, self.replica.vector_length)
        return Reduce(round_, units, self.replica.reduce, self.uplink)

    async def _contribute(self, round_: Round) -> None:
        """Nothing usable to contribute leaves this peer out of the round; any other failure ends the group."""
        place, agree = round_.place, round_.agreement.maximum
        try:
            round_.offer(await self.delegate.contribute(place.index, place.roster, place.slot, agree))
        except ValueError as error:
            self.delegate.warned(f"no contribution to round {place.index}: {error}")
        except Exception as error:
            if not self._verdict.done():
                self._verdict.set_exception(error)
            raise

    def draft(self, round_: Round, proposal: Proposal | None, leadership: Leadership) -> Decision:
        return draft(self, round_, proposal, leadership)

    # -- after a decision ------------------------------------------------------------------------

    async def _apply(self, committed: Committed, items: Sequence[Data], round_: Round | None, slot: int | None) -> None:
        decision = committed.decision
        if decision.base != self.digest:
            raise Diverged(
                f"round {self.index} starts from {decision.base.hex()[:12]}, but this peer's state is "
                f"{self.digest.hex()[:12]}: resynchronising"
            )
        n_steps, collected_s = self.replica.steps, asyncio.get_running_loop().time()
        applied = await self._combine(decision, items, slot) if decision.contributors else None
        rounded = await self._round_off() if decision.snapshot and not decision.stop else None
        outcome = outcome_of(self, committed, applied, round_, collected_s=collected_s, n_steps=n_steps)
        mine = self.wanted(decision, committed.roster)
        self.ledger.append(committed, {item.hash: data for item, data in zip(mine, items, strict=True)})
        if round_ is not None:
            learn(self, round_, outcome, n_steps)
        self._advance(decision)
        if decision.snapshot and not decision.stop:
            await self.take_snapshot(rounded)
        await self.delegate.concluded(outcome, self.roster)

    def waited_s(self, round_: Round) -> float:
        """How long a round may have waited for members that were not there."""
        return round_.patience_s

    def wanted(self, decision: Decision, roster: Roster) -> tuple[Item, ...]:
        """The items that this member applies."""
        return decision.items

    def may_join(self, member: Member) -> bool:
        """Whether a newcomer asks for a place that there is."""
        return member.stage == WHOLE

    @property
    def places_kept(self) -> int:
        """On a full roster, for members that hold weights."""
        return 0

    def note_joiner(self, member: Member, request: pb.JoinRequest) -> None:
        """A newcomer asks for a place, and has said nothing wrong."""
        self.joiners[member.peer] = member
        if self.round is not None:
            self.round.wake()

    def want_snapshot(self) -> None:
        """A newcomer asks for a copy of the state, and there is none."""
        self.wants_snapshot = True
        if self.round is not None:
            self.round.wake()

    def join_request(self) -> pb.JoinRequest:
        """What this peer asks with, while it is not on the roster."""
        return pb.JoinRequest(member=self.member.to_wire(), lineage=self.lineage, round=self.index, base=self.digest)

    def offered_snapshot(self) -> Snapshot | None:
        """The copy that a newcomer gets; None: a new one is to be taken."""
        return self.shelf.newest(self.lineage, self.ledger.first_round, self.index)

    async def _combine(self, decision: Decision, items: Sequence[Data], slot: int | None) -> Applied | None:
        """Update the replica; None if the method cannot make an update of these contributions, on no replica then."""
        mine = decision.contributors.index(slot) if slot in decision.contributors else None
        slots = Slots(contributors=decision.contributors, n_members=len(self.roster))
        payloads = list(items) if self.replica.exchange is Exchange.GATHER else [self._joined(decision, items)]

        def work() -> Applied:
            return self.replica.apply(payloads, mine, slots)

        try:
            applied = await self.network.compute(work, self.replica.apply_cost())
        except TooFewContributions as error:
            self.delegate.warned(f"round {self.index} failed: {error}")
            return None
        self.digest = applied.digest
        return applied

    def _joined(self, decision: Decision, items: Sequence[Data]) -> Data:
        whole = self.round.transfer.whole(decision.items) if self.round is not None else None
        return whole if whole is not None else b"".join(items)

    def _advance(self, decision: Decision) -> None:
        self.backup.concluded(self.roster.peers[slot] for slot, reason in decision.excluded if reason == LATE)
        self.roster = decision.next_roster(self.roster)
        self.index += 1
        self.round = None
        for member in self.roster.members:
            self.joiners.pop(member.peer, None)
            self.heard.setdefault(member.peer, self.index)
        if decision.snapshot:
            self.wants_snapshot = False
        self._announce_move()

    async def _round_off(self) -> bytes | None:
        """A copy in the run's codec, to which this replica's state is rounded; None where copies are exact."""
        if self.replica.rounding is None:
            return None
        copied = await self.network.compute(self.replica.round_off, self.replica.apply_cost())
        self.digest = copied.digest
        return copied.data

    async def take_snapshot(self, rounded: bytes | None = None) -> None:
        """Keep a copy of the present state for newcomers.

        Args:
            rounded: the copy, if the state was rounded to it.
        """
        if rounded is not None:
            self.shelf.add(self.standing, rounded, rounded=True)
        else:
            data = await self.network.compute(self.replica.snapshot, self.replica.apply_cost())
            self.shelf.add(self.standing, data)

    async def _ending(self, committed: Committed) -> Ending | None:
        if committed.decision.stop:
            self.stopped = True
            await tell_stop(self, committed)
            return Ending.STOPPED
        return Ending.LEFT if self.leaving and self.slot is None else None

    # -- for handlers ----------------------------------------------------------------------------

    def _announce_move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def reached(self, index: int, timeout_s: float) -> bool:
        """Wait until round `index` is open here, or over. False if that does not happen in time."""
        if self._is_at(index):
            return True
        try:
            async with asyncio.timeout(timeout_s):
                while not self._is_at(index):
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def _is_at(self, index: int) -> bool:
        return self.index > index or (self.index == index and (self.round is not None or self.slot is None))

    def adopt(self, standing: Standing) -> None:
        """Go over to a forked lineage: same state, new roster."""
        old = self.standing
        self.lineage, self.roster = standing.lineage, standing.roster
        self.ledger.clear()
        self.catch_up.forget()
        self.joiners.clear()  # who asked for a place in the old lineage follows that one, and would not take part here
        self.delegate.forked(old, standing)
