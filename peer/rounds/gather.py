"""Everybody sends its payload to everybody (all-gather): for sparse methods, whose payloads are small."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import (
    BadContribution,
    ChecksumMismatch,
    Diverged,
    InvalidMessage,
    MessageTooLarge,
)
from ...protocol.identity import PeerId, verify
from ...protocol.network import MAX_CHUNK_BYTES
from ...protocol.wire import parse
from .decision import Decision, Item
from .place import Report
from .transfer import Data, Proposal, Transfer

if TYPE_CHECKING:
    from .round import Round

OFFER_DOMAIN = "round-offer"
UNARY_BYTES_MAX = 512 << 10
"""Longer payloads go as a stream of chunks."""

Check = Callable[[bytes], None]
"""Raises ValueError for a payload that the method refuses."""


class Gather(Transfer):
    """All-gather of one round."""

    def __init__(self, round_: Round, check: Check) -> None:
        self._round = round_
        self._check = check
        self._held: dict[int, Item] = {}
        self._bytes: dict[bytes, bytes] = {}
        self._offered: Item | None = None
        self._refused: list[int] = []
        self._last_arrival_s: float | None = None

    # -- sending ---------------------------------------------------------------------------------

    def offer(self, payload: bytes) -> None:
        place = self._round.place
        item = self._offered = Item.of(payload)
        self._keep(place.slot, item, payload)
        header = pb.OfferHeader(
            lineage=place.lineage, round=place.index, base=place.base, item=item.to_wire(), attempt=self.attempt
        )
        signed = header.SerializeToString()
        offer = pb.Offer(header=signed, signature=self._round.identity.sign(OFFER_DOMAIN, signed))
        message, rest = _message(offer, payload)
        for slot in self.mates():
            self._round.spawn(self._push(slot, message, rest))

    def mates(self) -> Sequence[int]:
        """Who gets what I offer."""
        return self._round.place.others

    async def _push(self, slot: int, message: bytes, rest: bytes) -> None:
        """Send until it has arrived; a refusal ends it, silence does not."""
        round_ = self._round
        n_tries = 0
        while not await self._push_once(slot, message, rest):
            await round_.pause(n_tries)
            n_tries += 1

    async def _push_once(self, slot: int, message: bytes, rest: bytes) -> bool:
        round_, peer = self._round, self._round.place.roster.members[slot].peer
        with round_.noting(slot) as refused:
            await send_offer(round_, peer, message, rest)
            return True
        return bool(refused)

    # -- receiving -------------------------------------------------------------------------------

    def open_offer(self, slot: int, offer: pb.Offer) -> Item:
        """Check what an offer announces, before its bytes are read. Raises InvalidMessage, Diverged."""
        place, peer = self._round.place, self._round.place.roster.members[slot].peer
        self._round.heard(slot)
        verify(peer, OFFER_DOMAIN, offer.header, offer.signature)
        header = parse(pb.OfferHeader, offer.header, bytes_max=1024, what="an offer's header")
        if (header.lineage, header.round) != (place.lineage, place.index):
            raise InvalidMessage(f"an offer of {peer} for round {header.round} instead of {place.index}: refused")
        if header.base != place.base:
            raise Diverged(
                f"{peer} starts round {place.index} from state {header.base.hex()[:12]}, "
                f"this peer from {place.base.hex()[:12]}: the one in the minority must resynchronise"
            )
        item = Item.from_wire(header.item)
        if item.length > self._round.rules.payload_bytes_max:
            raise MessageTooLarge(
                f"{peer} offers {item.length} bytes; the run allows {self._round.rules.payload_bytes_max}"
            )
        self._admit(slot, item, header.attempt)
        return item

    def _admit(self, slot: int, item: Item, attempt: int) -> None:
        """Refuse what stands against an offer that is here already. Raises InvalidMessage."""
        peer, index = self._round.place.roster.members[slot].peer, self._round.place.index
        if slot in self._held and self._held[slot] != item:
            raise InvalidMessage(f"{peer} offers two different contributions in round {index}: second refused")

    def receive(self, slot: int, item: Item, payload: bytes) -> None:
        """Take in an offer's bytes. Raises ChecksumMismatch, BadContribution."""
        peer = self._round.place.roster.members[slot].peer
        if len(payload) != item.length or hashlib.sha256(payload).digest() != item.hash:
            raise ChecksumMismatch(f"the contribution of {peer} is not the one that it announced: refused")
        try:
            self._check(payload)
        except ValueError as error:
            self._round.refusals[slot] = BadContribution.code
            self._refused.append(slot)
            self._round.wake()
            self._round.refused(peer, f"contribution refused: {error}")
            raise BadContribution(f"contribution of {peer} refused: {error}") from None
        self._keep(slot, item, payload)
        self._round.wake()

    def _keep(self, slot: int, item: Item, payload: bytes) -> None:
        self._round.note_arrival(slot)
        if slot not in self._held:
            self._last_arrival_s = asyncio.get_running_loop().time()
        self._held[slot] = item
        self._bytes[item.hash] = payload

    # -- what is here ----------------------------------------------------------------------------

    @property
    def offered(self) -> Item | None:
        return self._offered

    @property
    def attempt(self) -> int:
        return 0

    @property
    def refused(self) -> Sequence[int]:
        return self._refused

    def held(self) -> dict[int, Item]:
        return self._held

    def bytes_of(self, item_hash: bytes) -> Data | None:
        return self._bytes.get(item_hash)

    def last_arrival_s(self) -> float | None:
        return self._last_arrival_s

    def complete(self, live: Sequence[int]) -> bool:
        return all(slot in self._held or slot in self._refused for slot in live)

    def ready(self, reports: Mapping[int, Report]) -> Sequence[int]:
        return sorted(self._held)

    def refuse(self, decision: Decision, ballot: int) -> None:
        """A leader who names other bytes than the contributor sent me is a liar, or its memory is. Not once all leaders
        have been tried: a contributor who sends different bytes to different members must not stop a round for good."""
        if ballot >= len(self._round.place.roster):
            return
        for slot, item in zip(decision.contributors, decision.items, strict=False):
            if self._held.get(slot, item) != item:
                peer, index = self._round.place.roster.members[slot].peer, self._round.place.index
                raise InvalidMessage(
                    f"a proposal with other bytes than those that {peer} sent in round {index}: refused"
                )

    def proposal(
        self, reports: Mapping[int, Report], live: Sequence[int], quorum: int, *, late: bool
    ) -> Proposal | None:
        holders = Counter((slot, item) for report in reports.values() for slot, item in report.items.items())
        mine = {slot: item for slot, item in self._held.items() if holders[slot, item] >= quorum}
        if not late:
            everywhere = all(
                slot in reports and all(reports[slot].items.get(other) == mine.get(other) for other in live)
                for slot in live
            )
            if not everywhere or any(slot not in mine for slot in live):
                return None
        slots = tuple(sorted(mine))
        return (slots, tuple(mine[slot] for slot in slots)) if slots else None


def _message(offer: pb.Offer, payload: bytes) -> tuple[bytes, bytes]:
    """(what opens an offer, what follows in chunks): made once, for it is the same for everybody. A short payload is
    in the first."""
    if len(payload) > UNARY_BYTES_MAX:
        return offer.SerializeToString(), payload
    offer.payload = payload
    return offer.SerializeToString(), b""


async def send_offer(round_: Round, peer: PeerId, message: bytes, rest: bytes) -> None:
    """One message if that is all, else a stream."""
    timeout_s = max(5.0, 2 * round_.patience_s)
    if not rest:
        await round_.network.call(peer, "round/offer", message, timeout_s=timeout_s)
        return

    async def chunks() -> AsyncIterator[bytes]:
        yield message
        for start in range(0, len(rest), MAX_CHUNK_BYTES):
            yield rest[start : start + MAX_CHUNK_BYTES]

    async for _ in round_.network.stream(peer, "round/offer-stream", chunks(), timeout_s=timeout_s):
        pass


async def read_payload(chunks: AsyncIterator[bytes], length: int) -> bytes:
    """Collect a stream up to its announced length. Raises MessageTooLarge."""
    received: bytes | bytearray = b""
    async for chunk in chunks:
        if received:
            received = received if isinstance(received, bytearray) else bytearray(received)
            received += chunk
        else:
            received = chunk  # mostly all of it, and then it is not copied
        if len(received) > length:
            raise MessageTooLarge(f"a stream longer than the {length} bytes that were announced: cut off")
    return bytes(received)
