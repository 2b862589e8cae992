"""Who contributes to a dense round, and who reduces which units of the vector. A hint: it decides nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import InvalidMessage
from .decision import PARTS_MAX

PLANS_PER_BALLOT = 256

Part = tuple[int, int, int]
"""(reducer's slot, first unit, end)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Contributors, and parts that tile the vector."""

    attempt: int
    """Ballot * 256 + number of the plan within the ballot."""
    contributors: tuple[int, ...]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, attempt: int, contributors: Sequence[int], length: int, shares: Sequence[float] | None = None) -> Plan:
        """One part for each contributor: all of one size, or as the shares say; who has none reduces nothing."""
        parts = _share_out(0, length, contributors, shares)
        return cls(attempt=attempt, contributors=tuple(contributors), parts=parts)

    def mended(self, attempt: int, contributors: Sequence[int]) -> Plan:
        """The next plan, for other contributors: what the lost ones were to reduce is shared out among the rest.

        Everybody else's part stays as it is, so that slices which have reached their reducer need not travel again.
        """
        parts: list[Part] = []
        for reducer, start, stop in self.parts:
            stays = reducer in contributors
            parts += [(reducer, start, stop)] if stays else _share_out(start, stop, contributors)
        if len(parts) > PARTS_MAX:
            return Plan.of(attempt, contributors, self.parts[-1][2])
        return Plan(attempt=attempt, contributors=tuple(contributors), parts=tuple(parts))

    @property
    def ballot(self) -> int:
        return self.attempt // PLANS_PER_BALLOT

    @classmethod
    def from_wire(cls, message: pb.Plan, n_members: int, length: int) -> Plan:
        """Raises InvalidMessage unless the parts tile the vector and all slots exist."""
        contributors, parts = tuple(message.contributors), tuple((p.reducer, p.start, p.stop) for p in message.parts)
        edges = [0, *(stop for _, _, stop in parts)]
        tiled = all(start == edge and stop > start for (_, start, stop), edge in zip(parts, edges, strict=False))
        slots = [*contributors, *(reducer for reducer, _, _ in parts)]
        if list(contributors) != sorted(set(contributors)) or any(slot >= n_members for slot in slots):
            raise InvalidMessage("a plan names slots that are not in the roster, or not in order: refused")
        if not contributors or not tiled or edges[-1] != length or len(parts) > PARTS_MAX:
            raise InvalidMessage(f"a plan whose parts do not tile the {length} units of the vector: refused")
        return cls(attempt=message.attempt, contributors=contributors, parts=parts)

    def to_wire(self, lineage: bytes, index: int) -> pb.Plan:
        parts = [pb.Part(reducer=reducer, start=start, stop=stop) for reducer, start, stop in self.parts]
        return pb.Plan(lineage=lineage, round=index, attempt=self.attempt, contributors=self.contributors, parts=parts)


def _share_out(
    start: int, stop: int, reducers: Sequence[int], shares: Sequence[float] | None = None
) -> tuple[Part, ...]:
    """Adjacent parts for these reducers, without empty ones; shares add up to 1."""
    fractions = shares if shares is not None else [1 / len(reducers)] * len(reducers)
    ends = [start + round(fraction * (stop - start)) for fraction in itertools.accumulate(fractions)]
    edges = [start, *ends[:-1], stop]
    parts = [(slot, edges[i], edges[i + 1]) for i, slot in enumerate(reducers)]
    return tuple(part for part in parts if part[1] < part[2])
