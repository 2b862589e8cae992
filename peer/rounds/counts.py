"""Which microbatches a round of a pipeline counts, where each of them is held, and what makes that well-formed.

docs/design/0004-pipelines.md: a microbatch counts once at every stage, or at none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import InvalidMessage
from .roster import STAGES_MAX, Roster

MICROBATCHES_MAX = 4096
"""Of one step."""
NOBODY = -1
"""In place of the slot of a microbatch's trainer."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """A microbatch that has come back to the first stage: who holds its gradient, and under which take."""

    index: int
    slots: tuple[int, ...]
    """Of each stage."""
    takes: tuple[int, ...]

    def to_wire(self) -> pb.Route:
        return pb.Route(index=self.index, slots=self.slots, takes=self.takes)

    @classmethod
    def from_wire(cls, message: pb.Route) -> Route:
        if len(message.slots) != len(message.takes) or not 1 <= len(message.slots) <= STAGES_MAX:
            raise InvalidMessage("a route that does not name one replica and one take for each stage: refused")
        return cls(index=message.index, slots=tuple(message.slots), takes=tuple(message.takes))


@dataclass(frozen=True, kw_only=True)
class Count:
    """What one replica's item sums: (index, take), ascending."""

    slot: int
    names: tuple[tuple[int, int], ...]

    def to_wire(self) -> pb.Count:
        return pb.Count(
            slot=self.slot, indices=[index for index, _ in self.names], takes=[take for _, take in self.names]
        )

    @classmethod
    def from_wire(cls, message: pb.Count) -> Count:
        if len(message.indices) != len(message.takes) or len(message.indices) > MICROBATCHES_MAX:
            raise InvalidMessage("a count that does not name a take for each of its microbatches: refused")
        return cls(slot=message.slot, names=tuple(zip(message.indices, message.takes, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Countable:
    """What a round may count."""

    n_stages: int
    n_microbatches: int
    """Of the step: indices from 0, each counted once at every stage."""
    owed: tuple[int, ...] = ()
    """Stages of the microbatches of earlier steps that are made up for: indices from `n_microbatches` on, each counted
    once, at that stage alone."""
    counted: frozenset[int] = frozenset()
    """Of the step, those that earlier rounds have counted."""
    gathers: bool = False
    """Whether replicas that count nothing in this step may contribute what they did before."""

    @property
    def n(self) -> int:
        """Microbatches to be passed."""
        return self.n_microbatches + len(self.owed)

    def counts_at(self, index: int, stage: int) -> bool:
        """Whether a stage counts a microbatch."""
        if index < self.n_microbatches:
            return index not in self.counted
        return index < self.n and self.owed[index - self.n_microbatches] == stage


def counts_of(routes: Sequence[Route], countable: Countable, gathered: Sequence[int] = ()) -> tuple[Count, ...]:
    """What each replica counts if these microbatches do, by slot.

    Args:
        gathered: slots that contribute even if they count nothing.
    """
    names: dict[int, list[tuple[int, int]]] = {slot: [] for slot in gathered}
    for route in sorted(routes, key=lambda route: route.index):
        for stage, (slot, take) in enumerate(zip(route.slots, route.takes, strict=True)):
            if countable.counts_at(route.index, stage):
                names.setdefault(slot, []).append((route.index, take))
    return tuple(Count(slot=slot, names=tuple(names[slot])) for slot in sorted(names))


def check_counts(counts: Sequence[Count], roster: Roster, countable: Countable) -> None:
    """Refuse counts that do not count the same microbatches, at least one, once at every stage, and each of those owed
    at most once, at its own. Raises InvalidMessage."""
    slots = [count.slot for count in counts]
    if slots != sorted(set(slots)) or any(slot >= len(roster) for slot in slots):
        raise InvalidMessage("counts that name slots not on the round's roster, or not in order: refused")
    if not countable.gathers and not all(count.names for count in counts):
        raise InvalidMessage("a count that does not name its microbatches: refused")
    indices: list[list[int]] = [[] for _ in range(countable.n_stages)]
    for count in counts:
        stage = roster.members[count.slot].stage
        if not 0 <= stage < countable.n_stages:
            raise InvalidMessage(f"slot {count.slot} serves no stage of this pipeline, but shall count there: refused")
        indices[stage] += [index for index, _ in count.names]
        if not all(countable.counts_at(index, stage) for index, _ in count.names):
            raise InvalidMessage(f"slot {count.slot} shall count microbatches that stage {stage} does not: refused")
    whole = [sorted(index for index in here if index < countable.n_microbatches) for here in indices]
    if any(len(set(here)) != len(here) for here in indices) or any(here != whole[0] for here in whole):
        raise InvalidMessage("counts that do not count every microbatch once at every stage: refused")
    if not whole[0]:
        raise InvalidMessage("counts that count no microbatch of their step: refused")
