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
        if len(message.indices) != len(message.takes) or not 1 <= len(message.indices) <= MICROBATCHES_MAX:
            raise InvalidMessage("a count that does not name a take for each of its microbatches: refused")
        return cls(slot=message.slot, names=tuple(zip(message.indices, message.takes, strict=True)))


def counts_of(routes: Sequence[Route]) -> tuple[Count, ...]:
    """What each replica counts if these microbatches do, by slot."""
    names: dict[int, list[tuple[int, int]]] = {}
    for route in sorted(routes, key=lambda route: route.index):
        for slot, take in zip(route.slots, route.takes, strict=True):
            names.setdefault(slot, []).append((route.index, take))
    return tuple(Count(slot=slot, names=tuple(names[slot])) for slot in sorted(names))


def check_counts(counts: Sequence[Count], roster: Roster, n_stages: int) -> int:
    """Refuse counts that do not count the same microbatches once at every stage.

    Returns: how many microbatches count. Raises InvalidMessage.
    """
    slots = [count.slot for count in counts]
    if slots != sorted(set(slots)) or any(slot >= len(roster) for slot in slots):
        raise InvalidMessage("counts that name slots not on the round's roster, or not in order: refused")
    indices: list[list[int]] = [[] for _ in range(n_stages)]
    for count in counts:
        stage = roster.members[count.slot].stage
        if not 0 <= stage < n_stages:
            raise InvalidMessage(f"slot {count.slot} serves no stage of this pipeline, but shall count there: refused")
        indices[stage] += [index for index, _ in count.names]
    first = sorted(indices[0])
    if len(set(first)) != len(first) or any(sorted(other) != first for other in indices):
        raise InvalidMessage("counts that do not count every microbatch once at every stage: refused")
    return len(first)
