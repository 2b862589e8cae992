"""When the leader of a dense round makes a plan, and when it makes another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .decision import Item
from .lines import shares
from .place import Report
from .plan import PLANS_PER_BALLOT, Plan

if TYPE_CHECKING:
    from .round import Round

REPLAN_PATIENCE_MIN_S = 2.0


class Replanning:
    """The leader's side of the plans of one round."""

    def __init__(self, round_: Round, length: int) -> None:
        self._round = round_
        self._length = length
        self._planned_s = 0.0
        self._accused: list[int] = []
        """Members whom others cannot reach; left out of all further plans of this round."""

    def next_plan(
        self,
        plan: Plan | None,
        parts: Mapping[int, Item],
        reports: Mapping[int, Report],
        awaited: Sequence[int],
        *,
        late: bool,
    ) -> Plan | None:
        """A plan if a new one is due.

        Args:
            plan: the one that is followed.
            parts: what I hold of it.
            awaited: living members whose contribution is worth waiting for.
        """
        ready = [slot for slot in awaited if slot in reports and reports[slot].ready]
        ballot_start = self._round.ballot * PLANS_PER_BALLOT
        if plan is None or plan.attempt < ballot_start:
            usable = self._usable(ready, reports)
            if not usable or not (late or len(ready) == len(awaited)):
                return None
            if plan is not None:
                return self._noted(plan.mended(ballot_start, usable))
            wanted = shares([reports[slot].bytes_per_s for slot in usable])
            return self._noted(Plan.of(ballot_start, usable, self._length, wanted))
        self._hear_complaints(plan, reports)
        usable = self._usable(ready, reports)
        n_left = ballot_start + PLANS_PER_BALLOT - 1 - plan.attempt
        if usable and n_left > 0 and self._is_spoilt(plan, parts, reports, usable):
            return self._noted(plan.mended(plan.attempt + 1, usable))
        return None

    def _usable(self, ready: Sequence[int], reports: Mapping[int, Report]) -> list[int]:
        refused = {slot for report in reports.values() for slot in report.refused}
        return [slot for slot in ready if slot not in refused and slot not in self._accused]

    def _noted(self, plan: Plan) -> Plan:
        self._planned_s = asyncio.get_running_loop().time()
        return plan

    def _hear_complaints(self, plan: Plan, reports: Mapping[int, Report]) -> None:
        """Who cannot be reached by somebody is accused; but who reaches only a minority is out of reach itself."""
        me, n_others = self._round.place.slot, len(self._round.place.roster) - 1
        for slot in sorted(reports):
            lost = reports[slot].lost if reports[slot].attempt == plan.attempt else ()
            cut_off = slot != me and 2 * len(lost) > n_others
            accused = [slot] if cut_off else [other for other in lost if other != me]
            self._accused += [other for other in accused if other not in self._accused]

    def _is_spoilt(
        self, plan: Plan, parts: Mapping[int, Item], reports: Mapping[int, Report], usable: Sequence[int]
    ) -> bool:
        if len(parts) < len(plan.parts):
            age_s = asyncio.get_running_loop().time() - self._planned_s
            old = age_s > max(REPLAN_PATIENCE_MIN_S, self._round.patience_s)
            return old or any(slot not in usable for slot in plan.contributors)
        # All is here; spoilt only if too few others can still get all of it.
        hopeful = [
            slot
            for slot in self._round.live()
            if not (slot in reports and reports[slot].attempt == plan.attempt and reports[slot].lost)
            or reports[slot].items == parts
        ]
        return len(hopeful) < self._round.place.roster.quorum
