"""What a daemon tells the person who started it: a line for whatever that person would want to know."""

from __future__ import annotations

import sys

from ..event_kinds import Checkpointed, Evaluated, Event, Forked, Joined, Left, PeerRefused, Resynced, Started, Warned
from ..events import Entry


def tell(entry: Entry) -> None:
    """Print an event on stderr, if it is one for people."""
    text = wording(entry.event)
    if text:
        print(text, file=sys.stderr, flush=True)


def wording(event: Event) -> str:
    """An event in a few words; empty for those that come in every round."""
    match event:
        case Started():
            at = f", at {event.address}" if event.address else ""
            return f"run {event.run_id}: {event.task} by {event.method}, {event.n_params:,} parameters{at}"
        case Joined():
            return f"round {event.round}: in a group of {len(event.roster)} ({', '.join(event.roster)})"
        case Evaluated():
            accuracy = "" if event.accuracy is None else f", accuracy {event.accuracy:.1%}"
            loss = "not finite" if event.loss is None else f"{event.loss:.4f}"
            return f"step {event.step}: held-out loss {loss}{accuracy}"
        case Checkpointed():
            return f"step {event.step}: checkpoint {event.path}, {event.bytes / 1e6:.1f} MB"
        case Resynced():
            return f"caught up from round {event.from_round} to {event.to_round}: {event.how}"
        case Forked():
            return f"round {event.round}: the group split, this part goes on with {len(event.roster)}"
        case PeerRefused():
            return f"refused {event.refused}: {event.reason}"
        case Warned():
            return f"warning: {event.message}"
        case Left():
            return f"left: {event.reason}"
        case _:
            return ""
