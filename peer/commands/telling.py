"""What a daemon tells the person who started it: a line for whatever that person would want to know."""

from __future__ import annotations

import asyncio
import sys

from ..daemon import Daemon
from ..event_kinds import Checkpointed, Evaluated, Event, Forked, Joined, Left, PeerRefused, Resynced, Started, Warned
from ..events import Entry

PATIENCE_S = 4.0
"""So long a peer may look for its place before it says what it is waiting for."""
LOOK_EVERY_S = 1.0


def tell(entry: Entry) -> None:
    """Print an event on stderr, if it is one for people."""
    text = wording(entry.event)
    if text:
        print(text, file=sys.stderr, flush=True)


def wording(event: Event) -> str:
    """An event in a few words; empty for those that come in every round."""
    text = ""
    match event:
        case Started():
            text = f"run {event.run_id}: {event.task} by {event.method}, {event.n_params:,} parameters"
        case Joined():
            text = f"round {event.round}: in a group of {len(event.roster)} ({', '.join(event.roster)})"
        case Evaluated():
            loss = "not finite" if event.loss is None else f"{event.loss:.4f}"
            accuracy = "" if event.accuracy is None else f", accuracy {event.accuracy:.1%}"
            text = f"step {event.step}: held-out loss {loss}{accuracy}"
        case Checkpointed():
            text = f"step {event.step}: checkpoint {event.path}, {event.bytes / 1e6:.1f} MB"
        case Resynced():
            text = f"caught up from round {event.from_round} to {event.to_round}: {event.how}"
        case Forked():
            text = f"round {event.round}: the group split, this part goes on with {len(event.roster)}"
        case PeerRefused():
            text = f"refused {event.refused}: {event.reason}"
        case Warned():
            text = f"warning: {event.message}"
        case Left():
            text = f"left: {event.reason}"
    return text


async def tell_waiting(daemon: Daemon) -> None:
    """Say what a peer without a place in the run waits for: after a while, and when that changes."""
    told, since_s = "", asyncio.get_running_loop().time()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now_s = asyncio.get_running_loop().time()
        if daemon.group is not None:
            told, since_s = "", now_s
        elif now_s - since_s > PATIENCE_S and (text := _waiting(daemon)) != told:
            print(text, file=sys.stderr, flush=True)
            told = text


def _waiting(daemon: Daemon) -> str:
    claims = daemon.membership.view.values()
    if any(claim.active for claim in claims):
        return "waiting for the group to let this peer in"
    owner = daemon.signed.owner
    if owner != daemon.identity.peer_id and all(claim.member.peer != owner for claim in claims):
        return f"waiting for the run's owner {owner}, whose peer starts it"
    return f"waiting for the run to start: {1 + len(claims)} peers are here, {daemon.manifest.group.start_peers} needed"
