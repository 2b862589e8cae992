"""What a seeker learns of a pipeline's run as it is now, and of what lies in its own folder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import CorruptCheckpoint, GossamerError, NetworkClosed
from ...protocol.identity import PeerId
from ...protocol.network import MAX_MESSAGE_BYTES, Network
from ...protocol.wire import parse
from ..checkpoints import Checkpoint, list_checkpoints, load
from ..rounds.roster import Member, Roster
from .changes import lost_stages


@dataclass(frozen=True)
class Present:
    """The newest roster that anybody names, and who answered. It proves nothing; it only helps to choose."""

    members: tuple[Member, ...]
    """Of the roster, and who follows the rounds to join it; a peer that came back with the stage of its newest life."""
    lost: frozenset[int]
    """Stages that the roster has nobody for."""
    answered: frozenset[PeerId]

    def unserved(self, n_stages: int) -> frozenset[int]:
        """Lost, or with replicas none of which answers."""
        return frozenset(lost_stages([one for one in self.members if one.peer in self.answered], n_stages))


@dataclass(frozen=True)
class _Told:
    round_index: int
    member: Member
    roster: Roster


async def ask_present(network: Network, peers: Sequence[PeerId], lineage: bytes, n_stages: int) -> Present | None:
    """Ask who is there; None if nobody of the lineage answers."""

    async def ask(peer: PeerId) -> _Told | None:
        try:
            answer = await network.call(peer, "round/status", b"", timeout_s=5.0)
            status = parse(pb.Status, answer, bytes_max=MAX_MESSAGE_BYTES, what="a status")
            if not status.active or status.lineage != lineage:
                return None
            return _Told(status.round, Member.from_wire(status.member), Roster.from_wire(status.roster))
        except NetworkClosed:
            raise
        except GossamerError:
            return None

    answers = zip(peers, await asyncio.gather(*(ask(peer) for peer in peers)), strict=True)
    told = {peer: one for peer, one in answers if one is not None}
    if not told:
        return None
    newest = told[max(told, key=lambda peer: (told[peer].round_index, peer))].roster.members
    lives = {member.peer: member for member in newest}
    for peer, one in told.items():
        if one.member.peer == peer and (peer not in lives or one.member.incarnation > lives[peer].incarnation):
            lives[peer] = one.member
    return Present(
        members=tuple(lives.values()), lost=frozenset(lost_stages(newest, n_stages)), answered=frozenset(told)
    )


def newest_of_stage(folder: Path, stage: int, lineage: bytes) -> Checkpoint | None:
    """The newest whole checkpoint of a stage in this folder, of one lineage of the run."""
    for path in list_checkpoints(folder):
        try:
            checkpoint = load(path)
        except CorruptCheckpoint:
            continue
        told = checkpoint.record.get("pipeline")
        of_stage = isinstance(told, dict) and told.get("stage") == stage
        if of_stage and checkpoint.record.get("lineage") == lineage.hex():
            return checkpoint
    return None
