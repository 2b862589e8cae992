"""How a stage gets the tensors that another owns, once a step: the bits, from any owner that stands where it does."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

from ...protocol import pipelines_pb2 as pb
from ...protocol.errors import ChecksumMismatch, GossamerError, NetworkClosed
from ...protocol.identity import PeerId
from ...protocol.network import MAX_MESSAGE_BYTES, Network
from ...protocol.wire import parse
from ..rounds.gather import read_payload
from ..rounds.roster import Roster
from .meter import Meter
from .model import NOT_SERVED, StageModel

RETRY_S = 0.1


class Borrowing:
    """One replica's side."""

    def __init__(self, network: Network, model: StageModel, meter: Meter) -> None:
        self._network = network
        self._model = model
        self._meter = meter

    async def complete(self, roster: Roster, slot: int | None) -> None:
        """See that the borrowed tensors are those of this step: without them nothing is served."""
        model = self._model
        while model.passes.version == NOT_SERVED:
            bits = {lender: await self._borrow(lender, roster, slot or 0) for lender in model.lenders}
            found = {lender: data for lender, data in bits.items() if data is not None}
            if len(found) == len(bits):
                await self._meter.compute(lambda found=found: model.borrow(found), model.encode_cost())  # type: ignore[misc]
            else:
                await asyncio.sleep(RETRY_S)

    async def _borrow(self, lender: int, roster: Roster, turn: int) -> bytes | None:
        """The bits of what we borrow from a stage; each borrower begins with another of its replicas."""
        for peer in _from(turn, [member.peer for member in roster.members if member.stage == lender]):
            try:
                return await self._borrow_from(peer, lender)
            except NetworkClosed:
                raise
            except GossamerError:
                continue
        return None

    async def _borrow_from(self, peer: PeerId, lender: int) -> bytes:
        request = pb.Borrow(version=self._model.step).SerializeToString()

        async def head() -> AsyncIterator[bytes]:
            yield request

        answers = self._network.stream(peer, "stage/borrow", head(), timeout_s=10.0)
        header = parse(pb.Borrow, await anext(answers, b""), bytes_max=MAX_MESSAGE_BYTES, what="lent tensors")
        data = await read_payload(answers, self._model.n_borrowed_bytes(lender))
        if hashlib.sha256(data).digest() != header.hash:
            raise ChecksumMismatch(f"the tensors that {peer} lends do not match their hash: asking another owner")
        return data


def _from(turn: int, peers: Sequence[PeerId]) -> list[PeerId]:
    start = turn % max(1, len(peers))
    return [*peers[start:], *peers[:start]]
