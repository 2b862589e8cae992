"""Reduce-scatter and all-gather, for dense methods: every peer sends each part of its vector to that part's reducer.

The leader plans who contributes and who reduces what. A plan is a hint: only the committed hashes of the reduced parts
count, so a plan that a crash spoils is replaced by another, for which contributors send again what they kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import BadContribution, ChecksumMismatch, InvalidMessage, StaleRound
from ...protocol.network import MAX_CHUNK_BYTES, Cost
from .decision import Item
from .place import Report
from .transfer import Proposal, Transfer

if TYPE_CHECKING:
    from .round import Round

F32 = npt.NDArray[np.float32]
Reduction = Callable[[Sequence[F32]], F32]

PLANS_PER_BALLOT = 256
REPLAN_PATIENCE_MIN_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who contributes and who reduces which elements."""

    attempt: int
    contributors: tuple[int, ...]
    parts: tuple[tuple[int, int, int], ...]
    """(reducer's slot, first element, end)."""

    @classmethod
    def equal_parts(cls, attempt: int, contributors: Sequence[int], length: int) -> Plan:
        edges = np.linspace(0, length, len(contributors) + 1).astype(int).tolist()
        parts = [(slot, edges[i], edges[i + 1]) for i, slot in enumerate(contributors)]
        return cls(attempt=attempt, contributors=tuple(contributors), parts=tuple(p for p in parts if p[1] < p[2]))

    @classmethod
    def from_wire(cls, message: pb.Plan, n_members: int, length: int) -> Plan:
        """Raises InvalidMessage unless the parts tile the vector and all slots exist."""
        contributors, parts = tuple(message.contributors), tuple((p.reducer, p.start, p.stop) for p in message.parts)
        edges = [0, *(stop for _, _, stop in parts)]
        tiled = all(start == edge and stop > start for (_, start, stop), edge in zip(parts, edges, strict=False))
        slots = [*contributors, *(reducer for reducer, _, _ in parts)]
        if list(contributors) != sorted(set(contributors)) or any(slot >= n_members for slot in slots):
            raise InvalidMessage("a plan names slots that are not in the roster, or not in order: refused")
        if not contributors or not tiled or edges[-1] != length:
            raise InvalidMessage(f"a plan whose parts do not tile the {length} elements of the vector: refused")
        return cls(attempt=message.attempt, contributors=contributors, parts=parts)

    def to_wire(self, lineage: bytes, index: int) -> pb.Plan:
        parts = [pb.Part(reducer=reducer, start=start, stop=stop) for reducer, start, stop in self.parts]
        return pb.Plan(lineage=lineage, round=index, attempt=self.attempt, contributors=self.contributors, parts=parts)


class Reduce(Transfer):
    """Reduce-scatter and all-gather of one round.

    Args:
        length: elements of the vector.
        reduction: float32 [n][part] -> float32 [part], in roster order.
    """

    def __init__(self, round_: Round, length: int, reduction: Reduction) -> None:
        self._round = round_
        self.length = length
        self._reduction = reduction
        self._vector: F32 | None = None
        self._plan: Plan | None = None
        self._planned_s = 0.0
        self._slices: dict[tuple[int, int], dict[int, F32]] = {}
        self._parts: dict[int, Item] = {}
        self._bytes: dict[bytes, bytes] = {}
        self._refused: list[int] = []
        self._last_arrival_s: float | None = None

    # -- contributing ----------------------------------------------------------------------------

    def offer(self, payload: bytes) -> None:
        self._vector = np.frombuffer(payload, np.float32)
        self._send_slices()

    @property
    def offered(self) -> Item | None:
        return None if self._vector is None else Item(bytes(32), self._vector.nbytes)

    def follow(self, plan: Plan) -> None:
        """Take up the plan of the ballot's leader, unless a later one is known."""
        if self._plan is not None and plan.attempt <= self._plan.attempt:
            return
        self._plan, self._planned_s = plan, asyncio.get_running_loop().time()
        self._parts = {}
        self._slices = {key: value for key, value in self._slices.items() if key[0] >= plan.attempt}
        self._send_slices()
        for index in range(len(plan.parts)):
            self._reduce_when_complete(index)
        self._round.wake()

    def _send_slices(self) -> None:
        plan, me = self._plan, self._round.place.slot
        if plan is None or self._vector is None or me not in plan.contributors:
            return
        for index, (reducer, start, stop) in enumerate(plan.parts):
            part = self._vector[start:stop]
            if reducer == me:
                self.take_slice(me, plan.attempt, index, part)
            else:
                self._round.spawn(self._send(reducer, plan, index, Item(b"\0" * 32, part.nbytes), part, reduced=False))

    async def _send(self, slot: int, plan: Plan, part: int, item: Item, data: F32, *, reduced: bool) -> None:
        place = self._round.place
        header = pb.PartHeader(
            lineage=place.lineage,
            round=place.index,
            attempt=plan.attempt,
            part=part,
            reduced=reduced,
            item=item.to_wire(),
        )
        await self._round.send_bulk(slot, "round/part", header, memoryview(data.data).cast("B"))

    # -- receiving and reducing ------------------------------------------------------------------

    def expect(self, slot: int, header: pb.PartHeader) -> int:
        """Check what a stream announces; the number of bytes to read. Raises InvalidMessage, StaleRound."""
        plan = self._plan
        if plan is None or header.attempt != plan.attempt:
            raise StaleRound(f"a part of plan {header.attempt}, which is not the one that this peer follows: refused")
        if header.part >= len(plan.parts):
            raise InvalidMessage(f"part {header.part} of a plan with {len(plan.parts)}: refused")
        reducer, start, stop = plan.parts[header.part]
        sender_fits = slot == reducer if header.reduced else slot in plan.contributors
        if not sender_fits or header.item.length != 4 * (stop - start):
            raise InvalidMessage(f"slot {slot} sends a part that the plan does not ask of it: refused")
        return 4 * (stop - start)

    async def awaiting(self, attempt: int) -> None:
        """Wait a moment for a plan that its leader has told others already."""
        deadline_s = asyncio.get_running_loop().time() + 2.0
        while (self._plan is None or self._plan.attempt < attempt) and not self._round.decided.done():
            if asyncio.get_running_loop().time() >= deadline_s:
                return
            await asyncio.sleep(0.005)

    def take(self, slot: int, header: pb.PartHeader, data: bytes) -> None:
        """A slice or a reduced part has come in. Raises BadContribution, ChecksumMismatch, StaleRound."""
        self.expect(slot, header)
        vector = np.frombuffer(data, np.float32)
        if not header.reduced:
            if not np.isfinite(vector).all():
                self._refused.append(slot)
                peer = self._round.place.roster.members[slot].peer
                self._round.refused(peer, "contribution refused: NaN or infinity")
                self._round.wake()
                raise BadContribution(f"the vector of {peer} holds NaN or infinity: refused")
            self.take_slice(slot, header.attempt, header.part, vector)
            return
        if hashlib.sha256(data).digest() != header.item.hash:
            raise ChecksumMismatch("a reduced part that does not match its announced hash: refused")
        self._keep(header.part, Item.from_wire(header.item), data)

    def take_slice(self, slot: int, attempt: int, part: int, data: F32) -> None:
        self._slices.setdefault((attempt, part), {})[slot] = data
        self._last_arrival_s = asyncio.get_running_loop().time()
        self._reduce_when_complete(part)

    def _reduce_when_complete(self, part: int) -> None:
        plan = self._plan
        if plan is None or plan.parts[part][0] != self._round.place.slot or part in self._parts:
            return
        slices = self._slices.get((plan.attempt, part), {})
        if len(slices) == len(plan.contributors):
            self._round.spawn(self._reduce(plan, part, [slices[slot] for slot in plan.contributors]))

    async def _reduce(self, plan: Plan, part: int, slices: list[F32]) -> None:
        def work() -> tuple[F32, Item]:
            reduced = self._reduction(slices)
            return reduced, Item.of(memoryview(reduced.data).cast("B"))

        traffic = sum(data.nbytes for data in slices)
        reduced, item = await self._round.network.compute(work, Cost(flops=traffic / 4, memory_bytes=traffic))
        if plan is not self._plan:
            return
        self._keep(part, item, reduced.tobytes())
        for slot in self._round.place.others:
            self._round.spawn(self._send(slot, plan, part, item, reduced, reduced=True))

    def _keep(self, part: int, item: Item, data: bytes) -> None:
        self._parts[part] = item
        self._bytes[item.hash] = data
        self._last_arrival_s = asyncio.get_running_loop().time()
        self._round.wake()

    # -- leading ---------------------------------------------------------------------------------

    def lead(self, reports: Mapping[int, Report], awaited: Sequence[int], *, late: bool) -> None:
        ready = [slot for slot in awaited if slot in reports and reports[slot].ready]
        refused = {slot for report in reports.values() for slot in report.refused}
        usable = [slot for slot in ready if slot not in refused]
        ballot_start = self._round.ballot * PLANS_PER_BALLOT
        plan = self._plan
        stale = plan is None or plan.attempt < ballot_start
        if stale and usable and (len(ready) == len(awaited) or late):
            self._announce(ballot_start, usable)
        elif plan is not None and not stale and self._is_spoilt(plan, usable):
            self._announce(plan.attempt + 1, usable)

    def _is_spoilt(self, plan: Plan, usable: Sequence[int]) -> bool:
        lost = any(slot not in usable for slot in plan.contributors)
        old = asyncio.get_running_loop().time() - self._planned_s > max(REPLAN_PATIENCE_MIN_S, self._round.patience_s)
        return bool(usable) and (lost or old) and len(self._parts) < len(plan.parts)

    def _announce(self, attempt: int, contributors: Sequence[int]) -> None:
        plan = Plan.equal_parts(attempt, contributors, self.length)
        place = self._round.place
        message = plan.to_wire(place.lineage, place.index).SerializeToString()
        for slot in place.others:
            self._round.spawn(self._tell(slot, message))
        self.follow(plan)

    async def _tell(self, slot: int, message: bytes) -> None:
        await self._round.ask(slot, "round/plan", message)

    # -- what is here ----------------------------------------------------------------------------

    @property
    def attempt(self) -> int:
        return self._plan.attempt if self._plan else 0

    @property
    def refused(self) -> Sequence[int]:
        return self._refused

    def held(self) -> dict[int, Item]:
        return self._parts

    def bytes_of(self, item_hash: bytes) -> bytes | None:
        return self._bytes.get(item_hash)

    def last_arrival_s(self) -> float | None:
        return self._last_arrival_s

    def complete(self, live: Sequence[int]) -> bool:
        if self._plan is None:
            return self._vector is not None
        return len(self._parts) == len(self._plan.parts) or bool(self._refused)

    def proposal(
        self, reports: Mapping[int, Report], live: Sequence[int], quorum: int, *, late: bool
    ) -> Proposal | None:
        plan = self._plan
        if plan is None or len(self._parts) < len(plan.parts) or plan.attempt // PLANS_PER_BALLOT != self._round.ballot:
            return None
        holders = [slot for slot in sorted(reports) if reports[slot].items == self._parts]
        if len(holders) < quorum or not (late or all(slot in holders for slot in live)):
            return None
        return plan.contributors, tuple(self._parts[index] for index in range(len(plan.parts)))


async def chunked(head: bytes, data: memoryview) -> AsyncIterator[bytes]:
    """A stream: its head, then its bytes."""
    yield head
    for start in range(0, len(data), MAX_CHUNK_BYTES):
        yield bytes(data[start : start + MAX_CHUNK_BYTES])
