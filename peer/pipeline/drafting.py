"""What the leader of a pipeline's round proposes: a step, a part of one, or another roster while the step goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..rounds.decision import LATE, Decision
from ..rounds.drafting import OUT_OF_REACH, draft
from ..rounds.leading import Leadership
from ..rounds.round import Round
from ..rounds.transfer import Proposal
from .changes import Situation
from .exchange import StageExchange
from .step_plan import StepPlan

if TYPE_CHECKING:
    from .group import StageGroup


def draft_step(group: StageGroup, round_: Round, proposal: Proposal | None, leadership: Leadership) -> Decision:
    """Complete a proposal, by the plan that it follows; None says that the round failed."""
    plan = _exchange(round_).plan if proposal is not None else None
    decision = _without_the_dead(draft(group, round_, proposal, leadership), round_)
    if plan is None:
        return group.changes.amend(decision, _situation(group, round_, leadership))
    decision = _counting(decision, plan, round_, leadership)
    if plan.part:
        return _going_on(group, decision, round_, leadership)
    return group.changes.amend(decision, _situation(group, round_, leadership))


def draft_amendment(group: StageGroup, round_: Round, leadership: Leadership) -> Decision | None:
    """Let in who waits, and count nothing; None if nobody does."""
    if not (group.joiners or group.wants_snapshot):
        return None
    drafted = _without_the_dead(draft(group, round_, None, leadership), round_)
    decision = _going_on(group, drafted, round_, leadership)
    return decision if decision.added or decision.snapshot else None


def _without_the_dead(decision: Decision, round_: Round) -> Decision:
    """Steps are long: who has died since it reported would count for the quorum of whatever comes next."""
    if decision.stop:
        return decision
    dead = {slot for slot, reason in round_.suspects.items() if reason in OUT_OF_REACH}
    return replace(decision, removed=tuple(sorted({*decision.removed, *dead})))


def _counting(decision: Decision, plan: StepPlan, round_: Round, leadership: Leadership) -> Decision:
    digests = _exchange(round_).planning.stage_digests(leadership.agreeing())
    out = tuple((slot, why) for slot, why in decision.excluded if slot in round_.suspects or why != LATE)
    return replace(decision, counts=plan.counts, stage_digests=digests, excluded=out)


def _going_on(group: StageGroup, decision: Decision, round_: Round, leadership: Leadership) -> Decision:
    """The step goes on after it: who is out of reach is removed, all others keep what they hold."""
    exchange = _exchange(round_)
    decision = replace(
        decision,
        removed=tuple(slot for slot in decision.removed if slot in round_.suspects),
        excluded=decision.excluded if decision.contributors else (),
        stop=False,
        snapshot=group.wants_snapshot,
    )
    decision = group.changes.amend(decision, _situation(group, round_, leadership), moves=False)
    after = decision.next_roster(round_.place.roster)
    goes_on = exchange.planning.going_on(exchange.plan, leadership.agreeing(), after)
    return replace(decision, turns=goes_on.turns, routes=goes_on.routes, restored=())


def _situation(group: StageGroup, round_: Round, leadership: Leadership) -> Situation:
    leaving = {slot for slot, report in leadership.reports.items() if report.leaving}
    gone = {*round_.suspects, *leaving}
    return Situation(roster=round_.place.roster, gone=gone, step=group.replica.step, base=round_.place.base)


def _exchange(round_: Round) -> StageExchange:
    assert isinstance(round_.transfer, StageExchange)
    return round_.transfer
