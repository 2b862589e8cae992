"""A leader's plan for one step of a pipeline: whom to route around, who passes what, and in the end what counts.

A hint with a number, as the plans of reduce rounds: it decides nothing, and another may take its place at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...protocol import pipelines_pb2 as pb
from ...protocol.errors import InvalidMessage
from ..rounds.counts import Count, Countable, check_counts
from ..rounds.plan import PLANS_PER_BALLOT
from ..rounds.roster import Roster


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    attempt: int
    dead: tuple[int, ...] = ()
    """Slots whose gradients are given up: trainers mend the routes that lead there."""
    deals: tuple[tuple[int, int], ...] = ()
    """(microbatch, slot of the trainer that passes it in a dead one's place)."""
    counts: tuple[Count, ...] = ()
    """Empty while microbatches are missing, unless a part of the step is to be counted."""
    part: bool = False
    """Whether the step goes on after these."""

    @property
    def ballot(self) -> int:
        return self.attempt // PLANS_PER_BALLOT

    def names_of(self, slot: int) -> tuple[tuple[int, int], ...]:
        """(microbatch, take) that a slot counts."""
        return next((count.names for count in self.counts if count.slot == slot), ())

    def contributors(self, roster: Roster, stage: int) -> list[int]:
        """Slots that offer something at a stage."""
        return [count.slot for count in self.counts if roster.members[count.slot].stage == stage]

    def counting(self, roster: Roster, stage: int) -> list[int]:
        """Those of them that count microbatches of this step."""
        return [slot for slot in self.contributors(roster, stage) if self.names_of(slot)]

    def to_wire(self, lineage: bytes, round_index: int) -> pb.StepPlan:
        return pb.StepPlan(
            lineage=lineage,
            round=round_index,
            attempt=self.attempt,
            dead=self.dead,
            deals=[pb.Deal(index=index, slot=slot) for index, slot in self.deals],
            counts=[count.to_wire() for count in self.counts],
            part=self.part,
        )

    @classmethod
    def from_wire(cls, message: pb.StepPlan, roster: Roster, countable: Countable) -> StepPlan:
        """Check a plan that came from outside. Raises InvalidMessage."""
        deals = tuple((deal.index, deal.slot) for deal in message.deals[: countable.n + 1])
        dead = tuple(message.dead[: len(roster) + 1])
        slots = [*dead, *(slot for _, slot in deals)]
        if any(slot >= len(roster) for slot in slots) or any(index >= countable.n for index, _ in deals):
            raise InvalidMessage("a plan that names slots or microbatches that there are not: refused")
        counts = tuple(Count.from_wire(count) for count in message.counts[: len(roster) + 1])
        if counts:
            check_counts(counts, roster, countable)
        return cls(attempt=message.attempt, dead=dead, deals=deals, counts=counts, part=message.part)


def trainer_of(index: int, roster: Roster, deals: Mapping[int, int]) -> int:
    """The slot that passes a microbatch: by turns, unless it was dealt to somebody else."""
    if index in deals:
        return deals[index]
    trainers = _trainers(roster)
    return trainers[index % len(trainers)]


def deal_out(indices: Sequence[int], roster: Roster, living: Sequence[int], load: Counter[int]) -> dict[int, int]:
    """Microbatches given to living trainers, each to one with the least to do.

    Args:
        load: by slot, microbatches that are still to come from there.
    """
    trainers = [slot for slot in _trainers(roster) if slot in living] or list(living)
    load, n = Counter(load), len(trainers)
    dealt: dict[int, int] = {}
    for index in indices:
        turn = min(range(n), key=lambda turn: (load[trainers[turn]], (turn - index) % n))
        dealt[index] = trainers[turn]
        load[trainers[turn]] += 1
    return dealt


def _trainers(roster: Roster) -> list[int]:
    return [slot for slot, member in enumerate(roster.members) if member.trains] or list(range(len(roster)))
