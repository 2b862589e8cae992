"""Figures of who was there, and of what happened to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import plotly.graph_objects as go

from ..events import Checkpointed, Forked, Left, PeerRefused, Resynced, Started, Warned, short_id
from . import wording
from .injected import Injected
from .kills import Kill
from .participation import Part, RoundView, parts_of
from .run import PeerLog, Run
from .theme import BLUE, FAINT, FAULTY, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, YELLOW, figure, label

_COLUMNS_MAX = 1200

PART_COLORS = {
    Part.CONTRIBUTED: BLUE,
    Part.AWAY: FAINT,
    Part.LEFT_OUT: ORANGE,
    Part.UNKNOWN: PURPLE,
    Part.FAILED: VERMILLION,
}

PART_NAMES = {
    Part.CONTRIBUTED: "contributed",
    Part.AWAY: "away",
    Part.LEFT_OUT: "left out",
    Part.UNKNOWN: "outcome unknown",
    Part.FAILED: "round failed",
}


def heat_map(run: Run, rounds: list[RoundView]) -> go.Figure:
    """Peers by rounds, coloured by what the peer did. Very long runs show the most remarkable of several rounds."""
    width = max(1, -(-len(rounds) // _COLUMNS_MAX))
    starts = range(0, len(rounds), width)
    cells: list[list[int]] = []
    texts: list[list[str]] = []
    for log in run.peers:
        parts = parts_of(rounds, log)
        worst = [max(range(start, min(start + width, len(rounds))), key=lambda at: parts[at][0]) for start in starts]
        cells.append([int(parts[place][0]) for place in worst])
        texts.append([_cell_text(rounds[place], *parts[place]) for place in worst])
    made = figure(height=76 + 30 * len(run.peers), x_title="round")
    made.add_heatmap(
        z=cells,
        x=[rounds[start].round for start in starts],
        y=[label(log.label, 40) for log in run.peers],
        text=texts,
        hovertemplate="%{y}, %{text}<extra></extra>",
        colorscale=_steps(list(PART_COLORS.values())),
        zmin=-0.5,
        zmax=len(Part) - 0.5,
        showscale=False,
        xgap=1 if len(starts) <= 80 else 0,
        ygap=4,
    )
    made.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return made


@dataclass(frozen=True, kw_only=True)
class Notable:
    """Something that a person would want to know of."""

    at_s: float
    peer: PeerLog
    what: str
    text: str


MARKS = {
    "fault": (PURPLE, "triangle-down"),
    "killed": (VERMILLION, "x"),
    "restarted": (GREEN, "triangle-right"),
    "resynchronised": (SKY, "diamond"),
    "forked": (PURPLE, "star"),
    "left": (GREY, "square"),
    "refused": (YELLOW, "hourglass"),
    "warning": (ORANGE, "triangle-up"),
    "checkpoint": (GREY, "line-ns-open"),
    "failed": (VERMILLION, "cross"),
}


def notables_of(run: Run, kills: list[Kill], faults: list[Injected]) -> list[Notable]:
    """What happened besides training, by time."""
    found = [
        Notable(at_s=at_s, peer=log, what=what, text=text)
        for log in run.peers
        for at_s, what, text in (*_told(log), *_fates(log))
    ]
    found += [Notable(at_s=kill.at_s, peer=kill.peer, what="killed", text="the log breaks off") for kill in kills]
    found += [
        Notable(at_s=fault.at_s, peer=log, what="fault", text=fault.in_words)
        for fault in faults
        for log in fault.victims
    ]
    return sorted(found, key=lambda one: one.at_s)


def timeline(run: Run, notables: list[Notable], faults: list[Injected]) -> go.Figure:
    """The lives of the peers as bars, and what happened to them as marks; faults that went on are bars as well."""
    made = figure(height=110 + 34 * len(run.peers), x_title="seconds since the start")
    for log in run.peers:
        name = label(log.label, 40)
        for life in log.lives:
            line = {"color": FAINT, "width": 12}
            ends = [life.start_s, life.end_s]
            made.add_scatter(x=ends, y=[name, name], mode="lines", line=line, showlegend=False, hoverinfo="skip")
    for fault in faults:
        for name in [label(log.label, 40) for log in fault.victims if fault.end_s > fault.at_s]:
            line = {"color": FAULTY, "width": 12}
            ends = [fault.at_s, fault.end_s]
            made.add_scatter(x=ends, y=[name, name], mode="lines", line=line, showlegend=False, hoverinfo="skip")
    for what, (color, symbol) in MARKS.items():
        marks = [one for one in notables if one.what == what]
        if marks:
            made.add_scatter(
                x=[one.at_s for one in marks],
                y=[label(one.peer.label, 40) for one in marks],
                name=what,
                mode="markers",
                marker={"color": color, "size": 11, "symbol": symbol, "line": {"color": color, "width": 2}},
                text=[label(one.text) for one in marks],
                hovertemplate="%{x:.1f} s: " + what + "<br>%{text}<extra></extra>",
            )
    made.update_yaxes(autorange="reversed", type="category", showgrid=False)
    made.update_xaxes(showgrid=True)
    return made


def _told(log: PeerLog) -> Iterator[tuple[float, str, str]]:
    for place, life in enumerate(log.lives):
        for at_s, _ in life.told(Started):
            if place:
                yield at_s, "restarted", f"life {place + 1}"
    for at_s, resynced in log.told(Resynced):
        yield at_s, "resynchronised", resync_text(resynced)
    for at_s, forked in log.told(Forked):
        roster = ", ".join(map(short_id, forked.roster))
        yield at_s, "forked", f"goes on as {forked.to_lineage[:8]} with {roster} from round {forked.round}"
    for at_s, refused in log.told(PeerRefused):
        yield at_s, "refused", f"{short_id(refused.refused)}: {refused.reason}"
    for at_s, warned in log.told(Warned):
        yield at_s, "warning", warned.message
    for at_s, saved in log.told(Checkpointed):
        text = f"step {saved.step}, {wording.size(saved.bytes)} in {wording.duration(saved.seconds)}"
        yield at_s, "checkpoint", text


def _fates(log: PeerLog) -> Iterator[tuple[float, str, str]]:
    for at_s, left in log.told(Left):
        yield at_s, "left", left.reason
    for life in log.lives:
        if life.fate == "failed":
            yield life.end_s, "failed", "the daemon ended with an error"


def resync_text(event: Resynced) -> str:
    """One line about a resynchronisation."""
    donors = wording.plural(len(event.donors), "donor")
    took = f"{wording.size(event.bytes)} from {donors} in {wording.duration(event.seconds)}"
    return f"to round {event.to_round}, {took} ({event.how})"


def _cell_text(view: RoundView, part: Part, reason: str) -> str:
    return f"round {view.round}: {PART_NAMES[part]}" + (f"<br>{label(reason)}" if reason else "")


def _steps(colors: list[str]) -> list[list[float | str]]:
    n = len(colors)
    return [[(place + side) / n, color] for place, color in enumerate(colors) for side in (0, 1)]
