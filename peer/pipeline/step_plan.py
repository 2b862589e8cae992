"""A leader's plan for one step of a pipeline: whom to route around, who passes what, and in the end what counts.

A hint with a number, as the plans of reduce rounds: it decides nothing, and another may take its place at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ...protocol import pipelines_pb2 as pb
from ...protocol.errors import InvalidMessage
from ...protocol.network import MAX_MESSAGE_BYTES
from ...protocol.wire import parse
from ..rounds.counts import MICROBATCHES_MAX, Count, Countable, check_counts
from ..rounds.plan import PLANS_PER_BALLOT
from ..rounds.roster import PEERS_MAX, Roster

PLANS_REMEMBERED, REMEMBERED_BYTES_MAX = 32, 16 << 10
"""Short ones that are not parsed again: a leader tries until each member has it."""


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

    def contributors(self, roster: Roster, stage: int) -> Sequence[int]:
        """Slots that offer something at a stage."""
        key = roster.hash(), stage
        if key not in self._contributors:
            found = [count.slot for count in self.counts if roster.members[count.slot].stage == stage]
            self._contributors[key] = found
        return self._contributors[key]

    @cached_property
    def _contributors(self) -> dict[tuple[bytes, int], Sequence[int]]:
        """As worked out so far, by roster and stage."""
        return {}

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
        plan = cls._of(message)
        plan.check(roster, countable)
        return plan

    @classmethod
    def _of(cls, message: pb.StepPlan) -> StepPlan:
        return cls(
            attempt=message.attempt,
            dead=tuple(message.dead[: PEERS_MAX + 1]),
            deals=tuple((deal.index, deal.slot) for deal in message.deals[: 2 * MICROBATCHES_MAX]),
            counts=tuple(Count.from_wire(count) for count in message.counts[: PEERS_MAX + 1]),
            part=message.part,
        )

    def check(self, roster: Roster, countable: Countable) -> None:
        """Refuse what does not fit the round. Raises InvalidMessage."""
        if (roster.hash(), countable) not in self._fits:
            self._check(roster, countable)
            self._fits.add((roster.hash(), countable))

    @cached_property
    def _fits(self) -> set[tuple[bytes, Countable]]:
        """What it was checked against."""
        return set()

    def _check(self, roster: Roster, countable: Countable) -> None:
        slots = [*self.dead, *(slot for _, slot in self.deals)]
        if any(slot >= len(roster) for slot in slots) or any(index >= countable.n for index, _ in self.deals):
            raise InvalidMessage("a plan that names slots or microbatches that there are not: refused")
        if self.counts:
            check_counts(self.counts, roster, countable)


def read_plan(data: bytes) -> tuple[bytes, int, StepPlan]:
    """(lineage, round, plan, not checked yet) of a message from outside. Raises MessageTooLarge, InvalidMessage."""
    return _read_again(data) if len(data) <= REMEMBERED_BYTES_MAX else _read(data)


def _read(data: bytes) -> tuple[bytes, int, StepPlan]:
    message = parse(pb.StepPlan, data, bytes_max=MAX_MESSAGE_BYTES, what="a step's plan")
    return message.lineage, message.round, StepPlan._of(message)


_read_again = lru_cache(maxsize=PLANS_REMEMBERED)(_read)


def trainer_of(index: int, roster: Roster, deals: Mapping[int, int]) -> int:
    """The slot that passes a microbatch: by turns, unless it was dealt to somebody else."""
    if index in deals:
        return deals[index]
    return roster.trainers[index % len(roster.trainers)]


def deal_out(indices: Sequence[int], roster: Roster, living: Sequence[int], load: Counter[int]) -> dict[int, int]:
    """Microbatches given to living trainers, each to one with the least to do.

    Args:
        load: by slot, microbatches that are still to come from there.
    """
    trainers = [slot for slot in roster.trainers if slot in living] or list(living)
    load, n = Counter(load), len(trainers)
    dealt: dict[int, int] = {}
    for index in indices:
        turn = min(range(n), key=lambda turn: (load[trainers[turn]], (turn - index) % n))
        dealt[index] = trainers[turn]
        load[trainers[turn]] += 1
    return dealt
