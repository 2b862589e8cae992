"""How a group's next round begins: with the roster as it is, and the patience that was learnt so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...algorithms import Slots
from .place import Place
from .round import Round

if TYPE_CHECKING:
    from .group import Group


def open_round(group: Group) -> Round:
    """A round in which this peer is a member. Its transfer is still to be given to it."""
    slot, steps = group.slot, group.replica.steps
    assert slot is not None
    peers = group.roster.peers
    return Round(
        Place(lineage=group.lineage, index=group.index, roster=group.roster, base=group.digest, slot=slot),
        network=group.network,
        identity=group.identity,
        rules=group.rules,
        patience_s=group.patience.deadline_s(steps),
        quota=group.backup.quota(group.index, peers, steps, group.replica.method.noise_scale()),
        passed_over=frozenset(slot for slot, peer in enumerate(peers) if peer in group.backup.late),
        suffices=lambda contributors: _suffices(group, contributors),
        draft=group.draft,
        is_leaving=lambda: group.leaving,
        note_stale=group.catch_up.nudge,
        unadmitted=group.delegate.unadmitted,
        refused=group.delegate.refused,
        warn=group.delegate.warned,
    )


def _suffices(group: Group, contributors: tuple[int, ...]) -> bool:
    return group.replica.method.suffices(Slots(contributors=contributors, n_members=len(group.roster)))
