"""Rounds that this peer missed: proofs from others' ledgers, and payloads by their hash from whoever holds them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import GossamerError, InvalidMessage, NetworkClosed, StaleRound
from ...protocol.identity import PeerId
from ...protocol.network import MAX_MESSAGE_BYTES
from ...protocol.wire import parse
from .decision import Item
from .ledger import Committed, verified
from .outcome import Ending
from .transfer import Data

if TYPE_CHECKING:
    from .group import Group
    from .round import Round

AHEAD_MAX = 64
LOG_ENTRIES_MAX = 64
FOLLOW_RETRY_S = 0.5
ASK_AGAIN_S = 30.0
"""Who has noted our wish to be let in keeps it, unless it loses its own place: asked anew so often, and each round."""
NEWS_DUE_S = 0.5
"""What a peer that seems to be ahead knows is on its way here, as a rule: it is asked for it only after so long."""
COLLECT_TRIES = 4
NEARLY_THERE = 16
"""Rounds run on while a newcomer replays, perhaps faster than it can: it asks to be let in when so few are left. The
group then waits for it, for as long as it waits for any member."""


class CatchUp:
    """Keeps what is known of rounds that the group has not reached here yet."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._ahead: dict[int, pb.Commit] = {}
        self._news = asyncio.Event()
        self._asking = False
        self._noted: dict[PeerId, tuple[int, float]] = {}
        """Who has noted that we want to be let in: in which round, and when."""
        self._sent_along: dict[bytes, bytes] = {}
        """Payloads that came with the last log, at most a message of them."""

    def forget(self) -> None:
        self._ahead.clear()

    # -- proofs ----------------------------------------------------------------------------------

    def note(self, message: pb.Commit) -> None:
        """A commit came in: use it now, keep it for soon, or drop it. Raises InvalidMessage, BadSignature."""
        group, index = self._group, message.certificate.round
        if message.certificate.lineage != group.lineage or not group.index <= index < group.index + AHEAD_MAX:
            return
        if index == group.index:
            committed = verified(message, group.roster, group.lineage, index)
            if group.round is not None:
                group.round.decide(committed)
        self._ahead[index] = message
        self._news.set()

    def recall(self, round_: Round) -> None:
        """A round opens: perhaps its decision is known already."""
        committed = self._known()
        if committed is not None:
            round_.decide(committed)

    def _known(self) -> Committed | None:
        group = self._group
        for index in [index for index in self._ahead if index < group.index]:
            del self._ahead[index]
        message = self._ahead.get(group.index)
        if message is None:
            return None
        try:
            return verified(message, group.roster, group.lineage, group.index)
        except InvalidMessage as error:
            group.delegate.warned(f"a commit of round {group.index} was not genuine: {error}")
            del self._ahead[group.index]
            return None

    def nudge(self, peer: PeerId) -> None:
        """A peer seems to be ahead: ask it for what we missed, if that does not come by itself."""
        # Messages may come before the group's first round begins; the next one will nudge again.
        if not self._asking and self._group.running:
            self._asking = True
            self._group.spawn(self._ask(peer))

    async def _ask(self, peer: PeerId) -> None:
        group = self._group
        try:
            if await group.reached(group.index + 1, NEWS_DUE_S) or self._is_applying():
                return
            if await self._read_log(peer) > group.index and not await self._is_kept_by_others(peer):
                group.end(Ending.LOST)
        except NetworkClosed:
            raise
        except StaleRound:
            return  # it is not further than we are
        except GossamerError as error:
            self._group.delegate.warned(f"could not read the log of a peer: {error}")
        finally:
            self._asking = False

    async def _is_kept_by_others(self, peer: PeerId) -> bool:
        """Whether some member but `peer` has told us what we miss; who was restarted keeps nothing of before."""
        group, index = self._group, self._group.index
        for other in group.roster.peers:
            if other not in (peer, group.network.peer_id):
                await self._first_kept(other)
            if group.index > index or self._known() is not None:
                return True
        return False

    def _is_applying(self) -> bool:
        """Whether the round's decision is here already: all that keeps this peer behind is its own mathematics."""
        group = self._group
        return group.slot is not None and (group.round is None or group.round.decided.done())

    async def _read_log(self, peer: PeerId) -> int:
        """Ask one peer for the rounds from here on; the first round that it still keeps."""
        group = self._group
        request = pb.LogRequest(lineage=group.lineage, from_round=group.index).SerializeToString()
        answer = await group.network.call(peer, "round/log", request, timeout_s=10.0)
        log = parse(pb.Log, answer, bytes_max=MAX_MESSAGE_BYTES, what="a log of rounds")
        for entry in log.entries[:LOG_ENTRIES_MAX]:
            self.note(entry)
        self._sent_along = {hashlib.sha256(data).digest(): data for data in log.items}
        return log.first_round

    async def tell(self, peer: PeerId, message: bytes) -> None:
        """Bring a commit to a peer; twice if need be. It will ask others if this fails."""
        for _ in range(2):
            try:
                await self._group.network.call(peer, "round/commit", message, timeout_s=5.0)
                return
            except NetworkClosed:
                raise
            except GossamerError:
                continue

    # -- following from outside ------------------------------------------------------------------

    async def follow(self) -> Committed | Ending:
        """Not on the roster: wait for the next decision, asking to be let in once there is nothing to catch up."""
        turn = 0
        while (committed := self._known()) is None:
            peers = [peer for peer in self._group.roster.peers if peer != self._group.network.peer_id]
            if not peers or turn > 20 * len(peers) or self._group.leaving:
                return Ending.LEFT if self._group.leaving else Ending.LOST
            asked = peers[turn % len(peers)]
            first = await self._first_kept(asked)
            turn += 1
            if first is not None and first > self._group.index and not await self._is_kept_by_others(asked):
                return Ending.LOST
            if len(self._ahead) <= NEARLY_THERE:
                self._group.spawn(self._ask_to_join(peers))
            if self._known() is None:
                await self._wait_for_news()
        return committed

    async def _first_kept(self, peer: PeerId) -> int | None:
        try:
            return await self._read_log(peer)
        except NetworkClosed:
            raise
        except GossamerError:
            return None

    async def _ask_to_join(self, peers: list[PeerId]) -> None:
        group, clock = self._group, asyncio.get_running_loop().time
        request, index = group.join_request().SerializeToString(), group.index

        async def ask(peer: PeerId) -> None:
            self._noted[peer] = (index, clock())
            try:
                await group.network.call(peer, "group/join", request, timeout_s=5.0)
            except NetworkClosed:
                raise
            except GossamerError:
                self._noted.pop(peer, None)

        def is_due(peer: PeerId) -> bool:
            noted = self._noted.get(peer)
            return noted is None or noted[0] != index or clock() - noted[1] >= ASK_AGAIN_S

        await asyncio.gather(*(ask(peer) for peer in peers if is_due(peer)))

    async def _wait_for_news(self) -> None:
        try:
            async with asyncio.timeout(FOLLOW_RETRY_S):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    # -- payloads --------------------------------------------------------------------------------

    async def collect(self, committed: Committed, wanted: Sequence[Item]) -> list[Data] | None:
        """The bytes of some of a decision's items, in order; None if nobody has them any more."""

        async def get(item: Item) -> Data | None:
            held = self._held(item)
            return held if held is not None else await self._fetch(committed, decided.index(item), item)

        decided = committed.decision.items
        items = await asyncio.gather(*(get(item) for item in wanted))
        found = [item for item in items if item is not None]
        return found if len(found) == len(items) else None

    def _held(self, item: Item) -> Data | None:
        if item.hash in self._sent_along:
            return self._sent_along[item.hash]
        return self._group.round.transfer.bytes_of(item.hash) if self._group.round is not None else None

    async def _fetch(self, committed: Committed, position: int, item: Item) -> bytes | None:
        group, peers = self._group, committed.roster.peers
        contributors = [peers[slot] for slot in committed.decision.contributors]
        first = contributors[position % len(contributors)]
        order = [first, *(peer for peer in peers if peer != first)]
        for turn in range(COLLECT_TRIES):
            for peer in order:
                if peer != group.network.peer_id and (data := await self._fetch_from(peer, item)) is not None:
                    return data
            await asyncio.sleep(0.2 * 2.0**turn)
        group.delegate.warned(f"nobody holds a payload of round {group.index} any more: resynchronising")
        return None

    async def _fetch_from(self, peer: PeerId, item: Item) -> bytes | None:
        network = self._group.network
        request = pb.FetchRequest(hash=item.hash).SerializeToString()
        received = bytearray()

        async def head() -> AsyncIterator[bytes]:
            yield request

        try:
            async for chunk in network.stream(peer, "round/fetch", head(), timeout_s=10.0):
                received += chunk
                if len(received) > item.length:
                    return None
        except NetworkClosed:
            raise
        except GossamerError:
            return None
        data = bytes(received)
        return data if hashlib.sha256(data).digest() == item.hash else None
