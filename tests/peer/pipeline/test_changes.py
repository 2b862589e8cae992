"""What every member keeps in mind of its pipeline's roster."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gossamer.peer.pipeline.changes import RESTLESS_S, Brought, Situation, StageChanges
from gossamer.peer.rounds.decision import Decision
from gossamer.peer.rounds.roster import Member, Roster
from gossamer.peer.rounds.stage_changes import Move
from gossamer.protocol.identity import Identity

PEERS = sorted(Identity(bytes([number]) * 32).peer_id for number in range(4))
ROSTER = Roster.of(Member(peer, 1, slot % 2) for slot, peer in enumerate(PEERS))
NEWCOMER = Member(Identity(bytes([9]) * 32).peer_id, 1, 0)


@pytest.mark.parametrize(
    ("decision", "is_restless"),
    [
        ({}, False),
        ({"added": (NEWCOMER,)}, False),
        ({"removed": (1,), "moves": (Move(slot=1, stage=0),)}, False),
        ({"removed": (1,)}, True),
        ({"removed": (1, 2), "moves": (Move(slot=1, stage=0),)}, True),
        ({"added": (ROSTER.members[3].reborn(),)}, True),
    ],
)
def test_who_is_lost_or_leaves_makes_members_expect_more_of_it_for_some_minutes(
    decision: dict[str, tuple[object, ...]], is_restless: bool
) -> None:
    now_s = 50.0
    changes = _changes(lambda: now_s)
    decided = Decision(lineage=b"", round_index=0, base=b"", **decision)  # type: ignore[arg-type]

    changes.note(decided, ROSTER, decided.next_roster(ROSTER))

    assert changes.is_restless is is_restless
    now_s += RESTLESS_S
    assert not changes.is_restless


def test_who_has_only_just_come_does_not_take_a_run_for_calm() -> None:
    now_s = 50.0

    newcomer = _changes(lambda: now_s, is_new=True)

    assert newcomer.is_restless
    now_s += RESTLESS_S
    assert not newcomer.is_restless


def test_who_brings_no_state_does_not_bring_a_lost_stage_back() -> None:
    changes, left = _changes(lambda: 50.0), Roster.of(Member(peer, 1, 0) for peer in PEERS)
    empty, whole = (Member(Identity(bytes([number]) * 32).peer_id, 1, 1) for number in (8, 9))
    for member, state in ((empty, b""), (whole, bytes(32))):
        changes.brought[member.peer] = Brought(member=member, state=state, n_lost=0, base=bytes(32))
    asked = Decision(lineage=bytes(16), round_index=0, base=bytes(32), added=tuple(sorted((empty, whole))))

    decided = changes.amend(asked, Situation(roster=left, gone=(), step=5, base=bytes(32)))

    assert decided.added == (whole,)
    assert Decision.decode(decided.encode(), left).restored[0].state == bytes(32)


def _changes(clock: Callable[[], float], *, is_new: bool = False) -> StageChanges:
    return StageChanges(2, every_s=0.0, restore_after_s=60.0, clock=clock, roster=ROSTER, is_new=is_new)
