"""One replica's side of one step: what it counts by the plan, what its stage's other replicas offer, what is proposed.

Payloads go to the replicas of the same stage only; reports, plans and the decision are run-wide.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import InvalidMessage, RoundError
from ...protocol.network import Cost
from ..rounds.counts import Countable, check_counts
from ..rounds.decision import Decision, Item
from ..rounds.gather import Gather
from ..rounds.leading import FAIL_PATIENCE, Leadership
from ..rounds.place import Report
from ..rounds.round import Round
from ..rounds.transfer import Proposal
from .changes import lost_stages
from .flow import Flow
from .lending import Lending
from .meter import Meter
from .microbatches import MicrobatchId
from .model import F32, StageModel
from .planning import AFRESH, AMENDS_AFTER_S, PARTS_CALM_S, PARTS_EVERY_S, GoingOn, Planning
from .proposing import proposable
from .step_plan import StepPlan

BARE_MAX = 3
"""Decisions in a row that count nothing: who is let in may not bring what a step lacks, and then it must fail."""
TELLS_EVERY_S = 5.0
"""The leader is told of microbatches that are whole so often, before all of a trainer's are."""


class StageExchange(Gather):
    """The exchange of one round of a pipeline.

    Args:
        state: digest of this replica's state.
        tell_plan: brings a plan to all other members, until it has arrived or is not wanted any more.
        finish: computes what is still missing of the gradients that are held, of some microbatches.
        amend: drafts a decision that changes the roster alone, if somebody waits for that.
        going_on: how, if the step was begun in an earlier round.
        counted: microbatches that earlier rounds have counted.
        part_took_s: to count a part of a step, the last time.
    """

    def __init__(
        self,
        round_: Round,
        model: StageModel,
        meter: Meter,
        state: bytes,
        *,
        flow: Callable[[StageExchange], Flow],
        tell_plan: Callable[[Round, StepPlan], None],
        finish: Callable[[Collection[MicrobatchId]], Awaitable[None]],
        amend: Callable[[Round, Leadership], Decision | None] = lambda round_, leadership: None,
        going_on: GoingOn = AFRESH,
        counted: frozenset[int] = frozenset(),
        part_took_s: float = 0.0,
    ) -> None:
        super().__init__(round_, model.check)
        self._model = model
        self._meter = meter
        self._state = state
        self._tell_plan = tell_plan
        self._finish = finish
        self._step = model.step
        self._stage = model.stage
        roster = round_.place.roster
        self.owed = model.owed(roster)
        """Microbatches of earlier steps that this one makes up for."""
        self.holders = model.holders(roster) if model.gathers else ()
        """Slots that offer what they did before, whether or not they count anything now."""
        self.countable = Countable(
            n_stages=model.n_stages,
            n_microbatches=model.manifest.pipeline.microbatches,
            owed=tuple(one.stage for one in self.owed),
            counted=counted,
            gathers=model.gathers,
        )
        self.plan: StepPlan | None = None
        self.counting_since_s = math.inf
        """When the plan came, if it says what counts."""
        self.flow = flow(self)
        self.lending = Lending(round_, model)
        self.planning = Planning(self, round_, self.countable, going_on)
        self.planning.counts_in_parts, self.planning.part_took_s = model.counts_in_parts, part_took_s
        self.goes_on = bool(going_on.turns)
        self._n_bare = going_on.n_bare
        self._amend = amend
        self._opened_s = self._told_s = asyncio.get_running_loop().time()
        self._announced: dict[tuple[int, bytes], int] = {}
        """(slot, hash) of an offer -> the newest plan that it was sent for."""
        self._attempts: dict[int, int] = {}
        """Slot -> the plan that its newest offer is for."""
        self._unable = False

    def begin(self) -> None:
        """Pass the microbatches that are mine by turns."""
        place = self._round.place
        mine = [index for index, slot in enumerate(self.planning.turns(None)) if slot == place.slot]
        if not (self.goes_on and self.flow.is_begun):
            self.flow.begin_own(mine)
        else:
            for index in mine:
                self.flow.begin(index)

    def changed(self) -> None:
        """A microbatch is whole, or no longer."""
        self._round.wake()

    # -- the plan --------------------------------------------------------------------------------

    def follow(self, plan: StepPlan) -> None:
        """A newer plan takes the place of the one before."""
        if self.plan is not None and plan.attempt <= self.plan.attempt:
            return
        if self.plan is not None and plan.ballot > self.plan.ballot:
            self._unable = False  # what the leader before wanted counted was perhaps nowhere
        self.plan = plan
        self.counting_since_s = asyncio.get_running_loop().time() if plan.counts else math.inf
        place = self._round.place
        self.flow.mend([place.roster.members[slot].peer for slot in plan.dead])
        for index, slot in plan.deals:
            if slot == place.slot:
                self.flow.begin(index)
        if any(count.slot == place.slot for count in plan.counts):
            self._round.spawn(self._contribute(plan))
        self._round.wake()

    async def _contribute(self, plan: StepPlan) -> None:
        names = tuple(
            MicrobatchId(step=self._step, index=index, take=take)
            for index, take in plan.names_of(self._round.place.slot)
        )
        try:
            await self._finish(names)
            cost = Cost(flops=2.0 * len(names) * self._model.n_params)
            summed = await self._meter.compute(lambda: self._model.sums(names), cost)
            self.lending.lend(plan, summed)
            lent = await self.lending.awaited(plan)
            payload = await self._encoded(plan, lambda: self._model.prepare(names, summed, lent))
        except (RoundError, ValueError) as error:
            self._round.warn(f"nothing to count in round {self._round.place.index}: {error}")
            self._unable = True
            self._round.wake()
            return
        if payload is not None and self.plan is plan:
            self._attempts[self._round.place.slot] = plan.attempt
            self._round.offer(payload)

    async def _encoded(self, plan: StepPlan, prepare: Callable[[], F32]) -> bytes | None:
        """The payload, once the stage's contributors have agreed on what it takes; None if the plan is not followed any
        more. While they agree, nothing else is prepared but for a newer plan."""
        model = self._model
        if self.plan is not plan:
            return None
        floats = await self._meter.compute(prepare, model.encode_cost())
        among = plan.contributors(self._round.place.roster, self._stage)
        agreed = await self._round.agreement.maximum(floats, among=among)
        if self.plan is not plan:
            return None
        return await self._meter.compute(lambda: model.encode(agreed), model.encode_cost())

    # -- the stage's offers ----------------------------------------------------------------------

    def mates(self) -> Sequence[int]:
        members = self._round.place.roster.members
        return [slot for slot in self._round.place.others if members[slot].stage == self._stage]

    def _admit(self, slot: int, item: Item, attempt: int) -> None:
        if self._round.place.roster.members[slot].stage != self._stage:
            raise InvalidMessage(f"slot {slot} serves another stage than {self._stage}, and offers here: refused")
        self._announced[slot, item.hash] = max(attempt, self._announced.get((slot, item.hash), 0))

    def _keep(self, slot: int, item: Item, payload: bytes) -> None:
        attempt = self._announced.get((slot, item.hash), self.attempt)
        self._bytes[item.hash] = payload
        if attempt >= self._attempts.get(slot, 0):
            self._attempts[slot] = attempt
            self._held[slot] = item
            self._last_arrival_s = asyncio.get_running_loop().time()
            self._round.note_arrival(slot)

    @property
    def attempt(self) -> int:
        return self.plan.attempt if self.plan is not None else 0

    def held(self) -> dict[int, Item]:
        """Of the plan's contributors at my stage, what is here for this very plan."""
        if self.plan is None:
            return {}
        slots = self.plan.contributors(self._round.place.roster, self._stage)
        return {
            slot: self._held[slot]
            for slot in slots
            if slot in self._held and self._attempts.get(slot) == self.plan.attempt
        }

    # -- reports ---------------------------------------------------------------------------------

    @property
    def lost(self) -> Sequence[int]:
        return (self._round.place.slot,) if self._unable else ()

    @property
    def news(self) -> Hashable:
        return self.flow.routes(), self.attempt, self._unable

    def stuck(self, live: Sequence[int]) -> bool:
        """Whether some stage has no living replica."""
        members = self._round.place.roster.members
        return bool(lost_stages([members[slot] for slot in live], self._model.n_stages))

    def complete(self, live: Sequence[int]) -> bool:
        if self.stuck(live):
            return True
        if self.plan is None or not self.plan.counts:
            return self.flow.whole or self._unable or self._is_much_untold()
        wanted = self.plan.contributors(self._round.place.roster, self._stage)
        return len(self.held()) == len(wanted) or self._unable

    def _is_much_untold(self) -> bool:
        """Who dies before it has told of its routes has passed its microbatches in vain."""
        return asyncio.get_running_loop().time() >= self._told_s + TELLS_EVERY_S

    def complete_hold(self, hold: pb.Hold) -> None:
        self._told_s = asyncio.get_running_loop().time()
        hold.routes.extend(route.to_wire() for route in self.flow.routes())
        hold.state, hold.patience_s = self._state, self._round.patience_s

    # -- the leader ------------------------------------------------------------------------------

    def oversee(self, reports: Mapping[int, Report]) -> None:
        """Others pass what the dead held as soon as they are missed, not when most have nothing else left to do."""
        plan = self.planning.next_plan(self.plan, reports)
        if plan is not None:
            self.follow(plan)
            self._tell_plan(self._round, plan)

    def amendment(self, leadership: Leadership) -> Decision | None:
        """While microbatches are missing, and if no stage is lost: what to do then is another question."""
        is_counting = self.plan is not None and bool(self.plan.counts)
        is_early = asyncio.get_running_loop().time() < self._opened_s + AMENDS_AFTER_S
        if is_counting or is_early or self._n_bare >= BARE_MAX:
            return None
        if not self._model.steps_go_on or self.stuck(self._round.live()):
            return None
        return self._amend(self._round, leadership)

    def alarms_s(self, patience_s: float) -> Sequence[float]:
        waiting = (self._round.rules.patience_floor_s, patience_s, FAIL_PATIENCE * patience_s)
        stalled_s = self._round.started_s + self.planning.progressed_s
        return [
            self._opened_s + AMENDS_AFTER_S,
            self._opened_s + PARTS_EVERY_S,
            self._opened_s + PARTS_CALM_S,
            *(stalled_s + wait_s for wait_s in waiting),
        ]

    def close(self) -> None:
        decided = self._round.decided
        goes_on = decided.done() and bool(decided.result().decision.turns)
        if not goes_on:
            self.flow.close()

    def stalled_s(self, elapsed_s: float) -> float:
        return elapsed_s - self.planning.progressed_s

    def ready(self, reports: Mapping[int, Report]) -> Sequence[int]:
        return ()

    def proposal(
        self, reports: Mapping[int, Report], live: Sequence[int], quorum: int, *, late: bool
    ) -> Proposal | None:
        if self.plan is None:
            return None
        return proposable(self.plan, self._round.place.roster, reports, self._round.live())

    def refuse(self, decision: Decision, ballot: int) -> None:
        if decision.contributors:
            check_counts(decision.counts, self._round.place.roster, self.countable)
        may_go_on = self._model.counts_in_parts if decision.contributors else self._model.steps_go_on
        if decision.turns and not (may_go_on and len(decision.turns) == self.countable.n):
            raise InvalidMessage(f"a decision by which {len(decision.turns)} microbatches go on: refused")
        named = [move.stage for move in decision.moves] + [one.stage for one in decision.restored]
        if any(stage >= self._model.n_stages for stage in named):
            raise InvalidMessage(f"a decision about stage {max(named)}, which is not in this run: refused")
