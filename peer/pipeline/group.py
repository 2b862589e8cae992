"""A member of a pipeline's run: the rounds of `Group`, with stages on the roster and one decision for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections.abc import Sequence
from typing import Any

from ...algorithms import Slots
from ...algorithms.pipeline.rebalancing import SAFE
from ...protocol import rounds_pb2 as rounds_pb
from ...protocol.errors import Diverged, GossamerError, NetworkError
from ...protocol.identity import PeerId
from ...protocol.network import Cost
from ..replica import Applied
from ..rounds.decision import Decision, Item
from ..rounds.group import Group
from ..rounds.leading import Leadership
from ..rounds.ledger import Committed
from ..rounds.outcome import Ending
from ..rounds.place import Place
from ..rounds.roster import Member, Roster
from ..rounds.round import Round
from ..rounds.snapshots import Snapshot, Standing
from ..rounds.spreading import FAREWELL_S
from ..rounds.transfer import Data, Proposal
from .borrowing import Borrowing
from .candidates import announced
from .changes import Brought, StageChanges, lost_stages
from .courier import Courier
from .decided import Decided
from .drafting import draft_amendment, draft_step
from .exchange import StageExchange
from .flow import is_begun_in
from .meter import Meter
from .microbatches import MicrobatchId
from .model import NOT_SERVED, StageModel
from .parts import Parts
from .planning import AFRESH, GoingOn
from .server import StageServer
from .step_plan import StepPlan
from .supply import Supply
from .training import StageTrainer, StepReport


class StageGroup(Group):
    """Runs the rounds of one peer of a pipeline.

    The digest of a standing is a chain: of the run's first roster, then of each committed decision, which names the
    digests of all stages' states. `state` is the digest of this peer's own stage.

    Args:
        n_lost: updates that this peer's state has not seen, being the best that it could bring of a lost stage.
    """

    replica: StageModel
    delegate: StageTrainer

    def __init__(self, *, courier: Courier, server: StageServer, meter: Meter, n_lost: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.changes = StageChanges(
            self.replica.n_stages,
            every_s=self.replica.manifest.pipeline.rebalance_every_s,
            restore_after_s=self.replica.manifest.pipeline.restore_after_s,
            clock=asyncio.get_running_loop().time,
            roster=self.roster,
            is_new=self.index > 0,
        )
        self.n_lost = n_lost
        self.moved_to: int | None = None
        """The stage that a decision has sent this peer to."""
        self.courier = courier
        self.server = server
        self.meter = meter
        self.borrowing = Borrowing(self.network, self.replica, meter)
        self.supply = Supply(self.replica, courier, self.delegate.warned, stop_at=self.stop_at, spawn=self.spawn)
        self.state = b""
        self.counters: tuple[PeerId, ...] = ()
        """Who counted something in the newest committed round."""
        self._going_on = AFRESH
        """How this round goes on with the step of the one before."""
        self.parts = Parts()
        """What was counted of the present step so far."""
        self._part_took_s = 0.0
        self._begun: tuple[int, float] | None = None
        """The first round of this step, and when it opened; None: before this peer came."""

    async def run(self) -> Ending:
        self.state = await self.meter.compute(self.replica.digest, self.replica.apply_cost())
        self._know_replicas()
        return await super().run()

    @property
    def places_kept(self) -> int:
        return SAFE * self.replica.n_stages

    def may_join(self, member: Member) -> bool:
        return self.replica.is_role(member.stage)

    def note_joiner(self, member: Member, request: rounds_pb.JoinRequest) -> None:
        super().note_joiner(member, request)
        self.changes.brought[member.peer] = Brought(
            member=member, state=request.state, n_lost=request.n_lost, base=request.base
        )

    def join_request(self) -> rounds_pb.JoinRequest:
        request = super().join_request()
        request.state, request.n_lost = self.state, self.n_lost
        return request

    def offered_snapshot(self) -> Snapshot | None:
        """None also while a copy would not do: of a lost stage only the present standing is of use, a stage whose
        replicas are all newer than the copy has nobody who gives it, and a quorum of its time must vouch for it."""
        snapshot, members = super().offered_snapshot(), self.roster.members
        if snapshot is None or self.n_lost:
            return None
        if lost_stages(members, self.replica.n_stages):
            return snapshot if snapshot.standing.digest == self.digest else None
        roster = snapshot.standing.roster
        still = [member for member in members if member in roster.members]
        if not roster.has_quorum(roster.slots[one.peer] for one in still):
            return None
        return None if lost_stages(still, self.replica.n_stages) else snapshot

    @property
    def resumable(self) -> Standing:
        """Before a step's first part, of which a copy of the weights has nothing."""
        return self.parts.standing or self.standing

    def wanted(self, decision: Decision, roster: Roster) -> tuple[Item, ...]:
        return tuple(item for _, item in self._of_my_stage(decision, roster))

    def _of_my_stage(self, decision: Decision, roster: Roster) -> list[tuple[int, Item]]:
        """(slot, item) of what my stage's contributors summed."""
        pairs = zip(decision.contributors, decision.items, strict=True)
        return [(slot, item) for slot, item in pairs if roster.members[slot].stage == self.replica.stage]

    # -- a round ---------------------------------------------------------------------------------

    def _open_transfer(self, round_: Round) -> StageExchange:
        if not self._going_on.turns:
            self._begun = (round_.place.index, round_.started_s)
        if self._begun is not None:
            first, round_.started_s = self._begun
            self._forget(round_, first)
        self.courier.give_up(frozenset())
        exchange = StageExchange(
            round_,
            self.replica,
            self.meter,
            self.state,
            flow=lambda exchange: self.supply.open(round_.place, exchange, goes_on=bool(self._going_on.turns)),
            tell_plan=self._tell_plan,
            finish=self.server.finish_weights,
            amend=lambda round_, leadership: draft_amendment(self, round_, leadership),
            going_on=self._going_on,
            counted=frozenset(self.parts.counted),
            part_took_s=self._part_took_s,
        )
        exchange.planning.is_awaited = lambda: bool(self.joiners) or self.wants_snapshot
        exchange.planning.is_restless = lambda: self.changes.is_restless
        exchange.planning.quorum_fraction = self.replica.manifest.group.quorum_fraction
        return exchange

    def _forget(self, round_: Round, first: int) -> None:
        """Drop what was begun before this step's first round."""
        last = round_.place.index

        def may_count(name: MicrobatchId) -> bool:
            return is_begun_in(name.take, first, last)

        round_.spawn(self.meter.compute(lambda: self.replica.forget(may_count), Cost()))

    async def _contribute(self, round_: Round) -> None:
        exchange = round_.transfer
        assert isinstance(exchange, StageExchange)
        if not exchange.goes_on:
            self.delegate.opens(self.server.tally, self.meter, self.replica.passes)
        try:
            await self._serve_version()
            await self.delegate.begin(round_.place.index, round_.place.roster, round_.place.slot)
            exchange.begin()
        except Exception as error:
            if not self._verdict.done():
                self._verdict.set_exception(error)
            raise

    def _tell_plan(self, round_: Round, plan: StepPlan) -> None:
        message = plan.to_wire(round_.place.lineage, round_.place.index).SerializeToString()
        for slot in round_.place.others:
            round_.spawn(self._bring_plan(round_, slot, plan, message))

    async def _bring_plan(self, round_: Round, slot: int, plan: StepPlan, message: bytes) -> None:
        n_tries = 0
        exchange = round_.transfer
        assert isinstance(exchange, StageExchange)
        while exchange.plan is plan and await round_.ask(slot, "stage/plan", message) is None:
            await round_.pause(n_tries)
            n_tries += 1

    def draft(self, round_: Round, proposal: Proposal | None, leadership: Leadership) -> Decision:
        return draft_step(self, round_, proposal, leadership)

    def waited_s(self, round_: Round) -> float:
        """Nobody waits for the dead: others pass their microbatches as soon as they are missed, and that is work."""
        return math.inf

    async def _serve_version(self) -> None:
        await self.borrowing.complete(self.roster, self.slot)
        self.server.moved()

    # -- after a decision ------------------------------------------------------------------------

    async def _combine(self, decision: Decision, items: Sequence[Data], slot: int | None) -> Applied | None:
        model, roster = self.replica, self.roster
        if model.serves:
            self._check_base(decision)
        digest = hashlib.sha256(self.digest + decision.encode()).digest()
        if decision.turns:
            await self._keep_part(decision, items)
            self.digest = digest
            return None
        members = [place for place, member in enumerate(roster.members) if member.stage == model.stage]
        slots = [place for place, _ in self._of_my_stage(decision, roster)]
        mine = slots.index(slot) if slot in slots else None
        names = next((count.names for count in decision.counts if count.slot == slot), ())
        counted = tuple(MicrobatchId(step=model.step, index=index, take=take) for index, take in names)
        indices = {index for count in decision.counts for index, _ in count.names} | self.parts.counted
        n_counted = sum(index < model.manifest.pipeline.microbatches for index in indices)
        before = self.parts.payloads
        places = Slots(contributors=tuple(members.index(s) for s in slots), n_members=len(members))
        decided = Decided(
            payloads=[*before, *items],
            mine=mine + len(before) if mine is not None else None,
            counted=counted,
            slots=Slots.everybody(len(before) + len(items)) if before else places,
            n_samples=n_counted * model.manifest.data.batch_size,
            counts=decision.counts,
            roster=roster,
            delay=self._delay(decision),
        )
        stepped = await self.meter.compute(lambda: model.update(decided), model.apply_cost())
        self.state, self.digest = stepped.digest, digest
        self.counters = tuple(roster.members[place].peer for place in decision.contributors)
        self.server.moved()
        flow = self.round.transfer.flow if self.round and isinstance(self.round.transfer, StageExchange) else None
        self.delegate.stepped(
            StepReport(
                round_index=self.index,
                n_counted=n_counted,
                n_made_up=len(indices) - n_counted,
                n_discarded=stepped.n_discarded,
                delay=decided.delay,
                flow=flow,
                duration_s=self.round.elapsed_s if self.round is not None else 0.0,
            ),
            self.server.tally,
            self.meter,
            model.passes,
        )
        return Applied(digest=self.digest, dropped=())

    def _check_base(self, decision: Decision) -> None:
        """Raises Diverged."""
        stage, n_stages = self.replica.stage, self.replica.n_stages
        base = decision.stage_digests[stage] if len(decision.stage_digests) == n_stages else b""
        if base != self.state:
            raise Diverged(
                f"stage {stage} goes from {base.hex()[:12]} in round {self.index}, but this peer's is "
                f"{self.state.hex()[:12]}: resynchronising"
            )

    async def _keep_part(self, decision: Decision, items: Sequence[Data]) -> None:
        indices = {index for count in decision.counts for index, _ in count.names}
        if self.round is not None and isinstance(self.round.transfer, StageExchange):
            now_s = asyncio.get_running_loop().time()
            self._part_took_s = max(0.0, now_s - self.round.transfer.counting_since_s)
        parts = self.parts
        parts.standing = parts.standing or self.standing
        parts.counted |= indices
        together = [*parts.payloads, *items]
        parts.payloads = await self.meter.compute(
            lambda: self.replica.settle_part(indices, together), self.replica.apply_cost()
        )

    def _delay(self, decision: Decision) -> float:
        """In the mean over my stage's microbatches; the same for all its replicas, whenever they apply the decision."""
        mine = {slot for slot, member in enumerate(self.roster.members) if member.stage == self.replica.stage}
        takes = [take for count in decision.counts if count.slot in mine for _, take in count.names]
        late = [take for take in takes if not is_begun_in(take, self.index, self.index)]
        return len(late) / len(takes) if takes and self.replica.works_a_step_ahead else 0.0

    async def _ending(self, committed: Committed) -> Ending | None:
        if self.moved_to is not None and not committed.decision.stop and not self.leaving:
            return Ending.MOVED
        if committed.decision.stop:
            # The final model is evaluated along the stages, so they must be served once more.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._serve_version()
        return await super()._ending(committed)

    def _advance(self, decision: Decision) -> None:
        before, slot = self.roster, self.slot
        super()._advance(decision)
        self._go_on(decision)
        self.changes.note(decision, before, self.roster)
        self.moved_to = next((move.stage for move in decision.moves if move.slot == slot), None)
        for one in decision.restored:
            if one.stage == self.replica.stage and one.state == self.state:
                self.n_lost = 0
            if one.stage in self.replica.lenders:
                # What was borrowed from it is not what it has now.
                self.replica.passes.renew(NOT_SERVED)
        self._know_replicas()

    def _go_on(self, decision: Decision) -> None:
        n_bare = self._going_on.n_bare + 1 if decision.turns and not decision.contributors else 0
        self._going_on = GoingOn(turns=decision.turns, routes=decision.routes, n_bare=n_bare)
        if not decision.turns:
            self.parts = Parts()
            return
        # Nobody had to report in this round.
        self.heard = {peer: index + 1 for peer, index in self.heard.items()}
        slot = self.slot
        if slot is None:
            self.supply.close()
        else:
            place = Place(lineage=self.lineage, index=self.index, roster=self.roster, base=self.digest, slot=slot)
            self.supply.go_on(place, self.parts.counted)

    def _know_replicas(self) -> None:
        """Whoever is on the roster serves its stage; what it says of its speed is where our own averages begin."""
        told = {peer: one.samples_per_s for peer, one in self.changes.records.items()}
        self.courier.update(announced(self.roster.members, told))

    async def take_snapshot(self, rounded: bytes | None = None) -> None:
        data = await self.meter.compute(self.replica.snapshot, self.replica.apply_cost())
        progress = (self.replica.step, self.replica.samples)
        unsettled = self.replica.unsettled_bytes()
        self.shelf.add(
            self.resumable,
            data,
            stage=self.replica.stage,
            progress=progress,
            unsettled=unsettled,
        )

    async def await_evaluation(self, timeout_s: float) -> None:
        """Stay until the final model is evaluated: that goes through our stage, too."""
        speaker = self.speaker
        if speaker is None or speaker == self.network.peer_id:
            return
        with contextlib.suppress(NetworkError, GossamerError):
            await self.network.call(speaker, "stage/evaluated", b"", timeout_s=timeout_s)

    @property
    def speaker(self) -> PeerId | None:
        """Who evaluates the final model: somebody who was there in the last round."""
        return self.counters[0] if self.counters else None
