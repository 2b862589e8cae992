"""Where a peer stands in its run: told to other peers that ask, and to `gossamer status`, by way of a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..protocol import rounds_pb2 as pb
from ..protocol.identity import PeerId
from ..protocol.network import Cost, Network
from .folder import PeerFolder
from .replica import Replica
from .rounds.group import Group
from .rounds.roster import Member
from .rounds.snapshots import Standing

STATUS_EVERY_S = 1.0
CALM_AFTER_S, CALM_EVERY_S = 15.0, 5.0
"""When nothing has been new for so long, it is looked for so often."""
TRAFFIC_EVERY_S = 30.0
"""A status in which nothing but the traffic is new is written so often."""


@dataclass(frozen=True, kw_only=True)
class Whereabouts:
    """What a daemon knows of itself, as it is at any instant."""

    network: Network
    replica: Replica
    folder: PeerFolder
    run_id: str
    member: Callable[[], Member]
    group: Callable[[], Group | None]
    """None while this peer has no place in the run."""
    kept: Callable[[], Standing | None]
    """Where its checkpoint stands, while it may be resumed from."""
    more: Callable[[], dict[str, Any]]
    """What else `gossamer status` shows."""

    @property
    def round_index(self) -> int:
        where = self._where()
        return where.index if where is not None else 0

    def standing(self) -> Standing:
        """Between two rounds. Raises RuntimeError before the first."""
        group = self.group()
        if group is None:
            raise RuntimeError("no standing before the first round")
        return group.resumable

    def say(self) -> pb.Status:
        """What everybody hears of this peer."""
        group, where = self.group(), self._where()
        return pb.Status(
            member=self.member().to_wire(),
            lineage=group.lineage if group is not None else b"",
            round=self.round_index,
            step=self.replica.step,
            samples=self.replica.samples,
            digest=where.digest if where is not None else b"",
            active=group is not None,
            decides=group is not None and group.decides,
        )

    async def answer(self, peer: PeerId, request: bytes) -> bytes:
        """To who asks this peer itself, with the roster."""
        status, group = self.say(), self.group()
        if group is not None:
            status.roster.CopyFrom(group.roster.to_wire())
        return status.SerializeToString()

    async def keep_file(self, address: str) -> None:
        """For `gossamer status`: what this daemon is doing, written within a second of a change, or five in calm."""
        written: tuple[Any, ...] = ()
        clock = asyncio.get_running_loop().time
        written_s = news_s = clock()
        while True:
            news, now_s = self._news(), clock()
            is_news = news != written
            if is_news or now_s >= written_s + TRAFFIC_EVERY_S:
                await self._write({**self._doing(address), **self._traffic()})
                written, now_s = news, clock()
                written_s = now_s
            news_s = now_s if is_news else news_s
            await asyncio.sleep(STATUS_EVERY_S if now_s < news_s + CALM_AFTER_S else CALM_EVERY_S)

    async def _write(self, status: dict[str, Any]) -> None:
        await self.network.compute(lambda: self.folder.write_status(status), Cost())

    def _news(self) -> tuple[Any, ...]:
        """Differs whenever `_doing` does, and costs less: it is looked at every few seconds."""
        group = self.group()
        where = (group.index, group.roster) if group is not None else (self.round_index, None)
        return where, self.replica.step, self.member().incarnation, self.more()

    def _doing(self, address: str) -> dict[str, Any]:
        """As `gossamer status --json` shows it, but for the traffic."""
        group = self.group()
        return {
            "run_id": self.run_id,
            "pid": os.getpid(),
            "peer": self.network.peer_id,
            "incarnation": self.member().incarnation,
            "address": address,
            "active": group is not None,
            "round": self.round_index,
            "step": self.replica.step,
            "roster": list(group.roster.peers) if group is not None else [],
            **self.more(),
        }

    def _traffic(self) -> dict[str, Any]:
        traffic = self.network.traffic
        return {"sent_bytes": sum(traffic.sent.values()), "received_bytes": sum(traffic.received.values())}

    def _where(self) -> Group | Standing | None:
        group = self.group()
        return group if group is not None else self.kept()
