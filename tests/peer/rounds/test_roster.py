from __future__ import annotations

from gossamer.peer.rounds.roster import Member, Roster
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
