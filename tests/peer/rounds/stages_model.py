"""A round of a pipeline as a graph of states: the ballots of `consensus_model`, and what each stage's replicas hold.

Every replica contributes. An item, once offered, may reach each fellow replica of its stage at any later time or never,
also after who offered it has died. A leader may propose the step whenever the real `proposable` lets it, and a failed
round at any time (its deadline); it knows who is dead. Reports are read at the moment when they are used: what was held
earlier is held still, so older ones only forbid more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from gossamer.peer.pipeline.proposing import proposable
from gossamer.peer.pipeline.step_plan import StepPlan
from gossamer.peer.rounds.counts import Count
from gossamer.peer.rounds.decision import HASH_BYTES, Item
from gossamer.peer.rounds.place import Report
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.protocol.identity import Identity
from gossamer.tests.peer.rounds.consensus_model import Model, State, Steps, walk

STEP, FAILED = b"step", b"failed"
Rule = Callable[[StepPlan, Roster, Mapping[int, Report], list[int]], object]


class Holding(NamedTuple):
    """A round, and which items each member holds."""

    round: State
    held: tuple[frozenset[int], ...]


@dataclass(frozen=True)
class Stages:
    """A round of members that serve these stages."""

    stages: tuple[int, ...]
    n_ballots: int = 2
    rule: Rule = proposable
    wrong_suspicions: bool = False
    """Beyond the assumptions: a leader may take a living member for dead."""

    @cached_property
    def roster(self) -> Roster:
        peers = sorted(Identity(bytes([number]) * 32).peer_id for number in range(len(self.stages)))
        return Roster(tuple(Member(peer, 1, stage) for peer, stage in zip(peers, self.stages, strict=True)))

    @cached_property
    def models(self) -> dict[bytes, Model]:
        """Of leaders that want the step, and of such that give the round up."""
        return {wish: Model(len(self.stages), (wish,) * self.n_ballots) for wish in (STEP, FAILED)}

    @cached_property
    def plan(self) -> StepPlan:
        return StepPlan(attempt=1, counts=tuple(Count(slot=slot, names=((0, 0),)) for slot in range(len(self.stages))))

    def start(self) -> Holding:
        own = tuple(frozenset((slot,)) for slot in range(len(self.stages)))
        return Holding(self.models[STEP].start(), own)

    def walk(self) -> list[Holding]:
        return walk(self.start(), self.steps, self.fault)

    def mates(self, slot: int) -> list[int]:
        """All replicas of a member's stage."""
        return [other for other, stage in enumerate(self.stages) if stage == self.stages[slot]]

    # -- steps -----------------------------------------------------------------------------------

    def steps(self, holding: Holding) -> Steps[Holding]:
        for label, after in self.models[STEP].steps(holding.round):
            fresh = after.proposals - holding.round.proposals
            if not any(self._is_free(holding.round, ballot) for ballot, value in fresh if value == STEP) or (
                self.may_propose(holding)
            ):
                yield label, holding._replace(round=after)
        for label, after in self.models[FAILED].steps(holding.round):
            if after.proposals > holding.round.proposals:
                yield f"given up: {label}", holding._replace(round=after)
        for slot in range(len(self.stages)):
            for other in self.mates(slot):
                if holding.round.members[other] is not None and slot not in holding.held[other]:
                    held = (*holding.held[:other], holding.held[other] | {slot}, *holding.held[other + 1 :])
                    yield f"{other} gets the item of {slot}", holding._replace(held=held)

    def _is_free(self, state: State, ballot: int) -> bool:
        """Whether no earlier vote that this ballot's leader may have heard of binds it to the step."""
        return not any(value == STEP and number < ballot for number, _, value in state.votes)

    def living(self, holding: Holding) -> list[int]:
        return [slot for slot, memory in enumerate(holding.round.members) if memory is not None]

    def may_propose(self, holding: Holding) -> bool:
        """Whether some leader that knows all that can be known may propose the step."""
        living = self.living(holding)
        beliefs = [living]
        if self.wrong_suspicions:
            beliefs += [[slot for slot in living if slot != other] for other in living]
        reports = {slot: _report(held) for slot, held in enumerate(holding.held)}
        return any(self.rule(self.plan, self.roster, reports, live) is not None for live in beliefs)

    # -- promises to keep ------------------------------------------------------------------------

    def fault(self, holding: Holding) -> str:
        if fault := self.models[STEP].fault(holding.round):
            return fault
        return "half applied" if self.is_chosen(holding) and not self.can_all_apply(holding) else ""

    def is_chosen(self, holding: Holding) -> bool:
        return STEP in self.models[STEP].chosen(holding.round)

    def can_all_apply(self, holding: Holding) -> bool:
        """Whether the living replicas of every stage can get all items of their stage from each other."""
        living = self.living(holding)
        found = {self.stages[slot]: frozenset[int]() for slot in living}
        for slot in living:
            found[self.stages[slot]] |= holding.held[slot]
        return all(set(self.mates(slot)) <= found[self.stages[slot]] for slot in living)


def item_of(slot: int) -> Item:
    return Item(bytes([slot]) * HASH_BYTES, 1)


def _report(held: frozenset[int]) -> Report:
    items = {slot: item_of(slot) for slot in sorted(held)}
    return Report(ballot=0, base=bytes(HASH_BYTES), items=items, ready=True, attempt=1, leaving=False)
