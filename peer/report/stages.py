"""A pipeline's stages: who served them, how long their queues were, which ways microbatches took, who had to wait."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import plotly.graph_objects as go

from ..event_kinds import Joined, Settled, StepPassed
from .run import PeerLog, Run
from .theme import BLUE, FAINT, GREY, ORANGE, SERIES, VERMILLION, figure, label

_COLUMNS_MAX = 400


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a peer did for the stages in all its lives, as far as it lived to tell."""

    peer: PeerLog
    stages: tuple[int, ...]
    """In the order in which it served them; empty: it only trained."""
    forward: int
    backward: int
    rerouted: int
    mended: int
    duplicates_refused: int
    discarded: int
    n_waiting_max: int
    busy_s: float
    duration_s: float

    @property
    def idle(self) -> float | None:
        """The part of its rounds in which it computed nothing."""
        return max(0.0, 1 - self.busy_s / self.duration_s) if self.duration_s else None


@dataclass(frozen=True, kw_only=True)
class Move:
    """A peer went over to another stage."""

    at_s: float
    peer: PeerLog
    before: int
    after: int


def served_by(run: Run) -> list[Served]:
    """What each peer did, by stage; empty where the model is not cut."""
    found = []
    for log in run.peers:
        passed = [event for _, event in log.told(StepPassed)]
        if passed:
            found.append(_served(log, passed))
    return sorted(found, key=lambda one: one.stages[-1:] or (math.inf,))


def moves_of(run: Run) -> list[Move]:
    """By time."""
    moves = []
    for log in run.peers:
        told = list(log.told(Settled))
        for (_, before), (at_s, after) in pairwise(told):
            if before.stage != after.stage and before.stage is not None and after.stage is not None:
                moves.append(Move(at_s=at_s, peer=log, before=before.stage, after=after.stage))
    return sorted(moves, key=lambda move: move.at_s)


def stage_figures(run: Run) -> dict[str, go.Figure]:
    """Element id -> figure; none where the model is not cut."""
    served = served_by(run)
    if not served:
        return {}
    replicas = [one for one in served if one.stages]
    made = {"stage-queues": _queues(run), "stage-routes": _routes(run, replicas), "stage-time": _time(served)}
    rosters = [(at_s, event.stages) for at_s, _, event in run.told(Joined) if event.stages]
    if rosters:
        made["stage-replicas"] = _replicas(rosters, run.end_s)
    if any(one.rerouted or one.mended for one in served):
        made["stage-reroutes"] = _reroutes(run)
    return made


def _served(log: PeerLog, passed: list[StepPassed]) -> Served:
    stages = [event.stage for event in passed if event.stage is not None]
    return Served(
        peer=log,
        stages=tuple(stage for place, stage in enumerate(stages) if place == 0 or stages[place - 1] != stage),
        forward=sum(event.forward_passes for event in passed),
        backward=sum(event.backward_passes for event in passed),
        rerouted=sum(event.rerouted for event in passed),
        mended=sum(event.mended for event in passed),
        duplicates_refused=sum(event.duplicates_refused for event in passed),
        discarded=sum(event.discarded for event in passed),
        n_waiting_max=max(event.n_waiting_max for event in passed),
        busy_s=sum(event.busy_s for event in passed),
        duration_s=sum(event.duration_s for event in passed),
    )


def _replicas(rosters: list[tuple[float, tuple[int | None, ...]]], end_s: float) -> go.Figure:
    """Members of the committed roster by stage; lines of equal height lie a little apart."""
    made = figure(height=300, x_title="seconds since the start", y_title="replicas")
    n_stages = max(stage for _, stages in rosters for stage in stages if stage is not None) + 1
    times = [*(at_s for at_s, _ in rosters), end_s]
    for stage in range(n_stages):
        counts = [stages.count(stage) for _, stages in rosters]
        made.add_scatter(
            x=times,
            y=[count + 0.03 * (stage - (n_stages - 1) / 2) for count in [*counts, counts[-1]]],
            text=[*counts, counts[-1]],
            name=f"stage {stage}",
            line={"color": SERIES[stage % len(SERIES)], "width": 2.5, "shape": "hv"},
            mode="lines",
            hovertemplate="%{x:.1f} s: %{text} replicas<extra>stage " + str(stage) + "</extra>",
        )
    made.update_yaxes(rangemode="tozero", tickformat="d", dtick=1, showgrid=True)
    return made


def _queues(run: Run) -> go.Figure:
    """The longest queue of a step, the mean over a stage's replicas."""
    made = figure(height=300, x_title="step", y_title="passes that waited, at most")
    longest: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for _, _, event in run.told(StepPassed):
        if event.stage is not None:
            longest[event.stage][event.step].append(event.n_waiting_max)
    for stage in sorted(longest):
        steps = sorted(longest[stage])
        width = -(-len(steps) // _COLUMNS_MAX)
        groups = [steps[start : start + width] for start in range(0, len(steps), width)]
        made.add_scatter(
            x=[group[0] for group in groups],
            y=[fmean(value for step in group for value in longest[stage][step]) for group in groups],
            name=f"stage {stage}",
            line={"color": SERIES[stage % len(SERIES)], "width": 1.5},
            mode="lines",
            hovertemplate="step %{x}: %{y:.1f}<extra>stage " + str(stage) + "</extra>",
        )
    made.update_yaxes(rangemode="tozero", showgrid=True)
    return made


def _routes(run: Run, served: list[Served]) -> go.Figure:
    """Replicas by steps: how many microbatches went through each, a backward pass counting as one."""
    steps = sorted({event.step for _, _, event in run.told(StepPassed)})
    width = -(-len(steps) // _COLUMNS_MAX)
    column = {step: place // width for place, step in enumerate(steps)}
    cells = []
    for one in served:
        counts: Counter[int] = Counter()
        for _, event in one.peer.told(StepPassed):
            counts[column[event.step]] += event.backward_passes
        told = {column[event.step] for _, event in one.peer.told(StepPassed)}
        cells.append([counts[place] / width if place in told else None for place in range(max(column.values()) + 1)])
    made = figure(height=76 + 30 * len(served), x_title="step")
    made.add_heatmap(
        z=cells,
        x=steps[::width],
        y=[_name(one) for one in served],
        colorscale=[[0, FAINT], [0.001, "#d6e6f4"], [1, "#08407e"]],
        zmin=0,
        zmax=max((cell for row in cells for cell in row if cell), default=1),
        colorbar={"title": {"text": "microbatches"}, "thickness": 10, "outlinewidth": 0},
        hovertemplate="%{y}, step %{x}: %{z:.3g} microbatches<extra></extra>",
        ygap=4,
        xgap=1 if len(steps) <= 80 else 0,
    )
    made.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return made


def _reroutes(run: Run) -> go.Figure:
    """Passes that were asked for again, step by step."""
    made = figure(height=260, x_title="step", y_title="passes", barmode="stack")
    rerouted: Counter[int] = Counter()
    mended: Counter[int] = Counter()
    for _, _, event in run.told(StepPassed):
        rerouted[event.step] += event.rerouted
        mended[event.step] += event.mended
    for name, color, counts in (
        ("asked for again, elsewhere", ORANGE, rerouted),
        ("done once more, since who held the gradient had died", VERMILLION, mended),
    ):
        steps = [step for step in sorted(counts) if counts[step]]
        if steps:
            made.add_bar(x=steps, y=[counts[step] for step in steps], name=name, marker={"color": color}, width=1)
    last = max(event.step for _, _, event in run.told(StepPassed))
    made.update_xaxes(range=[0, last + 1])
    made.update_yaxes(rangemode="tozero", tickformat="d", showgrid=True)
    return made


def _time(served: list[Served]) -> go.Figure:
    """Each peer's rounds: the part in which it computed, and the rest."""
    made = figure(height=96 + 34 * len(served), x_title="share of the time of its rounds", barmode="stack", bargap=0.45)
    busy = [1 - one.idle if one.idle is not None else 0.0 for one in served]
    for name, color, values in (("computed", BLUE, busy), ("idle", GREY, [1 - share for share in busy])):
        made.add_bar(
            x=values,
            y=[_name(one) for one in served],
            name=name,
            orientation="h",
            marker={"color": color, "opacity": 1 if name == "computed" else 0.35},
            hovertemplate="%{y}: %{x:.1%} " + name + "<extra></extra>",
        )
    made.update_layout(legend={"traceorder": "normal"})
    made.update_yaxes(autorange="reversed", type="category", showgrid=False)
    made.update_xaxes(tickformat=".0%", range=[0, 1], showgrid=True)
    return made


def _name(one: Served) -> str:
    role = f"stage {one.stages[-1]}" if one.stages else "only trains"
    return f"{role}: {label(one.peer.label, 40)}"
