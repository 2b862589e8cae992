"""Several runs on one page, real or simulated: what each learnt, by steps, time and bytes, and how fast it went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup

from ...protocol.errors import UsageError
from ..events import Evaluated, RoundEnded
from . import wording
from .learning import mean_by_step, mean_sent, sent_by_purpose
from .run import Run, load_run
from .shell import figure_json, policy, read, script, template, write_page
from .theme import SERIES, figure, label

RUNS_MAX = 24
_DASHES = ("solid", "dash", "dot")
_WINDOWS = 60


@dataclass(frozen=True, kw_only=True)
class Point:
    """An evaluation: the mean over those who tried the model after the same update."""

    step: int
    at_s: float
    """Since the run's first event."""
    sent_bytes: float
    """By a peer, on average, until then."""
    loss: float


@dataclass(frozen=True, kw_only=True)
class Course:
    """One run, as far as it is compared with others."""

    name: str
    task: str
    method: str
    n_peers: int
    n_params: int | None
    steps: int
    """Most updates that any peer has applied."""
    wall_s: float
    """From the run's first event to its last; virtual in simulations."""
    steps_per_s: float
    """Between the first round's end and the last's."""
    round_s: float | None
    """Median of committed rounds."""
    rounds_failed: int
    sent_bytes_per_peer: float
    loss_end: float | None
    points: tuple[Point, ...]
    updates: tuple[tuple[float, int], ...]
    """(seconds, updates) after each round."""
    is_simulated: bool
    is_sized: bool
    """By sizes and costs only: it has no loss."""


def write_comparison(folders: Sequence[Path], out: Path) -> list[Course]:
    """Compare the runs in these folders on one page. Raises UsageError, StateError."""
    if not 1 <= len(folders) <= RUNS_MAX:
        raise UsageError(f"{len(folders)} runs: name 1 to {RUNS_MAX} folders")
    courses = [course_of(load_run(folder), name) for folder, name in zip(folders, names_of(folders), strict=True)]
    write_page(render(courses), out)
    return courses


def names_of(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number}: {folder}" for number, folder in enumerate(folders)]


def course_of(run: Run, name: str) -> Course:
    """What is compared, from a run's logs."""
    ended = [(at_s, event) for at_s, _, event in run.told(RoundEnded)]
    committed = [(at_s, event) for at_s, event in ended if event.outcome == "committed"]
    updates: dict[int, float] = {}
    for at_s, event in committed:
        updates.setdefault(event.step, at_s)
    steps = max(updates, default=0)
    first = min(updates, default=0)
    lasted_s = updates[steps] - updates[first] if updates else 0.0
    points = _points(run)
    started, told = run.started, run.summary
    return Course(
        name=name,
        task="sizes and costs" if told.is_sized else started.task if started else "",
        method="" if told.is_sized or not started else started.method,
        n_peers=run.n_machines,
        n_params=told.n_params if told.is_sized else started.n_params if started else None,
        steps=steps,
        wall_s=run.end_s,
        steps_per_s=(steps - first) / lasted_s if lasted_s > 0 else 0.0,
        round_s=median(event.duration_s for _, event in committed) if committed else None,
        rounds_failed=len({event.round for _, event in ended if event.outcome == "failed"}),
        sent_bytes_per_peer=sum(sum(sent_by_purpose(log).values()) for log in run.peers) / run.n_machines,
        loss_end=points[-1].loss if points else None,
        points=points,
        updates=tuple((updates[step], step) for step in sorted(updates)),
        is_simulated=told.is_simulated,
        is_sized=told.is_sized,
    )


def _points(run: Run) -> tuple[Point, ...]:
    told = [(event.step, at_s, event.loss) for at_s, _, event in run.learnt(Evaluated) if event.loss is not None]
    losses = mean_by_step([(step, loss) for step, _, loss in told])
    times = mean_by_step([(step, at_s) for step, at_s, _ in told])
    return tuple(
        Point(step=step, at_s=times[step], sent_bytes=mean_sent(run, times[step]), loss=losses[step]) for step in losses
    )


# ------------------------------------------------------------------------------------------------------------- the page


def render(courses: Sequence[Course]) -> str:
    """The page's HTML."""
    scripts = {"plotly": script(plotly.offline.get_plotlyjs()), "page": script(read("page.js"))}
    best: dict[str, float] = {}
    for course in courses:
        if course.loss_end is not None:
            best[course.task] = min(course.loss_end, best.get(course.task, course.loss_end))
    return template("compare.html.j2").render(
        courses=courses,
        best=best,
        colors=[Markup(_color(place)) for place in range(len(courses))],
        figures={name: figure_json(made) for name, made in _figures(courses).items()},
        wording=wording,
        style=Markup(read("page.css")),
        scripts=scripts,
        policy=Markup(policy(list(scripts.values()))),
    )


def told(courses: Sequence[Course]) -> dict[str, Any]:
    """The same for programs."""
    return {"runs": [{**asdict(course), "updates": len(course.updates)} for course in courses]}


def _figures(courses: Sequence[Course]) -> dict[str, go.Figure]:
    return {
        "loss-by-time": _losses(courses, "seconds since the run began", lambda point: point.at_s),
        "loss-by-step": _losses(courses, "step", lambda point: point.step),
        "loss-by-bytes": _losses(courses, "bytes sent per peer", lambda point: point.sent_bytes, is_bytes=True),
        "throughput": _throughput(courses),
    }


def _losses(
    courses: Sequence[Course], x_title: str, x_of: Callable[[Point], float], *, is_bytes: bool = False
) -> go.Figure:
    made = figure(height=340, x_title=x_title, y_title="held-out loss", showlegend=False)
    for place, course in enumerate(courses):
        made.add_scatter(
            x=[x_of(point) for point in course.points],
            y=[point.loss for point in course.points],
            mode="lines+markers",
            marker={"size": 5},
            customdata=[
                f"step {point.step}, {wording.duration(point.at_s)}, {wording.size(point.sent_bytes)}"
                for point in course.points
            ],
            hovertemplate="%{y:.4f} at %{customdata}<extra>" + label(course.name, 40) + "</extra>",
            **_look(place, course),
        )
    if is_bytes:
        made.update_xaxes(tickformat="~s", ticksuffix="B")
    return made


def _throughput(courses: Sequence[Course]) -> go.Figure:
    """Updates a second, in windows of equal numbers of rounds."""
    made = figure(height=340, x_title="seconds since the run began", y_title="updates a second", showlegend=False)
    for place, course in enumerate(courses):
        stride = max(1, len(course.updates) // _WINDOWS)
        marks = course.updates[::stride]
        pairs = [(a, b) for a, b in pairwise(marks) if b[0] > a[0]]
        made.add_scatter(
            x=[(a[0] + b[0]) / 2 for a, b in pairs],
            y=[(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs],
            mode="lines",
            hovertemplate="%{y:.2f} a second<extra>" + label(course.name, 40) + "</extra>",
            **_look(place, course),
        )
    made.update_yaxes(rangemode="tozero")
    return made


def _look(place: int, course: Course) -> dict[str, Any]:
    dash = _DASHES[place // len(SERIES) % len(_DASHES)]
    return {"name": label(course.name, 40), "line": {"color": _color(place), "width": 2, "dash": dash}}


def _color(place: int) -> str:
    return SERIES[place % len(SERIES)]
