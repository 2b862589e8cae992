"""The report of one run: figures and tables put into one self-contained HTML file."""

from __future__ import annotations

import shlex
from pathlib import Path

import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup

from ..events import Ended, Memory, Sampled
from . import wording
from .attendance import PART_COLORS, PART_NAMES, heat_map, notables_of, resync_text, timeline
from .devices import device_rows, shares
from .headlines import Facts, facts_of, headlines_of
from .injected import Injected, injected_in
from .kills import Kill, kills_of
from .learning import accuracy_by_step, bytes_by_purpose, loss_by_bytes, loss_by_step, round_times
from .participation import RoundView, rounds_of
from .run import Run, load_run
from .shell import figure_json, policy, read, script, template, write_page
from .speed import loss_by_time, speed_figures
from .stages import moves_of, served_by, stage_figures

_NOTABLES_MAX = 500


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder, or into that of one of its daemons, from the logs there.

    Returns: the report's path.
    Raises: StateError when there is no log, or one cannot be read, or the report cannot be written.
    """
    html = render(load_run(folder))
    return write_page(html, folder / "report.html")


def render(run: Run) -> str:
    """The page's HTML."""
    rounds = rounds_of(run)
    kills = kills_of(run, rounds)
    facts, faults = facts_of(run, rounds), injected_in(run)
    scripts = {"plotly": script(plotly.offline.get_plotlyjs()), "page": script(read("page.js"))}
    return template("page.html.j2").render(
        facts=facts,
        is_sized=run.summary.is_sized,
        wording=wording,
        headlines=headlines_of(run, facts),
        figures=_figures(run, rounds, kills, facts, faults),
        kills=kills,
        resync_text=resync_text,
        legend=[(PART_NAMES[part], Markup(color)) for part, color in PART_COLORS.items()],
        notables=notables_of(run, kills, faults)[:_NOTABLES_MAX],
        told=run.summary,
        faults=faults[:_NOTABLES_MAX],
        n_faults=len(faults),
        failures=_failures(run),
        served=served_by(run),
        moves=moves_of(run),
        samples=_samples(run),
        devices=device_rows(run.summary),
        memory=_memory(run),
        command=_command(run),
        style=Markup(read("page.css")),
        scripts=scripts,
        policy=Markup(policy(list(scripts.values()))),
    )


def _figures(
    run: Run, rounds: list[RoundView], kills: list[Kill], facts: Facts, faults: list[Injected]
) -> dict[str, Markup]:
    """Element id -> the figure's JSON; only the figures that have something to show."""
    made: dict[str, go.Figure] = {} if run.summary.is_sized else {"loss-by-step": loss_by_step(run)}
    accuracy, weights = accuracy_by_step(run), shares(run.summary)
    if accuracy is not None:
        made["accuracy-by-step"] = accuracy
    if weights is not None:
        made["shares"] = weights
    optional = {"loss-by-time": loss_by_time(run)}
    if facts.sent_bytes_per_step and not facts.n_devices:  # what devices send is not among a peer's bytes
        optional["loss-by-bytes"] = loss_by_bytes(run, dense_bytes_per_step=facts.dense_bytes_per_step)
    made |= {name: figure for name, figure in optional.items() if figure is not None}
    if facts.sent_bytes_per_step:
        made["bytes-by-purpose"] = bytes_by_purpose(run)
    if rounds:
        made["round-times"] = round_times(rounds, kills)
        made["heat-map"] = heat_map(run, rounds)
    made["timeline"] = timeline(run, notables_of(run, kills, faults), faults)
    made |= speed_figures(run)
    made |= stage_figures(run)
    return {name: figure_json(figure) for name, figure in made.items()}


def _samples(run: Run) -> tuple[Sampled, Sampled] | None:
    """The text of the earliest step and that of the latest, if there are two."""
    events = sorted((event for _, _, event in run.told(Sampled)), key=lambda event: event.step)
    return (events[0], events[-1]) if events and events[0].step < events[-1].step else None


def _memory(run: Run) -> list[tuple[str, Memory]]:
    """(peer's label, its largest memory) for the peers that told it. All simulated peers are in one process."""
    found: list[tuple[str, Memory]] = []
    if run.summary.is_simulated:
        return found
    for log in run.peers:
        events = [event for _, event in log.told(Memory)]
        if events:
            found.append((log.label, max(events, key=lambda event: event.rss_bytes)))
    return found


def _failures(run: Run) -> list[tuple[str, str]]:
    """(peer's label, message) of the daemons that ended with an error."""
    return [
        (log.label, event.message) for log in run.peers for _, event in log.told(Ended) if event.outcome == "failed"
    ]


def _command(run: Run) -> str | None:
    told = run.summary.command
    return shlex.join(told) if isinstance(told, list) else told
