"""Whose word counts on what a run has done."""

from __future__ import annotations

from gossamer.peer.pipeline.vouching import Vouched, newest_vouched
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.peer.rounds.snapshots import Offer, Standing
from gossamer.protocol.identity import Identity, PeerId

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(6))
STANDING = Standing(
    lineage=bytes(16), index=9, roster=Roster.of(Member(peer, 1, 0) for peer in PEERS[:3]), digest=bytes(32)
)


def word(donor: PeerId, step: int) -> Vouched:
    offer = Offer(donor, STANDING, 0, (), bytes(32), False)
    return Vouched(offer=offer, stage=0, step=step, samples=8 * step, unsettled=b"")


def test_strangers_do_not_say_how_far_a_run_has_come() -> None:
    members, strangers = [word(peer, 7) for peer in PEERS[:2]], [word(peer, 3) for peer in PEERS[3:]]

    found = newest_vouched([*strangers, *members])

    assert found is not None
    assert found.step == 7
    assert newest_vouched([*strangers, members[0]]) is None
