"""The dead do not say that they are dead: somebody has to look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...protocol.errors import GossamerError, NetworkClosed, NewLife, PeerUnreachable

if TYPE_CHECKING:
    from .round import Round

EVERY = 0.1
"""A leader looks for members that it has not heard of for this part of a deadline."""
EVERY_S_MIN = 0.5


async def look_for(round_: Round, slot: int) -> None:
    """See whether a member is gone. One that is merely slow to answer keeps the time that it has anyway."""
    peer, message = round_.place.roster.members[slot].peer, round_.reporting.hold().SerializeToString()
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


async def watch(round_: Round, slot: int, while_true: Callable[[], bool]) -> None:
    """Look for a member of whom nothing is heard, again and again."""
    every_s = max(EVERY_S_MIN, EVERY * round_.patience_s)
    while while_true():
        await asyncio.sleep(every_s)
        if slot not in round_.suspects and round_.unheard_s(slot) >= every_s:
            await look_for(round_, slot)
