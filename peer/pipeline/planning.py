"""The leader's side of a pipeline's step: who is given up, who passes what instead, and when all is there to count."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from ..rounds.counts import NOBODY, Countable, Route, counts_of
from ..rounds.place import Report
from ..rounds.plan import PLANS_PER_BALLOT
from ..rounds.roster import Roster
from ..rounds.round import Round
from .step_plan import StepPlan, deal_out, trainer_of

if TYPE_CHECKING:
    from .exchange import StageExchange

PARTIAL_PATIENCE = 3.0
"""After so many deadlines a step counts what is whole, if that is enough of it and nothing came in the last one."""
AMENDS_AFTER_S = 5.0
"""A roster stays as it is so long, at least, unless its step is over."""
PARTS_EVERY_S = 10.0
"""A step that takes longer is counted in parts, if its method allows that and members are being lost."""
PARTS_CALM_S = 60.0
"""The same while nobody is lost."""
PARTS_SHARE = 0.2
"""Of the time may be spent on counting parts, where gradients travel slowly."""
PARTS_MAX = 16
"""Of one step: a part is not less of it than that."""
ROUTES_MAX = 512
"""Of microbatches that a decision can tell of, since it has a longest length."""


@dataclass(frozen=True, kw_only=True)
class GoingOn:
    """How a step goes on in a further round, by a decision's word."""

    turns: tuple[int, ...] = ()
    """Who passes each microbatch, by slot; empty: the step begins."""
    routes: tuple[Route, ...] = ()
    """Of those that nobody passes: whole ones of trainers that are gone."""
    n_bare: int = 0
    """Decisions in a row that counted nothing and changed the roster alone, or asked for a snapshot."""


AFRESH = GoingOn()


class Planning:
    """Makes the plans of one round, while this member leads it."""

    def __init__(
        self, exchange: StageExchange, round_: Round, countable: Countable, going_on: GoingOn = AFRESH
    ) -> None:
        self._exchange = exchange
        self._round = round_
        self._countable = countable
        self._turns = dict(enumerate(going_on.turns))
        self._inherited = going_on.routes
        self.n_stages = countable.n_stages
        self.quorum_fraction = 0.5
        self.counts_in_parts = False
        self.part_took_s = 0.0
        """From a plan to the decision, the last time."""
        self.is_awaited: Callable[[], bool] = lambda: False
        """Whether somebody waits for the roster to change."""
        self.is_restless: Callable[[], bool] = lambda: True
        """Whether members were lost in the last minutes."""
        self._n_whole = 0
        self._opened_s = self.progressed_s = round_.elapsed_s
        """When one more microbatch was whole, after the step began."""

    def next_plan(self, plan: StepPlan | None, reports: Mapping[int, Report]) -> StepPlan | None:
        """A plan if a new one is due.

        Args:
            plan: the one that is followed.
            reports: of members that share my base.
        """
        dead = self._dead(reports)
        if plan is not None and plan.counts and not any(count.slot in dead for count in plan.counts):
            return None
        routes = self._whole(reports, dead)
        missing = self._missing(routes)
        n_whole = len(self._countable.counted) + sum(index < self._countable.n_microbatches for index in routes)
        self._note_progress(n_whole)
        if routes and (not missing or self._settles_for(n_whole, self._countable.n_microbatches)):
            gathered = [slot for slot in self._exchange.holders if slot not in dead]
            counts = counts_of(list(routes.values()), self._countable, gathered)
            return self._numbered(plan, StepPlan(attempt=0, dead=dead, counts=counts))
        deals, turns = dict(plan.deals) if plan is not None else {}, self.turns(plan)
        orphans = [index for index in missing if turns[index] == NOBODY or turns[index] in dead]
        living = [slot for slot in self._round.live() if slot not in dead]
        if orphans and living:
            load = Counter(turns[index] for index in missing)
            deals.update(deal_out(orphans, self._round.place.roster, living, load))
        is_part = self._round.place.roster.has_quorum(reports) and self._is_part_due(len(routes))
        counts = counts_of(list(routes.values()), self._countable) if is_part else ()
        made = StepPlan(attempt=0, dead=dead, deals=tuple(sorted(deals.items())), counts=counts, part=is_part)
        is_news = plan is not None and (bool(plan.counts) or (plan.dead, plan.deals) != (made.dead, made.deals))
        return self._numbered(plan, made) if is_part or is_news or (plan is None and (dead or deals)) else None

    def turns(self, plan: StepPlan | None) -> tuple[int, ...]:
        """Who passes each microbatch, by slot."""
        dealt = {**self._turns, **dict(plan.deals if plan is not None else ())}
        return tuple(trainer_of(index, self._round.place.roster, dealt) for index in range(self._countable.n))

    def going_on(self, plan: StepPlan | None, reports: Mapping[int, Report], after: Roster) -> GoingOn:
        """What a decision says by which the step goes on."""
        before = self._round.place.roster
        slots = {member: slot for slot, member in enumerate(after.members)}
        stay = {slot: slots[member] for slot, member in enumerate(before.members) if member in slots}
        turns = [stay.get(slot, NOBODY) for slot in self.turns(plan)]
        counted = {index for count in (plan.counts if plan is not None else ()) for index, _ in count.names}
        whole = self._whole(reports, self._dead(reports))
        missing = [index for index in self._missing(whole) if index not in counted]
        left = [index for index, slot in enumerate(turns) if slot == NOBODY]
        kept = [whole[index] for index in left if index in whole and index not in counted]
        kept = [route for route in kept if all(slot in stay for slot in route.slots)][:ROUTES_MAX]
        routes = {route.index: replace(route, slots=tuple(stay[slot] for slot in route.slots)) for route in kept}
        load = Counter(turns[index] for index in missing)
        dealt = deal_out([index for index in left if index not in routes], after, list(stay.values()), load)
        passing = [dealt.get(index, slot) for index, slot in enumerate(turns)]
        return GoingOn(turns=tuple(passing), routes=tuple(routes.values()))

    def stage_digests(self, reports: Mapping[int, Report]) -> tuple[bytes, ...]:
        """What most replicas of each stage start from; empty for a stage of which nothing was heard."""
        members = self._round.place.roster.members
        told: list[Counter[bytes]] = [Counter() for _ in range(self.n_stages)]
        for slot in sorted(reports):
            stage, state = members[slot].stage, reports[slot].state
            if state and 0 <= stage < self.n_stages:
                told[stage][state] += 1
        return tuple(max(one, key=lambda state: (one[state], state)) if one else b"" for one in told)

    def _dead(self, reports: Mapping[int, Report]) -> tuple[int, ...]:
        """Whose gradients cannot count: out of reach, unable to sum them, or with another state than most, which is not
        known before a quorum has reported."""
        roster = self._round.place.roster
        digests, members, is_known = self.stage_digests(reports), roster.members, roster.has_quorum(reports)
        gone = [slot for slot in range(len(members)) if slot in self._round.suspects]
        unable = [slot for slot, report in reports.items() if slot in report.lost]
        strays = [
            slot
            for slot, report in reports.items()
            if is_known and 0 <= members[slot].stage < self.n_stages and report.state != digests[members[slot].stage]
        ]
        return tuple(sorted({*gone, *unable, *strays}))

    def _whole(self, reports: Mapping[int, Report], dead: tuple[int, ...]) -> dict[int, Route]:
        """A route that can count for each microbatch that has one."""
        found: dict[int, Route] = {}
        for route in chain(*(reports[slot].routes for slot in sorted(reports)), self._inherited):
            is_open = route.index not in found and route.index not in self._countable.counted
            if is_open and self._is_usable(route) and not set(route.slots) & set(dead):
                found[route.index] = route
        return found

    def _missing(self, routes: Container[int]) -> list[int]:
        open_ = (index for index in range(self._countable.n) if index not in self._countable.counted)
        return [index for index in open_ if index not in routes]

    def _is_part_due(self, n_whole: int) -> bool:
        """Whether a part of the step is to be counted now: what is counted is safe from the deaths that follow."""
        since_s = self._round.elapsed_s - self._opened_s
        is_worth_it = n_whole >= max(1, self._countable.n_microbatches // PARTS_MAX)
        every_s = max(self._parts_every_s(), self.part_took_s / PARTS_SHARE)
        return self.counts_in_parts and is_worth_it and since_s >= every_s

    def _parts_every_s(self) -> float:
        if self.is_awaited():
            return AMENDS_AFTER_S
        return PARTS_EVERY_S if self._round.suspects or self.is_restless() else PARTS_CALM_S

    def _is_usable(self, route: Route) -> bool:
        members = self._round.place.roster.members
        if route.index >= self._countable.n or len(route.slots) != self.n_stages:
            return False
        return all(slot < len(members) and members[slot].stage == stage for stage, slot in enumerate(route.slots))

    def _patience_s(self) -> float:
        leading = self._round.leadership
        return leading.patience_s if leading is not None else self._round.patience_s

    def _settles_for(self, n_whole: int, n: int) -> bool:
        enough, patience_s = n_whole >= max(1, math.ceil(self.quorum_fraction * n)), self._patience_s()
        stalled_s = self._round.elapsed_s - self.progressed_s
        return enough and self._round.elapsed_s >= PARTIAL_PATIENCE * patience_s and stalled_s >= patience_s

    def _note_progress(self, n_whole: int) -> None:
        if n_whole > self._n_whole:
            self.progressed_s = self._round.elapsed_s
        self._n_whole = n_whole

    def _numbered(self, plan: StepPlan | None, made: StepPlan) -> StepPlan | None:
        first = self._round.ballot * PLANS_PER_BALLOT
        attempt = max(first, plan.attempt + 1) if plan is not None else first + 1
        if attempt >= first + PLANS_PER_BALLOT:
            return None
        return replace(made, attempt=attempt)
