"""Answers on their way to the gateway: short ones with the other words, long ones on streams of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..protocol.devices import Submission
from ..protocol.edge_pb2 import Receipt, Signed, Uplink
from ..protocol.errors import Busy, ChecksumMismatch, GossamerError, NetworkError, StateError
from ..protocol.identity import PeerId
from ..protocol.network import Client
from .outbox import Outbox

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
TRIES_MAX = 5
"""On one connection, of an answer that did arrive: each may send all of it again."""
PASSING = (Busy, ChecksumMismatch, StateError)
"""What a gateway has to say of an answer that it may yet take."""


class Sender:
    """Sends what is in the outbox.

    Args:
        say: puts a word on the attendance stream.
        received: told what became of a long answer; of short ones a word comes.
        failed: told why a long answer will not be sent on this connection.
    """

    def __init__(
        self,
        *,
        client: Client,
        gateway: PeerId,
        outbox: Outbox,
        say: Callable[[Uplink], None],
        received: Callable[[Receipt], None],
        failed: Callable[[str], None],
    ) -> None:
        self._client, self._gateway, self._outbox = client, gateway, outbox
        self._say, self._received, self._failed = say, received, failed
        self._under_way: dict[bytes, asyncio.Task[None]] = {}
        """By the digest of the long answer."""

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return list(self._under_way.values())

    @property
    def busy(self) -> bool:
        return any(not task.done() for task in self.tasks)

    def offer_all(self) -> None:
        """What waits in the outbox: the gateway says of each whether it counts."""
        for submission, signed in self._outbox.waiting:
            self.offer(submission, signed)

    def offer(self, submission: Submission, signed: Signed) -> None:
        """Put an answer on its way, unless it is."""
        if not submission.is_long:
            self._say(Uplink(submission=signed))
            return
        task = self._under_way.get(submission.digest)
        if task is None or task.done():
            sending = self._send(submission, signed)
            self._under_way[submission.digest] = asyncio.create_task(sending, name="a long answer")

    async def stop(self) -> None:
        """Break off; what was sent need not be sent again."""
        tasks, self._under_way = self.tasks, {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, submission: Submission, signed: Signed) -> None:
        """Until the gateway has spoken its verdict, or the connection is given up."""
        pause_s, n_tries = RETRY_MIN_S, 0
        while n_tries < TRIES_MAX:
            try:
                receipt = await self._outbox.long.send(self._client, self._gateway, submission, signed)
            except (NetworkError, *PASSING) as error:
                n_tries += isinstance(error, PASSING)
                self._failed(str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)
            except (GossamerError, OSError) as error:
                self._failed(str(error))
                return
            else:
                self._received(receipt)
                return
