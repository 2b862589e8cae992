"""The page: figures and tables put into one self-contained HTML file.

Texts in the logs may come from other peers, so nothing of them is trusted: the template escapes everything, figures go
in as JSON that cannot close its script element, and a content security policy lets only the page's own scripts run and
nothing load.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import shlex
from pathlib import Path

import jinja2
import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup

from ...protocol.errors import StateError
from ..events import Ended, Memory, Sampled
from . import wording
from .attendance import PART_COLORS, PART_NAMES, heat_map, notables_of, resync_text, timeline
from .headlines import Facts, facts_of, headlines_of
from .kills import Kill, kills_of
from .learning import bytes_by_purpose, loss_by_bytes, loss_by_step, round_times
from .participation import RoundView, rounds_of
from .run import Run, load_run
from .stages import moves_of, served_by, stage_figures

_HERE = Path(__file__).parent
_NOTABLES_MAX = 500


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder, or into that of one of its daemons, from the logs there.

    Returns: the report's path.
    Raises: StateError when there is no log, or one cannot be read, or the report cannot be written.
    """
    html = render(load_run(folder))
    path = folder / "report.html"
    temporary = path.with_name(".report.html")
    try:
        temporary.write_text(html, encoding="utf-8", errors="replace")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StateError(f"cannot write {path}: {error.strerror}; make room there, or check its permissions") from None
    return path


def render(run: Run) -> str:
    """The page's HTML."""
    rounds = rounds_of(run)
    kills = kills_of(run, rounds)
    facts = facts_of(run, rounds)
    scripts = {"plotly": _script(plotly.offline.get_plotlyjs()), "page": _script(_read("page.js"))}
    return _template().render(
        facts=facts,
        wording=wording,
        headlines=headlines_of(run, facts),
        figures=_figures(run, rounds, kills, facts),
        kills=kills,
        resync_text=resync_text,
        legend=[(PART_NAMES[part], Markup(color)) for part, color in PART_COLORS.items()],
        notables=notables_of(run, kills)[:_NOTABLES_MAX],
        failures=_failures(run),
        served=served_by(run),
        moves=moves_of(run),
        samples=_samples(run),
        memory=_memory(run),
        command=_command(run),
        style=Markup(_read("page.css")),
        scripts=scripts,
        policy=Markup(_policy(list(scripts.values()))),
    )


def _figures(run: Run, rounds: list[RoundView], kills: list[Kill], facts: Facts) -> dict[str, Markup]:
    """Element id -> the figure's JSON; only the figures that have something to show."""
    made: dict[str, go.Figure] = {"loss-by-step": loss_by_step(run)}
    if facts.sent_bytes_per_step:
        made["loss-by-bytes"] = loss_by_bytes(run, dense_bytes_per_step=facts.dense_bytes_per_step)
        made["bytes-by-purpose"] = bytes_by_purpose(run)
    if rounds:
        made["round-times"] = round_times(rounds, kills)
        made["heat-map"] = heat_map(run, rounds)
    made["timeline"] = timeline(run, notables_of(run, kills))
    made |= stage_figures(run)
    return {name: _json(figure) for name, figure in made.items()}


def _json(figure: go.Figure) -> Markup:
    text = json.dumps(json.loads(figure.to_json()), separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _samples(run: Run) -> tuple[Sampled, Sampled] | None:
    """The text of the earliest step and that of the latest, if there are two."""
    events = sorted((event for _, _, event in run.told(Sampled)), key=lambda event: event.step)
    return (events[0], events[-1]) if events and events[0].step < events[-1].step else None


def _memory(run: Run) -> list[tuple[str, Memory]]:
    """(peer's label, its largest memory) for the peers that told it."""
    found = []
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


def _script(text: str) -> Markup:
    return Markup(text.replace("\r\n", "\n"))


def _policy(scripts: list[Markup]) -> str:
    """Only these scripts run, nothing is loaded; plotly styles its elements itself."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2")
