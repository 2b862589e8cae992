"""What the leader of a pipeline's round changes about who serves which stage: moves, and stages that were lost.

docs/design/0004-pipelines.md, "Moves" and "A lost stage". It is part of the decision, like all of the next roster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ...algorithms.pipeline.rebalancing import (
    Fleet,
    Proposed,
    Serving,
    balancing_move,
    urgent_move,
    work_of_stages,
)
from ...protocol.identity import PeerId
from ..rounds.decision import Decision
from ..rounds.roster import Member, Roster
from ..rounds.stage_changes import Move, Restoration
from .board import StageRecord

URGENT_EVERY_S = 30.0
"""Between moves to stages that one death would end."""
ON_THE_WAY_S = 120.0
"""A moved replica that has not come by then is not counted on any more."""
RESTLESS_S = 300.0
"""So long after a loss others are expected."""
RESTARTS_AFTER = 10.0
"""A lost stage begins anew from its initial weights after so many times the wait for a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What somebody who asks to be let in says of its stage's state."""

    member: Member
    state: bytes
    n_lost: int
    """Updates that the run has made and this state has not seen."""
    base: bytes
    """Digest of the standing that it belongs to."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a leader knows when it drafts a decision.

    Args:
        gone: slots that are not to be counted on: out of reach or leaving.
        step: updates of the run.
        base: digest that the round starts from.
    """

    roster: Roster
    gone: Collection[int]
    step: int
    base: bytes


class StageChanges:
    """Kept by every member, for the rounds that it leads.

    Args:
        every_s: between two moves; 0: nobody is moved.
        restore_after_s: a lost stage's newest state is waited for so long.
        is_new: whether this member has only just come, and doesn't know whom the run has lost lately.
    """

    def __init__(
        self,
        n_stages: int,
        *,
        every_s: float,
        restore_after_s: float,
        clock: Callable[[], float],
        roster: Roster,
        is_new: bool = False,
    ) -> None:
        self._n_stages, self._every_s, self._restore_after_s = n_stages, every_s, restore_after_s
        self._clock = clock
        self._moved_s = clock()
        self._restless_until_s = clock() + RESTLESS_S if is_new else -math.inf
        self._lost_since_s: dict[int, float] = {}
        self._on_the_way: dict[PeerId, tuple[int, float]] = {}
        self.records: Mapping[PeerId, StageRecord] = {}
        self.brought: dict[PeerId, Brought] = {}
        self._note_lost(roster)

    # -- what every member keeps in mind ---------------------------------------------------------

    def note(self, decision: Decision, before: Roster, after: Roster) -> None:
        """A decision was applied."""
        now = self._clock()
        restarted = [member for member in decision.added if member.peer in before.peers]
        if restarted or len(decision.removed) > len(decision.moves):
            self._restless_until_s = now + RESTLESS_S
        for move in decision.moves:
            self._moved_s = now
            self._on_the_way[before.members[move.slot].peer] = (move.stage, now)
        on_roster = set(after.peers)
        self._on_the_way = {
            peer: way for peer, way in self._on_the_way.items() if peer not in on_roster and now - way[1] < ON_THE_WAY_S
        }
        self.brought = {peer: one for peer, one in self.brought.items() if peer not in on_roster}
        self._note_lost(after)

    @property
    def is_restless(self) -> bool:
        """Whether somebody was lost, or left, in the last minutes: it may be somebody's turn again."""
        return self._clock() < self._restless_until_s

    def _note_lost(self, roster: Roster) -> None:
        lost = lost_stages(roster.members, self._n_stages)
        self._lost_since_s = {stage: self._lost_since_s.get(stage, self._clock()) for stage in sorted(lost)}

    # -- what a leader proposes ------------------------------------------------------------------

    def amend(self, decision: Decision, situation: Situation, *, moves: bool = True) -> Decision:
        """Complete a draft.

        Args:
            moves: False while a step goes on: who leaves its stage takes along what it holds.
        """
        if decision.stop:
            return decision
        decision = self._with_restorations(decision, situation)
        proposed = self._move(decision, situation) if moves else None
        if proposed is None:
            return decision
        slot = situation.roster.peers.index(PeerId(proposed.name))
        removed = tuple(sorted({*decision.removed, slot}))
        return replace(decision, removed=removed, moves=(Move(slot=slot, stage=proposed.to_stage),))

    def _with_restorations(self, decision: Decision, situation: Situation) -> Decision:
        """Of those who ask to be let in: who brings a stage back, and who may not join with what it has."""
        renewed = {member.peer for member in decision.added}
        staying = [
            member
            for slot, member in enumerate(situation.roster.members)
            if slot not in decision.removed and member.peer not in renewed
        ]
        lost = lost_stages(staying, self._n_stages)
        added = [one for one in decision.added if one.stage not in lost and self._n_lost(one) == 0]
        restored = []
        for stage in sorted(lost):
            asking = [one for one in decision.added if one.stage == stage and not decision.contributors]
            chosen = self._choose(asking, situation)
            if chosen:
                added += [one.member for one in chosen]
                seen = situation.step - chosen[0].n_lost
                made = Restoration(stage=stage, state=chosen[0].state, from_step=seen, step=situation.step)
                restored.append(made)
        return replace(decision, added=tuple(sorted(added)), restored=tuple(restored))

    def _n_lost(self, member: Member) -> int:
        told = self.brought.get(member.peer)
        return told.n_lost if told is not None and told.member == member else 0

    def _choose(self, joiners: Sequence[Member], situation: Situation) -> list[Brought]:
        """Those with the newest state of a lost stage, all with the same one; nobody while a newer one may come."""
        told = [self.brought[one.peer] for one in joiners if one.peer in self.brought]
        fit = [one for one in told if one.member in joiners and one.base == situation.base]
        fit = [one for one in fit if one.n_lost <= situation.step and one.state]
        if not fit:
            return []
        best = min(fit, key=lambda one: (one.n_lost, one.state))
        since_s = self._lost_since_s.get(best.member.stage, self._clock())
        if self._clock() - since_s < self._wait_s(best.n_lost, situation.step):
            return []
        return [one for one in fit if (one.n_lost, one.state) == (best.n_lost, best.state)]

    def _wait_s(self, n_lost: int, step: int) -> float:
        if n_lost == 0:
            return 0.0
        return self._restore_after_s * (RESTARTS_AFTER if n_lost == step else 1.0)

    def _move(self, decision: Decision, situation: Situation) -> Proposed | None:
        if self._every_s <= 0:
            return None
        now = self._clock()
        fleet = self._fleet(decision, situation)
        patient_s = RESTARTS_AFTER * self._restore_after_s
        closed = [
            stage
            for stage in range(self._n_stages)
            if not fleet.at(stage) and now - self._lost_since_s.get(stage, now) < patient_s
        ]
        since_s = now - self._moved_s
        if since_s >= min(URGENT_EVERY_S, self._every_s) and (move := urgent_move(fleet, but=closed)) is not None:
            return move
        return balancing_move(fleet, rest_s=2 * self._every_s, but=closed) if since_s >= self._every_s else None

    def _fleet(self, decision: Decision, situation: Situation) -> Fleet:
        """The next roster as far as it can be counted on, and who is on its way."""
        gone = {situation.roster.members[slot] for slot in situation.gone}
        after = decision.next_roster(situation.roster).members
        known = set(situation.roster.members)
        serving = [
            serving_of(one, self.records.get(one.peer), may_move=one in known) for one in after if one not in gone
        ]
        here = {one.peer for one in after}
        way = [Serving(name=peer, stage=to, may_move=False) for peer, (to, _) in self._on_the_way.items()]
        coming = [one for one in way if one.name not in here]
        return Fleet([*serving, *coming], self._n_stages, work_of_stages(serving, self._n_stages))


def lost_stages(members: Sequence[Member], n_stages: int) -> set[int]:
    """Stages that nobody serves."""
    return set(range(n_stages)) - {member.stage for member in members}


def serving_of(member: Member, record: StageRecord | None, *, may_move: bool = True) -> Serving:
    """A member with what it says of itself, if it says that of its present stage."""
    if record is None or (record.stage, record.incarnation) != (member.stage, member.incarnation):
        return Serving(name=member.peer, stage=member.stage, may_move=may_move)
    return Serving(
        name=member.peer,
        stage=member.stage,
        samples_per_s=record.samples_per_s,
        n_waiting=record.n_waiting,
        rested_s=record.rested_s if record.rested_s > 0 else math.inf,
        may_move=may_move,
    )
