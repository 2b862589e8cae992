from __future__ import annotations

import pytest

from gossamer.peer.rounds.roster import NO_STAGE, WHOLE, Member, Roster
from gossamer.protocol import rounds_pb2 as pb
from gossamer.protocol.errors import InvalidMessage
from gossamer.protocol.identity import Identity

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(3))
ROSTER = Roster.of([Member(peer, 1) for peer in PEERS])


def test_a_members_slot_is_its_place_in_the_order_of_ids() -> None:
    assert [ROSTER.slot_of(peer) for peer in PEERS] == [0, 1, 2]
    assert Roster.of(ROSTER.members[1:]).slot_of(PEERS[0]) is None


def test_a_roster_that_nobody_left_or_joined_stays_itself() -> None:
    assert ROSTER.changed((), ()) is ROSTER


def test_a_new_life_takes_the_place_of_the_old_and_changes_the_hash() -> None:
    changed = ROSTER.changed((), [ROSTER.members[1].reborn()])

    assert [member.incarnation for member in changed.members] == [1, 2, 1]
    assert changed.hash() != ROSTER.hash()
    assert ROSTER.changed([1], ()).peers == (PEERS[0], PEERS[2])


@pytest.mark.parametrize("stage", [WHOLE, 0, NO_STAGE - 1, NO_STAGE])
def test_a_member_says_what_it_serves(stage: int) -> None:
    member = Member(PEERS[0], 1, stage)

    assert Member.from_wire(member.to_wire()) == member
    assert member.serves == (stage != NO_STAGE)


def test_who_only_trains_has_no_vote_and_does_not_lead() -> None:
    mixed = Roster.of([Member(PEERS[0], 1, NO_STAGE), Member(PEERS[1], 1, 0), Member(PEERS[2], 1, 1)])

    assert (sorted(mixed.voters), mixed.quorum) == ([1, 2], 2)
    assert sorted(mixed.leaders(b"lineage", 3)) == [1, 2]
    assert [mixed.has_quorum(slots) for slots in ([0, 1], [1, 2], [0, 1, 2])] == [False, True, True]
    assert Roster.of([Member(PEERS[0], 1, NO_STAGE)]).quorum == 1


def test_a_member_of_a_stage_that_cannot_be_or_of_no_use_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="there are 64 at most"):
        Member.from_wire(pb.Member(peer=PEERS[0], incarnation=1, stage=NO_STAGE + 2))
    with pytest.raises(InvalidMessage, match="neither serves a stage nor trains"):
        Member.from_wire(pb.Member(peer=PEERS[0], incarnation=1, stage=NO_STAGE + 1, replica_only=True))
