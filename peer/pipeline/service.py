"""Answers other members of a pipeline's run, besides the passes (`server.py`) and the rounds (`rounds/service.py`)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from ...protocol import pipelines_pb2 as pb
from ...protocol.errors import InvalidMessage, StaleRound
from ...protocol.identity import PeerId
from ...protocol.network import MAX_CHUNK_BYTES, Cost, Network
from ...protocol.wire import parse
from ..rounds.round import Round
from ..rounds.service import GroupService
from .exchange import StageExchange
from .group import StageGroup
from .lending import METHOD as LENT
from .step_plan import read_plan

EARLY_S = 5.0
EVALUATION_S = 120.0


class StageService:
    """Serves `stage/plan`, `stage/lent`, `stage/borrow` and `stage/evaluated`."""

    def __init__(self, network: Network, rounds: GroupService) -> None:
        self._network = network
        self._rounds = rounds
        self.evaluated = asyncio.Event()
        """Set when this peer has evaluated the final model, or will not."""
        network.serve("stage/plan", self.plan)
        network.serve("stage/evaluated", self.await_evaluation)
        network.serve_stream(LENT, self.lent)
        network.serve_stream("stage/borrow", self.borrow)

    async def plan(self, peer: PeerId, request: bytes) -> bytes:
        lineage, index, plan = read_plan(request)
        round_, slot = await self._rounds.round_of(peer, lineage, index)
        exchange = self._exchange(round_)
        plan.check(round_.place.roster, exchange.countable)
        if round_.place.leader_of(plan.ballot) != slot:
            raise InvalidMessage(f"{peer} plans for a ballot that it does not lead: refused")
        round_.heard(slot)
        round_.approach(plan.ballot)
        round_.enter(plan.ballot)
        exchange.follow(plan)
        return b""

    async def lent(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        message = parse(pb.LentHeader, await anext(chunks, b""), bytes_max=1024, what="a header of lent gradients")
        round_, slot = await self._rounds.round_of(peer, message.lineage, message.round)
        await self._exchange(round_).lending.receive(slot, message.attempt, chunks)
        yield b""

    def _exchange(self, round_: Round) -> StageExchange:
        if not isinstance(round_.transfer, StageExchange):
            raise InvalidMessage("a message of a pipeline came to a run of whole models: refused")
        return round_.transfer

    async def borrow(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        message = parse(pb.Borrow, await anext(chunks, b""), bytes_max=1024, what="a request for lent tensors")
        group = self._rounds.current()
        if not isinstance(group, StageGroup):
            raise StaleRound(f"{self._network.peer_id} has no place in the run yet: ask again later")
        await _until_step(group, message.version)
        model = group.replica
        slot = group.roster.slot_of(peer)
        borrower = group.roster.members[slot].stage if slot is not None else -1
        if not 0 <= borrower < model.n_stages or not model.lent_names(borrower):
            raise InvalidMessage(f"{peer} borrows nothing from stage {model.stage}: refused")
        # In its turn: an update may be under way, and these are to be the bits of one version.
        cost = Cost(memory_bytes=8.0 * model.n_lent(borrower), what="lend")
        data = await group.meter.compute(lambda: model.lend(borrower, message.version), cost)
        yield pb.Borrow(version=message.version, hash=hashlib.sha256(data).digest()).SerializeToString()
        for start in range(0, len(data), MAX_CHUNK_BYTES):
            yield data[start : start + MAX_CHUNK_BYTES]

    async def await_evaluation(self, peer: PeerId, request: bytes) -> bytes:
        """Answered once the final model is evaluated: the others stay that long."""
        async with asyncio.timeout(EVALUATION_S):
            await self.evaluated.wait()
        return b""


async def _until_step(group: StageGroup, version: int) -> None:
    """A borrower may have applied the decision before us."""
    if group.replica.step < version:
        await group.reached(group.index + 1, EARLY_S)
