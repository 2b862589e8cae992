"""Answers other members on behalf of a group. The network has proven who calls; the bytes are not to be trusted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from google.protobuf.message import Message

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import Diverged, InvalidMessage, NewLife, StaleRound
from ...protocol.identity import PeerId
from ...protocol.network import MAX_CHUNK_BYTES, MAX_MESSAGE_BYTES, Network
from ...protocol.wire import parse
from .catchup import LOG_ENTRIES_MAX
from .decision import HASH_BYTES, LINEAGE_BYTES
from .farewell import Farewell
from .gather import Gather, read_payload
from .group import Group
from .place import read_report
from .plan import Plan
from .reduce import Reduce
from .roster import Member
from .round import Round
from .stage_changes import STEPS_MAX
from .transfer import close_iterator
from .watching import METHOD as WATCH
from .watching import be_watched

M = TypeVar("M", bound=Message)
WAIT_S = 5.0
"""How long a message for a round that is not open here yet may wait."""
LOG_SLACK_BYTES = 8 << 10
JOIN_LAG_MAX = 32
"""A newcomer may be so many rounds behind when it asks to be let in."""


class GroupService:
    """Serves the methods `round/*`, `group/*` and `sync/*`.

    Args:
        current: the group as it is now; None while this peer has no place in a run's history yet.
    """

    def __init__(self, network: Network, current: Callable[[], Group | None]) -> None:
        self._network = network
        self.current = current
        self.farewell = Farewell(network)
        self._copying = asyncio.Lock()
        for method, handler in {
            "round/offer": self.offer,
            "round/agree": self.agree,
            "round/hold": self.hold,
            WATCH: self.watch,
            "round/prepare": self.prepare,
            "round/accept": self.accept,
            "round/commit": self.commit,
            "round/plan": self.plan,
            "round/log": self.log,
            "group/join": self.join,
            "group/fork": self.fork,
            "group/forked": self.forked,
            "sync/snapshot": self.snapshot,
            "sync/chunk": self.chunk,
        }.items():
            network.serve(method, handler)
        network.serve_stream("round/offer-stream", self.offer_stream)
        network.serve_stream("round/part-stream", self.part_stream)
        network.serve_stream("round/fetch", self.fetch)

    # -- finding the round -----------------------------------------------------------------------

    def _group(self) -> Group:
        group = self.current()
        if group is None:
            raise StaleRound(f"{self._network.peer_id} has no place in the run yet: ask again later")
        return group

    def _parse(self, kind: type[M], data: bytes) -> M:
        return parse(kind, data, bytes_max=MAX_MESSAGE_BYTES, what=f"a {kind.__name__.lower()} message")

    async def round_of(self, peer: PeerId, lineage: bytes, index: int) -> tuple[Round, int]:
        """The round that a member speaks of, opened if it comes early, and the member's slot in it."""
        group = self._group()
        if len(lineage) != LINEAGE_BYTES or lineage != group.lineage:
            raise Diverged(f"{self._network.peer_id} follows another lineage of this run: resynchronise")
        if index > group.index:
            group.catch_up.nudge(peer)
        if index >= group.index and not await group.reached(index, WAIT_S):
            raise StaleRound(
                f"{self._network.peer_id} is still in round {group.index}, not in {index}: ask again later"
            )
        round_ = group.round
        if round_ is None and group.index == index and group.slot is None:
            raise NewLife(f"{self._network.peer_id} was restarted: its life on the roster of round {index} is over")
        if round_ is None or group.index != index:
            raise StaleRound(f"{self._network.peer_id} is in round {group.index}; {index} is over for it")
        slot = round_.place.roster.slot_of(peer)
        if slot is None or slot == round_.place.slot:
            raise StaleRound(f"{peer} is not on the roster of round {index}: join first")
        group.heard[peer] = index
        return round_, slot

    # -- rounds ----------------------------------------------------------------------------------

    async def offer(self, peer: PeerId, request: bytes) -> bytes:
        offer = self._parse(pb.Offer, request)
        gather, slot = await self._gather(peer, offer)
        item = gather.open_offer(slot, offer)
        gather.receive(slot, item, offer.payload)
        return b""

    async def offer_stream(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        offer = self._parse(pb.Offer, await anext(chunks, b""))
        gather, slot = await self._gather(peer, offer)
        item = gather.open_offer(slot, offer)
        gather.receive(slot, item, await read_payload(chunks, item.length))
        yield b""

    async def _gather(self, peer: PeerId, offer: pb.Offer) -> tuple[Gather, int]:
        header = self._parse(pb.OfferHeader, offer.header)
        round_, slot = await self.round_of(peer, header.lineage, header.round)
        if not isinstance(round_.transfer, Gather):
            raise InvalidMessage(f"{peer} offers a payload, but this run's method reduces parts: refused")
        return round_.transfer, slot

    async def agree(self, peer: PeerId, request: bytes) -> bytes:
        message = self._parse(pb.Floats, request)
        round_, slot = await self.round_of(peer, message.lineage, message.round)
        round_.agreement.hear(slot, message)
        return b""

    async def hold(self, peer: PeerId, request: bytes) -> bytes:
        lineage, index, report = read_report(request)
        round_, slot = await self.round_of(peer, lineage, index)
        return round_.on_hold(slot, report)

    async def watch(self, peer: PeerId, request: bytes) -> bytes:
        message = self._parse(pb.Prepare, request)
        round_, slot = await self.round_of(peer, message.lineage, message.round)
        return await be_watched(round_, slot, message.ballot)

    async def prepare(self, peer: PeerId, request: bytes) -> bytes:
        message = self._parse(pb.Prepare, request)
        round_, slot = await self.round_of(peer, message.lineage, message.round)
        return round_.voting.on_prepare(slot, message.ballot).SerializeToString()

    async def accept(self, peer: PeerId, request: bytes) -> bytes:
        message = self._parse(pb.Accept, request)
        round_, slot = await self.round_of(peer, message.lineage, message.round)
        return round_.voting.on_accept(slot, message).SerializeToString()

    async def commit(self, peer: PeerId, request: bytes) -> bytes:
        """Answered once the commit is applied here, so that its sender knows."""
        message = self._parse(pb.Commit, request)
        group = self._group()
        group.catch_up.note(message)
        await group.reached(message.certificate.round + 1, WAIT_S / 2)
        return b""

    async def plan(self, peer: PeerId, request: bytes) -> bytes:
        message = self._parse(pb.Plan, request)
        round_, slot = await self.round_of(peer, message.lineage, message.round)
        reduce = self._reduce(peer, round_)
        plan = Plan.from_wire(message, len(round_.place.roster), reduce.length)
        if round_.place.leader_of(plan.ballot) != slot:
            raise InvalidMessage(f"{peer} plans for a ballot that it does not lead: refused")
        round_.approach(plan.ballot)
        round_.enter(plan.ballot)  # or no later leader's plan would be newer
        reduce.follow(plan)
        return b""

    async def part_stream(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        header = self._parse(pb.PartHeader, await anext(chunks, b""))
        round_, slot = await self.round_of(peer, header.lineage, header.round)
        answer = self._reduce(peer, round_).answer(slot, header, chunks)
        try:
            async for chunk in answer:
                yield chunk
        finally:
            await close_iterator(answer)

    def _reduce(self, peer: PeerId, round_: Round) -> Reduce:
        if not isinstance(round_.transfer, Reduce):
            raise InvalidMessage(f"{peer} sends a part, but this run's method gathers payloads: refused")
        return round_.transfer

    # -- catching up -----------------------------------------------------------------------------

    async def log(self, peer: PeerId, request: bytes) -> bytes:
        message, group = self._parse(pb.LogRequest, request), self._group()
        if message.lineage != group.lineage:
            raise Diverged(f"{self._network.peer_id} follows another lineage of this run: resynchronise")
        entries = group.ledger.since(message.from_round, LOG_ENTRIES_MAX)
        if message.from_round < group.index:
            self.farewell.asked(peer)
        first = group.ledger.first_round
        log = pb.Log(
            first_round=group.index if first is None else first, entries=[entry.to_wire() for entry in entries]
        )
        log.items.extend(group.ledger.payloads(entries, bytes_max=MAX_MESSAGE_BYTES - LOG_SLACK_BYTES - log.ByteSize()))
        return log.SerializeToString()

    async def fetch(self, peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        message, group = self._parse(pb.FetchRequest, await anext(chunks, b"")), self._group()
        held = group.round.transfer.bytes_of(message.hash) if group.round is not None else None
        data = held if held is not None else group.ledger.item(message.hash)
        if data is None:
            raise StaleRound(f"{self._network.peer_id} does not hold that payload: ask another member")
        self.farewell.asked(peer)
        for start in range(0, len(data), MAX_CHUNK_BYTES):
            yield bytes(data[start : start + MAX_CHUNK_BYTES])

    async def join(self, peer: PeerId, request: bytes) -> bytes:
        message, group = self._parse(pb.JoinRequest, request), self._group()
        member = Member.from_wire(message.member)
        if member.peer != peer:
            raise InvalidMessage(f"{peer} asks to let in {member.peer}: each peer must ask for itself")
        if not group.may_join(member):
            raise InvalidMessage(f"{peer} asks for stage {member.stage}, which is not in this run: refused")
        if message.lineage != group.lineage or message.round < group.index - JOIN_LAG_MAX:
            raise StaleRound(f"{self._network.peer_id} is in round {group.index}: catch up first")
        if len(message.state) not in (0, HASH_BYTES) or message.n_lost > STEPS_MAX:
            raise InvalidMessage(f"{peer} asks for a place with a malformed digest, or {message.n_lost} lost updates")
        base = group.digest if message.round == group.index else group.ledger.base_of(message.round)
        if base is not None and base != message.base:
            raise Diverged(f"{peer} has another state in round {message.round} than the group: resynchronise")
        group.note_joiner(member, message)
        return b""

    async def snapshot(self, peer: PeerId, request: bytes) -> bytes:
        group = self._group()
        message = self._parse(pb.SnapshotRequest, request)
        self.farewell.asked(peer)
        if message.renew and not group.stopped:
            group.want_snapshot()
        async with self._copying:
            if group.stopped and group.offered_snapshot() is None:
                await group.take_snapshot()
        snapshot = group.offered_snapshot()
        if snapshot is None:
            group.want_snapshot()
            raise StaleRound(f"{self._network.peer_id} has no snapshot yet; one is taken with the next round")
        return snapshot.info().SerializeToString()

    async def chunk(self, peer: PeerId, request: bytes) -> bytes:
        message = self._parse(pb.ChunkRequest, request)
        self.farewell.asked(peer)
        return self._group().shelf.chunk(message.hash, message.index)

    # -- splits ----------------------------------------------------------------------------------

    async def fork(self, peer: PeerId, request: bytes) -> bytes:
        return self._group().forking.consider(self._parse(pb.Fork, request))

    async def forked(self, peer: PeerId, request: bytes) -> bytes:
        self._group().forking.on_forked(self._parse(pb.ForkCertificate, request))
        return b""
