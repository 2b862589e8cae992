"""Reduce-scatter and all-gather, for dense methods: every part of the vector has a reducer, with whom all talk.

A member opens one stream to each reducer. Its slice of the part goes up, and the reduced part comes back, each as it
becomes ready; who does not contribute only listens. So everybody is in touch with every reducer until it has what it
needs of it, and a reducer's death is seen at once, by all who still needed it.

The leader plans who contributes and who reduces what. A plan is a hint: only the committed hashes of the reduced parts
count, so a plan that a crash spoils is mended by another, for which slices that have arrived need not be sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ...algorithms.errors import BadPart
from ...protocol import rounds_pb2 as pb
from ...protocol.errors import BadContribution, InvalidMessage, StaleRound
from .decision import Item
from .lines import SLICE_BYTES_MIN, Uplink
from .pieces import U8, ReducedPart, Slice
from .place import Report
from .plan import Plan
from .reducing import HEARTBEAT_S, Reducing, Reduction, Units, chunk_bytes
from .replanning import Replanning
from .transfer import Data, Proposal, Transfer, close_iterator
from .watching import look_for

if TYPE_CHECKING:
    from .round import Round

PLAN_WAIT_S = 2.0
STILL_MIN_S = 4 * HEARTBEAT_S
"""A reducer that says nothing for so long is lost."""


class Reduce(Transfer):
    """Reduce-scatter and all-gather of one round.

    Args:
        units: what the vector is made of; plans share out units.
        reduction: reduces each unit by itself, in roster order.
        uplink: learns from this round how fast it is.
    """

    def __init__(self, round_: Round, units: Units, reduction: Reduction, uplink: Uplink) -> None:
        self._round = round_
        self.length = units.length
        self._units = units
        self._reduction = reduction
        self._uplink = uplink
        self._rates: list[float] = []
        self._n_plans = 0
        self._vector: U8 | None = None
        self._plan: Plan | None = None
        self._news = asyncio.Event()
        self._replanning = Replanning(round_, units.length)
        self._result: U8 = np.empty(0, np.uint8)
        self._whole: list[tuple[tuple[Item, ...], memoryview]] = []
        self._slices: dict[tuple[int, int], dict[int, Slice]] = {}
        self._reducing: dict[int, Reducing] = {}
        self._sent: dict[tuple[int, int, int], int] = {}
        self._parts: dict[int, Item] = {}
        self._bytes: dict[bytes, memoryview] = {}
        self._refused: dict[int, str] = {}
        """Contributor's slot -> why its slice is of no use."""
        self._last_arrival_s: float | None = None

    # -- contributing ----------------------------------------------------------------------------

    def offer(self, payload: bytes) -> None:
        self._vector = np.frombuffer(payload, np.uint8)
        if self._plan is not None and self._round.place.slot in self._plan.contributors:
            self._begin(self._plan)

    @property
    def offered(self) -> Item | None:
        return None if self._vector is None else Item(bytes(32), self._vector.nbytes)

    def follow(self, plan: Plan) -> None:
        """Take up the plan of the ballot's leader, unless a later one is known."""
        if self._plan is not None and plan.attempt <= self._plan.attempt:
            return
        for reducing in self._reducing.values():
            reducing.abandon()
        self._plan, self._parts, self._reducing = plan, {}, {}
        self._n_plans += 1
        self._result = np.empty(self.length * self._units.n_bytes, np.uint8)
        ranges = [(start, stop) for _, start, stop in plan.parts]
        self._slices = {place: slices for place, slices in self._slices.items() if place in ranges}
        self._news.set()
        self._news = asyncio.Event()
        if self._vector is not None or self._round.place.slot not in plan.contributors:
            self._begin(plan)
        self._round.wake()

    def _begin(self, plan: Plan) -> None:
        for index, (reducer, _, _) in enumerate(plan.parts):
            if reducer == self._round.place.slot:
                self._round.spawn(self._reduce(plan, index, self._reducer_of(plan, index)))
            else:
                self._round.spawn(self._exchange(plan, index))

    async def _exchange(self, plan: Plan, index: int) -> None:
        """Bring my slice to a part's reducer and take home the reduced part."""
        n_tries = 0
        while plan is self._plan and index not in self._parts:
            with self._round.noting(plan.parts[index][0]):
                await self._exchange_once(plan, index)
            if plan is not self._plan or index in self._parts:
                return
            self._sent.pop(plan.parts[index], None)  # it may not have arrived
            await self._round.pause(n_tries)
            n_tries += 1

    async def _exchange_once(self, plan: Plan, index: int) -> None:
        reducer, start, stop = plan.parts[index]
        peer = self._round.place.roster.members[reducer].peer
        part, still_s = ReducedPart(self._units.of(self._result, start, stop)), max(STILL_MIN_S, self._round.patience_s)
        answer = self._round.network.stream(peer, "round/part-stream", self._outgoing(plan, index), timeout_s=still_s)
        try:
            async for chunk in answer:
                if plan is not self._plan:
                    return
                self._round.heard(reducer)
                item, usable = None, False
                with self._round.refusing(reducer):
                    item, usable = part.take(chunk), True
                if item is not None:
                    self._keep(plan, index, item)
                if item is not None or not usable:
                    return
        finally:
            await close_iterator(answer)

    async def _outgoing(self, plan: Plan, index: int) -> AsyncIterator[bytes]:
        """A stream's head, then as much of my slice as this reducer may not have."""
        place, (reducer, start, stop) = self._round.place, plan.parts[index]
        contributes = place.slot in plan.contributors
        offset = self._sent.get((reducer, start, stop), 0) if contributes else 0
        yield pb.PartHeader(
            lineage=place.lineage,
            round=place.index,
            attempt=plan.attempt,
            part=index,
            contributes=contributes,
            offset=offset,
        ).SerializeToString()
        if not contributes:
            return
        assert self._vector is not None
        view, begun_s = self._units.of(self._vector, start, stop).data, self._round.elapsed_s
        size = chunk_bytes(len(view))
        for begin in range(offset, len(view), size):
            if plan is not self._plan:
                return
            yield bytes(view[begin : begin + size])
        self._sent[reducer, start, stop] = len(view)
        taken_s = self._round.elapsed_s - begun_s
        if self._n_plans == 1 and len(view) >= SLICE_BYTES_MIN and taken_s > 0:
            self._rates.append(len(view) / taken_s)

    # -- reducing --------------------------------------------------------------------------------

    async def answer(self, slot: int, header: pb.PartHeader, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Serve one member's stream. Raises InvalidMessage, StaleRound, BadContribution."""
        self._round.heard(slot)
        await self._awaiting(header.attempt)
        plan = self._plan
        if plan is None or header.attempt != plan.attempt:
            raise StaleRound(f"a stream of plan {header.attempt}, which is not the one that this peer follows: refused")
        if header.part >= len(plan.parts) or plan.parts[header.part][0] != self._round.place.slot:
            raise InvalidMessage(f"part {header.part} is not for this peer to reduce: refused")
        if header.contributes != (slot in plan.contributors):
            raise InvalidMessage(f"the plan and slot {slot} do not agree on whether it contributes: refused")
        if slot in self._refused:
            raise BadContribution(f"your contribution was refused before: {self._refused[slot]}")
        reducing = self._reducer_of(plan, header.part)
        reading = asyncio.create_task(self._read(slot, plan, header, reducing, chunks))
        try:
            async for chunk in reducing.stream(reading):
                yield chunk
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if plan is self._plan and not reducing.done:
                self._round.spawn(look_for(self._round, slot))

    async def _read(
        self, slot: int, plan: Plan, header: pb.PartHeader, reducing: Reducing, chunks: AsyncIterator[bytes]
    ) -> None:
        if not header.contributes:
            return
        _, start, stop = plan.parts[header.part]
        slice_, offset = self._slices[start, stop][slot], header.offset
        try:
            while not slice_.complete and (chunk := await anext(chunks, b"")):
                offset = slice_.take(offset, chunk)
                self._last_arrival_s = asyncio.get_running_loop().time()
                reducing.wake()
            if not slice_.complete:
                raise StaleRound(f"a slice broke off after {slice_.n_bytes} of {len(slice_.data)} bytes: send it anew")
        finally:
            reducing.wake()

    def _reducer_of(self, plan: Plan, index: int) -> Reducing:
        """What reduces a part of mine; slices of the same units that came in under an earlier plan are used."""
        if index not in self._reducing:
            me, (_, start, stop) = self._round.place.slot, plan.parts[index]
            slices = self._slices.setdefault((start, stop), {})
            if me in plan.contributors and me not in slices and self._vector is not None:
                slices[me] = Slice.whole(self._units.of(self._vector, start, stop))
            for slot in plan.contributors:
                slices.setdefault(slot, Slice((stop - start) * self._units.n_bytes))
            ordered = [slices[slot] for slot in plan.contributors]
            result = self._units.of(self._result, start, stop)
            self._reducing[index] = Reducing(ordered, start, self._units.n_bytes, result, self._reduction)
        return self._reducing[index]

    async def _reduce(self, plan: Plan, index: int, reducing: Reducing) -> None:
        while (stop := await reducing.ready()) is not None:
            try:
                await self._round.network.compute(partial(reducing.advance, stop), reducing.cost(stop))
            except BadPart as error:
                self._refuse(plan.contributors[error.position], str(error))
                return
            reducing.wake()
        if reducing.done:
            self._keep(plan, index, reducing.item)

    def _refuse(self, slot: int, reason: str) -> None:
        """A contributor's slice is not to be used; the leader has to plan without it."""
        self._refused[slot] = reason
        self._round.refused(self._round.place.roster.members[slot].peer, f"contribution refused: {reason}")
        self._round.wake()

    async def _awaiting(self, attempt: int) -> None:
        """Wait a moment for a plan that its leader has told others already."""
        try:
            async with asyncio.timeout(PLAN_WAIT_S):
                while (self._plan is None or self._plan.attempt < attempt) and not self._round.decided.done():
                    await self._news.wait()
        except TimeoutError:
            return

    def _keep(self, plan: Plan, index: int, item: Item) -> None:
        if plan is not self._plan:
            return
        _, start, stop = plan.parts[index]
        self._parts[index] = item
        self._bytes[item.hash] = self._units.of(self._result, start, stop).data
        self._last_arrival_s = asyncio.get_running_loop().time()
        if len(self._parts) == len(plan.parts):
            items = tuple(self._parts[number] for number in range(len(plan.parts)))
            self._whole.append((items, self._result.data))
        self._round.wake()

    @property
    def bytes_per_s(self) -> float | None:
        return self._uplink.bytes_per_s

    def close(self) -> None:
        self._uplink.note(self._rates)
        for reducing in self._reducing.values():
            reducing.abandon()
        self._news.set()

    # -- leading ---------------------------------------------------------------------------------

    def lead(self, reports: Mapping[int, Report], awaited: Sequence[int], *, late: bool) -> None:
        plan = self._replanning.next_plan(self._plan, self._parts, reports, awaited, late=late)
        if plan is None:
            return
        place = self._round.place
        message = plan.to_wire(place.lineage, place.index).SerializeToString()
        for slot in place.others:
            self._round.spawn(self._tell(slot, message))
        self.follow(plan)

    async def _tell(self, slot: int, message: bytes) -> None:
        await self._round.ask(slot, "round/plan", message)

    def proposal(
        self, reports: Mapping[int, Report], live: Sequence[int], quorum: int, *, late: bool
    ) -> Proposal | None:
        plan = self._plan
        if plan is None or len(self._parts) < len(plan.parts) or plan.ballot != self._round.ballot:
            return None
        holders = [slot for slot in sorted(reports) if reports[slot].items == self._parts]
        cut_off = [slot for slot in reports if reports[slot].attempt == plan.attempt and reports[slot].lost]
        if len(holders) < quorum or not (late or all(slot in holders or slot in cut_off for slot in live)):
            return None
        return plan.contributors, tuple(self._parts[index] for index in range(len(plan.parts)))

    # -- what is here ----------------------------------------------------------------------------

    @property
    def attempt(self) -> int:
        return self._plan.attempt if self._plan else 0

    @property
    def refused(self) -> Sequence[int]:
        return list(self._refused)

    @property
    def lost(self) -> Sequence[int]:
        plan, suspects = self._plan, self._round.suspects
        if plan is None:
            return []
        # Who was slow to answer something else is no loss; who owes me a part is.
        owing = [reducer for index, (reducer, _, _) in enumerate(plan.parts) if index not in self._parts]
        return [
            slot for slot in plan.contributors if slot in suspects and (slot in owing or suspects[slot] != "silent")
        ]

    def held(self) -> dict[int, Item]:
        return self._parts

    def bytes_of(self, item_hash: bytes) -> Data | None:
        return self._bytes.get(item_hash)

    def whole(self, items: Sequence[Item]) -> Data | None:
        return next((data for held, data in self._whole if held == tuple(items)), None)

    def last_arrival_s(self) -> float | None:
        return self._last_arrival_s

    def complete(self, live: Sequence[int]) -> bool:
        if self._plan is None:
            return self._vector is not None
        return len(self._parts) == len(self._plan.parts) or bool(self._refused) or bool(self.lost)
