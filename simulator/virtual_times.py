"""When daemons lived on the simulation's clock: logs line up by their machines' clocks, which may be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..peer.daemon import Daemon
from ..peer.event_kinds import RoundEnded, Started
from ..peer.events import Entry

Starts = dict[str, list[float]]
"""A folder of peers/ -> virtual time at which each life in its log began."""


def starts_of(daemons: Iterable[Daemon]) -> Starts:
    """Args: daemons: of every life, in order."""
    starts: Starts = {}
    for daemon in daemons:
        if daemon.log.has_told:
            starts.setdefault(daemon.log.path.parent.name, []).append(daemon.log.start_s)
    return starts


def last_update_s(logs: Mapping[str, Sequence[Entry]], starts: Starts) -> float:
    """Virtual time at which somebody applied an update for the last time; 0: nobody did."""
    last_s = 0.0
    for folder, entries in logs.items():
        life = -1
        for entry in entries:
            event = entry.event
            life += isinstance(event, Started)
            if isinstance(event, RoundEnded) and event.outcome == "committed":
                last_s = max(last_s, starts[folder][life] + entry.t_s)
    return last_s
