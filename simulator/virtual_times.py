"""When daemons lived on the simulation's clock: logs line up by their machines' clocks, which may be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..peer.event_kinds import RoundEnded
from ..peer.events import Entry, lives_of

Starts = dict[str, list[float]]
"""A folder of peers/ -> virtual time at which each life in its log began."""


def last_update_s(logs: Mapping[str, Sequence[Entry]], starts: Starts) -> float:
    """Virtual time at which somebody applied an update for the last time; 0: nobody did."""
    last_s = 0.0
    for folder, entries in logs.items():
        for start_s, life in zip(starts.get(folder, ()), lives_of(entries), strict=True):
            for entry in life:
                if isinstance(entry.event, RoundEnded) and entry.event.outcome == "committed":
                    last_s = max(last_s, start_s + entry.t_s)
    return last_s
