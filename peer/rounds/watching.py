"""The dead do not say that they are dead: somebody has to look.

A watcher's call is answered when the round is over. Until then it is a connection and no messages, and fails as soon as
the process at its other end dies.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import GossamerError, NetworkClosed, NewLife, PeerUnreachable

if TYPE_CHECKING:
    from .round import Round

METHOD = "round/watch"
UNREACHABLE = "unreachable"
STANDS_S, GRACE_S = 60.0, 5.0
"""A watcher is answered after this long in any case, and asks again: a peer may vanish without a word."""
AGAIN_AFTER_S = 0.2
"""A connection can fail while both of its ends live. The dead cannot be reached a moment later either."""
EVERY = 0.1
"""For this part of a deadline nobody is watched: shorter rounds do without."""
EVERY_S_MIN, EVERY_S_MAX = 0.5, 2.5
"""Its bounds: the longer rounds take, the more is waited for while nobody knows of a death."""


async def look_for(round_: Round, slot: int) -> None:
    """See whether a member is gone. One that is merely slow to answer keeps the time that it has anyway."""
    message = round_.reporting.hold().SerializeToString()
    if reason := await _gone(round_, slot, "round/hold", message, timeout_s=max(2.0, round_.patience_s)):
        round_.suspect(slot, reason)


async def watch(round_: Round, slots: Sequence[int], while_true: Callable[[], bool]) -> None:
    """Notice when one of these members is gone; each is asked once at a time."""
    every_s = interval_s(round_)
    asked: set[int] = set()

    async def ask(slot: int) -> None:
        try:
            await _stand(round_, slot)
        finally:
            asked.discard(slot)

    while while_true():
        await asyncio.sleep(every_s)
        for slot in slots:
            if slot not in round_.suspects and slot not in asked:
                asked.add(slot)
                round_.spawn(ask(slot))


async def watch_leaders(round_: Round) -> None:
    """Watch the leader whenever it would be my turn after it. The others tell it only what is news to it, and may
    have none for a long time."""
    while True:
        ballot, leader = round_.ballot, round_.leader
        if leader != round_.place.slot == round_.place.leader_of(ballot + 1):
            await watch(round_, (leader,), partial(_is_in_ballot, round_, ballot))
        else:
            await round_.ballot_over(ballot)


async def be_watched(round_: Round, slot: int, ballot: int) -> bytes:
    """Answer a watcher: when the round is over here, at the latest after a while. One call of each member stands; a
    further one is answered at once."""
    round_.heard(slot)
    round_.enter(ballot)
    if slot in round_.watched_by:
        return b""
    round_.watched_by.add(slot)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STANDS_S):
                await round_.over.wait()
    finally:
        round_.watched_by.discard(slot)
    return b""


def interval_s(round_: Round) -> float:
    """From the beginning of a round, or from an answer, to the next look."""
    return max(EVERY_S_MIN, min(EVERY_S_MAX, EVERY * round_.patience_s))


async def _stand(round_: Round, slot: int) -> None:
    place = round_.place
    message = pb.Prepare(lineage=place.lineage, round=place.index, ballot=round_.ballot).SerializeToString()
    reason = await _gone(round_, slot, METHOD, message, timeout_s=STANDS_S + GRACE_S)
    if reason == UNREACHABLE:
        await asyncio.sleep(AGAIN_AFTER_S)
        reason = await _gone(round_, slot, METHOD, message, timeout_s=STANDS_S + GRACE_S)
    if reason:
        round_.suspect(slot, reason)


async def _gone(round_: Round, slot: int, method: str, message: bytes, *, timeout_s: float) -> str:
    """Call a member: why it is gone; empty if it is not."""
    try:
        await round_.network.call(round_.place.roster.members[slot].peer, method, message, timeout_s=timeout_s)
    except PeerUnreachable:
        return UNREACHABLE
    except NewLife:
        return "restarted"
    except NetworkClosed:
        raise
    except GossamerError:
        return ""
    return ""


def _is_in_ballot(round_: Round, ballot: int) -> bool:
    return round_.ballot == ballot
