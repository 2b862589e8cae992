"""When a leader may propose a step: pure arithmetic, so that a model checker can walk all of it.

The decision binds all stages at once, so no stage may be left that cannot apply its part of it
(`tests/peer/rounds/stages_model.py`; docs/design/0004-pipelines.md, "Why it holds").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..rounds.decision import Item
from ..rounds.place import Report
from ..rounds.roster import Roster
from ..rounds.transfer import Proposal
from .step_plan import StepPlan

HOLDERS_MIN = 2
"""So many replicas of a stage hold an item before it is proposed, if there are as many."""


def proposable(plan: StepPlan, roster: Roster, reports: Mapping[int, Report], live: Collection[int]) -> Proposal | None:
    """Contributors and items of a plan that says what counts; None while some stage could not apply it.

    Args:
        live: slots that are not known to be out of reach.
    """
    items = []
    for count in plan.counts:
        report = reports.get(count.slot)
        item = report.items.get(count.slot) if report is not None and report.attempt == plan.attempt else None
        if item is None or not is_safe(count.slot, item, roster, reports, live):
            return None
        items.append(item)
    return (tuple(count.slot for count in plan.counts), tuple(items)) if items else None


def is_safe(slot: int, item: Item, roster: Roster, reports: Mapping[int, Report], live: Collection[int]) -> bool:
    """Whether enough living replicas of its stage hold an item: all that there are, or `HOLDERS_MIN`; at least one."""
    stage = roster.members[slot].stage
    living = [other for other in live if roster.members[other].stage == stage]
    holders = [other for other in living if other in reports and reports[other].items.get(slot) == item]
    return bool(living) and len(holders) >= min(HOLDERS_MIN, len(living))
