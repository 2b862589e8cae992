"""Gradients of borrowed tensors on their way to the owners, within one round.

By the plan each replica of a borrowing stage sends what it sums to one replica of the owning stage, which adds it to
its own item: so every microbatch's part counts once, in one decided item.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import numpy.typing as npt

from ...protocol import pipelines_pb2 as pb
from ...protocol.errors import InvalidMessage
from ...protocol.network import MAX_CHUNK_BYTES
from ..rounds.gather import read_payload
from ..rounds.round import Round
from .model import StageModel
from .stage import Summed
from .step_plan import StepPlan

F32 = npt.NDArray[np.float32]
METHOD = "stage/lent"


class Lending:
    """One replica's side, as borrower and as owner."""

    def __init__(self, round_: Round, model: StageModel) -> None:
        self._round = round_
        self._model = model
        self._arrived: dict[int, tuple[int, F32]] = {}
        """Borrower's slot -> (plan, its gradients)."""
        self._news = asyncio.Event()

    def lend(self, plan: StepPlan, summed: Summed) -> None:
        """Send what I sum of borrowed tensors to who counts it."""
        roster, me = self._round.place.roster, self._round.place.slot
        for lender in self._model.lenders if plan.names_of(me) else ():
            owners = plan.counting(roster, lender)
            borrowers = plan.counting(roster, self._model.stage)
            owner = owners[borrowers.index(me) % len(owners)]
            self._round.spawn(self._send(owner, plan, self._model.lendable(summed, lender)))

    async def _send(self, owner: int, plan: StepPlan, values: F32) -> None:
        place, n_tries = self._round.place, 0
        header = pb.LentHeader(lineage=place.lineage, round=place.index, attempt=plan.attempt).SerializeToString()
        payload = values.astype("<f4", copy=False).tobytes()

        async def chunks() -> AsyncIterator[bytes]:
            yield header
            for start in range(0, len(payload), MAX_CHUNK_BYTES):
                yield payload[start : start + MAX_CHUNK_BYTES]

        while True:
            with self._round.noting(owner):
                timeout_s = max(5.0, 2 * self._round.patience_s)
                peer = place.roster.members[owner].peer
                async for _ in self._round.network.stream(peer, METHOD, chunks(), timeout_s=timeout_s):
                    pass
                return
            await self._round.pause(n_tries)
            n_tries += 1

    async def receive(self, slot: int, attempt: int, chunks: AsyncIterator[bytes]) -> None:
        """A borrower's gradients come in. Raises InvalidMessage."""
        member = self._round.place.roster.members[slot]
        n = self._model.n_lent(member.stage) if 0 <= member.stage < self._model.n_stages else 0
        if n == 0:
            raise InvalidMessage(f"{member.peer} borrows nothing from stage {self._model.stage}: refused")
        payload = await read_payload(chunks, 4 * n)
        values = np.frombuffer(payload, "<f4").astype(np.float32)
        if len(values) != n or not np.isfinite(values).all():
            raise InvalidMessage(f"{member.peer} sends {len(values)} gradients of {n}, or NaN among them: refused")
        if attempt >= self._arrived.get(slot, (0, values))[0]:
            self._arrived[slot] = (attempt, values)
            self._news.set()

    async def awaited(self, plan: StepPlan) -> list[tuple[int, F32]]:
        """(borrowing stage, gradients) of all borrowers that send theirs to me, once they are here."""
        roster, me = self._round.place.roster, self._round.place.slot
        owners, senders = plan.counting(roster, self._model.stage), []
        for stage in range(self._model.n_stages):
            if stage != self._model.stage and self._model.lent_names(stage):
                borrowers = plan.counting(roster, stage)
                senders += [slot for i, slot in enumerate(borrowers) if owners[i % len(owners)] == me]
        while not all(self._arrived.get(slot, (-1, None))[0] == plan.attempt for slot in senders):
            self._news.clear()
            await self._news.wait()
        return [(roster.members[slot].stage, self._arrived[slot][1]) for slot in senders]
