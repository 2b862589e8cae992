"""What a leader's decision says besides who contributed: who leaves, who joins, whether the run stops."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from .decision import LATE, Decision
from .roster import Member

if TYPE_CHECKING:
    from .group import Group
    from .leading import Leadership
    from .round import Round
    from .transfer import Proposal

OUT_OF_REACH = frozenset({"unreachable", "restarted"})
"""Reasons to think that a member's life is over."""
UNHEARD_ROUNDS = 3
"""A member of which the leader heard nothing for so many rounds is taken off the roster."""


def draft(group: Group, round_: Round, proposal: Proposal | None, leadership: Leadership) -> Decision:
    """Complete a proposal; None says that the round failed."""
    contributors, items = proposal or ((), ())
    leaving = {slot for slot, report in leadership.reports.items() if report.leaving}
    stop = all(slot in leaving for slot in round_.live()) or bool(
        contributors and group.replica.step + group.replica.steps >= group.stop_at
    )
    dead = _dead(group, round_, leadership)
    removed = () if stop else tuple(sorted(leaving | dead))
    return Decision(
        lineage=group.lineage,
        round_index=group.index,
        base=group.digest,
        contributors=contributors,
        items=items,
        excluded=_excluded(round_, contributors, leaving, dead),
        removed=removed,
        added=() if stop else _added(group, removed),
        stop=stop,
        snapshot=group.wants_snapshot and not stop,
    )


def _dead(group: Group, round_: Round, leadership: Leadership) -> set[int]:
    """Out of reach now, or not heard of for some rounds."""
    peers = round_.place.roster.peers
    gone = {slot for slot, reason in round_.suspects.items() if reason in OUT_OF_REACH}
    unheard = {slot for slot in round_.place.others if group.index - group.heard.get(peers[slot], 0) >= UNHEARD_ROUNDS}
    return (gone | unheard) - set(leadership.reports)


def _excluded(
    round_: Round, contributors: tuple[int, ...], leaving: set[int], dead: set[int]
) -> tuple[tuple[int, str], ...]:
    reasons = []
    for slot in range(len(round_.place.roster)):
        if slot in contributors:
            continue
        known = round_.suspects.get(slot) or round_.refusals.get(slot)
        fallback = "leaving" if slot in leaving else "dead" if slot in dead else LATE
        reasons.append((slot, known or fallback))
    return tuple(reasons)


def _added(group: Group, removed: Collection[int]) -> tuple[Member, ...]:
    """Who is let in: as many as there is room for, those that serve before those that only train."""
    staying = [member for slot, member in enumerate(group.roster.members) if slot not in removed]
    waiting = (joiner for joiner in group.joiners.values() if joiner not in group.roster.members)
    order = sorted(waiting, key=lambda joiner: (not joiner.serves, joiner))
    n_serving = sum(joiner.serves for joiner in order)
    n_training = sum(not member.serves for member in staying)
    room_for_training = max(0, group.peers_max - group.places_kept - n_training)
    room = max(0, group.peers_max - len(staying))
    return tuple(order[: n_serving + room_for_training][:room])
