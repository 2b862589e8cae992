"""A decision is told to everybody whom it concerns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .ledger import Committed

if TYPE_CHECKING:
    from .group import Group

FAREWELL_S = 4.0


def spread(group: Group, committed: Committed) -> None:
    """The leader tells the members of this round and of the next."""
    message = committed.to_wire().SerializeToString()
    after = committed.decision.next_roster(committed.roster)
    for peer in sorted({*committed.roster.peers, *after.peers}):
        if peer != group.network.peer_id:
            group.spawn(group.catch_up.tell(peer, message))


async def tell_stop(group: Group, committed: Committed) -> None:
    """Stay until everybody knows of the stop, but not for long."""
    message = committed.to_wire().SerializeToString()
    others = [peer for peer in committed.roster.peers if peer != group.network.peer_id]
    try:
        async with asyncio.timeout(FAREWELL_S):
            await asyncio.gather(*(group.catch_up.tell(peer, message) for peer in others))
    except TimeoutError:
        group.delegate.warned("not everybody confirmed the stop of the run in time")
