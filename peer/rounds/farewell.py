"""Who has finished the run stays for those who still catch up, or come late: nobody else may hold what they miss."""

from __future__ import annotations

import asyncio

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import GossamerError, NetworkClosed
from ...protocol.identity import PeerId
from ...protocol.network import MAX_MESSAGE_BYTES, Network
from ...protocol.wire import parse

ASKED_S = 30.0
"""Who asked for what it missed within so long is thought to be catching up, until it says where it is."""
LOOK_EVERY_S = 0.5
STAY_S_MAX = 120.0
PEERS_MAX = 256


class Farewell:
    """Remembers who reads rounds, payloads or states of the past, and waits until they have what they miss."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._asked_s: dict[PeerId, float] = {}

    def asked(self, peer: PeerId) -> None:
        """A peer is behind: it asked for something that is over here."""
        self._asked_s.pop(peer, None)
        self._asked_s[peer] = asyncio.get_running_loop().time()
        if len(self._asked_s) > PEERS_MAX:
            del self._asked_s[next(iter(self._asked_s))]

    async def wait(self, index: int, leaving: asyncio.Event, *, over_s: float, stay_s: float = 0.0) -> None:
        """Until `stay_s` are over, and all who asked have come to round `index` or are gone; not when asked to leave.

        For those who asked it waits until two minutes after the run's end, and half a minute from now at least.

        Args:
            over_s: when the run ended for this peer, by the loop's clock. What it did since (a last evaluation) was
                time for the others too.
        """
        await _pause(leaving, stay_s)
        now_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(max(over_s + stay_s + STAY_S_MAX, now_s + ASKED_S)):
                while not leaving.is_set() and await self._anybody_behind(index):
                    await _pause(leaving, LOOK_EVERY_S)
        except TimeoutError:
            return

    async def _anybody_behind(self, index: int) -> bool:
        since_s = asyncio.get_running_loop().time() - ASKED_S
        peers = [peer for peer, asked_s in self._asked_s.items() if asked_s > since_s]
        return any(await asyncio.gather(*(self._is_behind(peer, index) for peer in peers)))

    async def _is_behind(self, peer: PeerId, index: int) -> bool:
        try:
            answer = await self._network.call(peer, "round/status", b"", timeout_s=5.0)
            status = parse(pb.Status, answer, bytes_max=MAX_MESSAGE_BYTES, what="a status")
        except NetworkClosed:
            raise
        except GossamerError:
            return False
        return bool(status.round < index)


async def _pause(leaving: asyncio.Event, seconds: float) -> None:
    """So long, or until asked to leave."""
    try:
        async with asyncio.timeout(seconds):
            await leaving.wait()
    except TimeoutError:
        return
