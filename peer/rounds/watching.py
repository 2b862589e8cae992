"""The dead do not say that they are dead: somebody has to look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ...protocol.errors import GossamerError, NetworkClosed, NewLife, PeerUnreachable

if TYPE_CHECKING:
    from .round import Round

EVERY = 0.1
"""A leader looks for members that it has not heard of for this part of a deadline."""
EVERY_S_MIN, EVERY_S_MAX = 0.5, 3.0
"""Its bounds: the longer rounds take, the more is waited for while nobody knows of a death."""


async def look_for(round_: Round, slot: int, hold: bytes | None = None) -> None:
    """See whether a member is gone. One that is merely slow to answer keeps the time that it has anyway.

    Args:
        hold: my report, where several are told the same.
    """
    peer = round_.place.roster.members[slot].peer
    message = hold if hold is not None else round_.reporting.hold().SerializeToString()
    try:
        await round_.network.call(peer, "round/hold", message, timeout_s=max(2.0, round_.patience_s))
    except PeerUnreachable:
        round_.suspect(slot, "unreachable")
    except NewLife:
        round_.suspect(slot, "restarted")
    except NetworkClosed:
        raise
    except GossamerError:
        return


async def watch(round_: Round, slots: Sequence[int], while_true: Callable[[], bool]) -> None:
    """Look for members of whom nothing is heard, again and again; for each of them once at a time."""
    every_s = interval_s(round_)
    looked_for: set[int] = set()

    async def look(slot: int, hold: bytes) -> None:
        try:
            await look_for(round_, slot, hold)
        finally:
            looked_for.discard(slot)

    while while_true():
        await asyncio.sleep(every_s)
        awaited = [slot for slot in slots if slot not in round_.suspects and slot not in looked_for]
        unheard = [slot for slot in awaited if round_.unheard_s(slot) >= every_s]
        if unheard:
            hold = round_.reporting.hold().SerializeToString()
            looked_for.update(unheard)
            for slot in unheard:
                round_.spawn(look(slot, hold))


async def watch_leaders(round_: Round) -> None:
    """Look for the leader whenever it would be my turn after it. The others tell it only what is news to it, and may
    have none for a long time."""
    while True:
        ballot, leader = round_.ballot, round_.leader
        if leader != round_.place.slot == round_.place.leader_of(ballot + 1):
            await watch(round_, (leader,), partial(_is_in_ballot, round_, ballot))
        else:
            await round_.ballot_over(ballot)


def _is_in_ballot(round_: Round, ballot: int) -> bool:
    return round_.ballot == ballot


def interval_s(round_: Round) -> float:
    """Between two looks."""
    return max(EVERY_S_MIN, min(EVERY_S_MAX, EVERY * round_.patience_s))
