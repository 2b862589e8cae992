"""What a newcomer learns of who serves which stage."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from gossamer.peer.pipeline.present import ask_present
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.protocol import rounds_pb2 as pb
from gossamer.protocol.errors import PeerUnreachable
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.network import Network

A, B, C, D = sorted(Identity(bytes([number]) * 32).peer_id for number in range(4))
ROSTER = Roster.of([Member(A, 1, 0), Member(B, 1, 1), Member(C, 1, 1)])
LINEAGE = b"l" * 16


def test_who_came_back_counts_at_the_stage_that_it_now_waits_for() -> None:
    says = {A: Member(A, 1, 0), B: Member(B, 2, 0), D: Member(D, 1, 1)}

    async def call(peer: PeerId, *args: object, **options: object) -> bytes:
        if peer not in says:
            raise PeerUnreachable("gone")
        status = pb.Status(active=True, lineage=LINEAGE, round=3, member=says[peer].to_wire(), roster=ROSTER.to_wire())
        return status.SerializeToString()

    network = cast(Network, SimpleNamespace(call=call))
    present = asyncio.run(ask_present(network, [A, B, C, D], LINEAGE, 2))

    assert present is not None
    assert sorted(present.members) == sorted([Member(A, 1, 0), Member(B, 2, 0), Member(C, 1, 1), Member(D, 1, 1)])
    assert present.unserved(2) == frozenset()
    says.pop(D)
    assert asyncio.run(ask_present(network, [A, B, C, D], LINEAGE, 2)).unserved(2) == {1}  # type: ignore[union-attr]
