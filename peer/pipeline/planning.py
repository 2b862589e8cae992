"""The leader's side of a pipeline's step: who is given up, who passes what instead, and when all is there to count."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..rounds.counts import Countable, Route, counts_of
from ..rounds.place import Report
from ..rounds.plan import PLANS_PER_BALLOT
from ..rounds.round import Round
from .step_plan import StepPlan, deal_out, trainer_of

if TYPE_CHECKING:
    from .exchange import StageExchange

PARTIAL_PATIENCE = 3.0
"""After so many deadlines a step counts what is whole, if that is enough of it."""


class Planning:
    """Makes the plans of one round, while this member leads it."""

    def __init__(self, exchange: StageExchange, round_: Round, countable: Countable) -> None:
        self._exchange = exchange
        self._round = round_
        self._countable = countable
        self.n_stages = countable.n_stages
        self.quorum_fraction = 0.5

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
        missing = [index for index in range(self._countable.n) if index not in routes]
        n_whole = sum(index < self._countable.n_microbatches for index in routes)
        if not missing or self._settles_for(n_whole, self._countable.n_microbatches):
            gathered = [slot for slot in self._exchange.holders if slot not in dead]
            counts = counts_of(list(routes.values()), self._countable, gathered)
            return self._numbered(plan, StepPlan(attempt=0, dead=dead, counts=counts))
        deals = dict(plan.deals) if plan is not None else {}
        roster = self._round.place.roster
        orphans = [index for index in missing if trainer_of(index, roster, deals) in dead]
        living = [slot for slot in self._round.live() if slot not in dead]
        if orphans and living:
            deals = deal_out(orphans, roster, living, deals)
        made = StepPlan(attempt=0, dead=dead, deals=tuple(sorted(deals.items())))
        is_news = plan is not None and (bool(plan.counts) or (plan.dead, plan.deals) != (made.dead, made.deals))
        return self._numbered(plan, made) if is_news or (plan is None and (dead or deals)) else None

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
        digests, members, is_known = self.stage_digests(reports), roster.members, len(reports) >= roster.quorum
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
        for slot in sorted(reports):
            for route in reports[slot].routes:
                if route.index not in found and self._is_usable(route) and not set(route.slots) & set(dead):
                    found[route.index] = route
        return found

    def _is_usable(self, route: Route) -> bool:
        members = self._round.place.roster.members
        if route.index >= self._countable.n or len(route.slots) != self.n_stages:
            return False
        return all(slot < len(members) and members[slot].stage == stage for stage, slot in enumerate(route.slots))

    def _settles_for(self, n_whole: int, n: int) -> bool:
        enough = n_whole >= max(1, math.ceil(self.quorum_fraction * n))
        return enough and self._round.elapsed_s >= PARTIAL_PATIENCE * self._round.patience_s

    def _numbered(self, plan: StepPlan | None, made: StepPlan) -> StepPlan | None:
        first = self._round.ballot * PLANS_PER_BALLOT
        attempt = max(first, plan.attempt + 1) if plan is not None else first + 1
        if attempt >= first + PLANS_PER_BALLOT:
            return None
        return StepPlan(attempt=attempt, dead=made.dead, deals=made.deals, counts=made.counts)
