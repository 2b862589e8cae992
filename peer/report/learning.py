"""Figures of what was learnt, and of what it cost in bytes and time."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import fmean

import numpy as np
import plotly.graph_objects as go

from ..events import Evaluated, Traffic, Trained, sent_bytes
from . import wording
from .kills import Kill
from .participation import RoundView
from .run import PeerLog, Run
from .theme import BLUE, GREEN, GREY, ORANGE, SERIES, VERMILLION, figure, label

_POINTS_MAX = 3000
_PURPOSES_MAX = 6


def loss_by_step(run: Run) -> go.Figure:
    """Held-out loss, and the mean of the peers' losses on their own samples."""
    made = figure(height=340, x_title="step", y_title="loss")
    trained = mean_by_step([(event.step, event.loss) for _, _, event in run.learnt(Trained)])
    tried = mean_by_step([(event.step, event.loss) for _, _, event in run.learnt(Evaluated)])
    if trained:
        steps = _thinned(list(trained))
        losses = [trained[step] for step in steps]
        made.add_scatter(x=steps, y=losses, name="own samples, mean of the peers", line={"color": GREY, "width": 1})
    made.add_scatter(
        x=list(tried),
        y=list(tried.values()),
        name="held-out samples",
        mode="lines+markers",
        line={"color": BLUE, "width": 2.5},
        marker={"size": 6},
        hovertemplate="step %{x}: %{y:.4f}<extra></extra>",
    )
    return made


def accuracy_by_step(run: Run) -> go.Figure | None:
    """Accuracy on held-out samples, where there is such a thing."""
    tried = mean_by_step([(event.step, event.accuracy) for _, _, event in run.learnt(Evaluated)])
    if not tried:
        return None
    made = figure(height=340, x_title="step", y_title="held-out samples classified rightly")
    made.add_scatter(
        x=list(tried),
        y=list(tried.values()),
        mode="lines+markers",
        line={"color": GREEN, "width": 2.5},
        marker={"size": 6},
        showlegend=False,
        hovertemplate="step %{x}: %{y:.1%}<extra></extra>",
    )
    made.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return made


def loss_by_bytes(run: Run, *, dense_bytes_per_step: float) -> go.Figure | None:
    """Held-out loss against what a peer had sent by then; beside it, where dense all-reduce would stand. None where it
    was never evaluated after something was sent."""
    made = figure(height=340, x_title="bytes sent per peer (logarithmic)", y_title="held-out loss")
    # Of all peers, not of whoever evaluated: a donor has sent more than others, and a newcomer less.
    points = [(event.step, mean_sent(run, at_s), event.loss) for at_s, _, event in run.learnt(Evaluated)]
    losses = mean_by_step([(step, loss) for step, _, loss in points])
    sent = mean_by_step([(step, n_bytes) for step, n_bytes, _ in points])
    steps = [step for step in losses if step > 0 and sent.get(step, 0) > 0]
    if not steps:
        return None
    _loss_line(made, [sent[step] for step in steps], [losses[step] for step in steps], "this run", BLUE)
    if dense_bytes_per_step:
        dense = [dense_bytes_per_step * step for step in steps]
        _loss_line(made, dense, [losses[step] for step in steps], "same steps by dense all-reduce (computed)", ORANGE)
    if 0 in losses:
        _start(made, sent[steps[0]], losses[steps[0]], losses[0])
    made.update_xaxes(type="log", tickformat="~s", ticksuffix="B", dtick=1)
    return made


def _start(made: go.Figure, first_bytes: float, first_loss: float, loss: float) -> None:
    """The model before its first step. A logarithmic axis has no place for nothing sent: it stands a decade before."""
    made.add_scatter(
        x=[first_bytes / 10, first_bytes],
        y=[loss, first_loss],
        name="before the first step (nothing sent)",
        mode="lines+markers",
        line={"color": BLUE, "width": 1.5, "dash": "dot"},
        marker={"size": [8, 0], "symbol": "circle-open"},
        hovertemplate="%{y:.4f}<extra>before the first step</extra>",
    )


def round_times(rounds: list[RoundView], kills: list[Kill]) -> go.Figure:
    """How long rounds took, and how much of that was overhead."""
    made = figure(height=340, x_title="round", y_title="seconds (logarithmic)")
    shown = [rounds[place] for place in _thinned(list(range(len(rounds))))]
    good = [view for view in shown if view.committed]
    bad = [view for view in rounds if not view.committed]
    for name, color, values in (
        ("whole round", BLUE, [view.duration_s for view in good]),
        ("of it overhead", ORANGE, [view.overhead_s for view in good]),
    ):
        made.add_scatter(
            x=[view.round for view in good],
            y=[max(value, 1e-4) for value in values],
            name=name,
            mode="markers",
            marker={"color": color, "size": 5, "opacity": 0.75},
            hovertemplate="round %{x}: %{y:.3f} s<extra>" + name + "</extra>",
        )
    if bad:
        times = [max(view.duration_s, 1e-4) for view in bad]
        marker = {"color": VERMILLION, "size": 9, "symbol": "x"}
        made.add_scatter(x=[view.round for view in bad], y=times, name="not committed", mode="markers", marker=marker)
    for kill in kills:
        after = next((view.round for view in rounds if view.end_s > kill.at_s), None)
        if after is not None:
            text = f"{label(kill.peer.label, 40)} killed"
            made.add_vline(x=after, line={"color": VERMILLION, "width": 1, "dash": "dot"}, annotation_text=text)
    made.update_annotations(font={"size": 12}, xanchor="left", yanchor="top", y=1, textangle=0, showarrow=False)
    made.update_yaxes(type="log", dtick=1, tickformat="~g")
    return made


def bytes_by_purpose(run: Run) -> go.Figure:
    """What every peer sent, by method of the network."""
    totals = {log.label: sent_by_purpose(log) for log in run.peers}
    overall = sum(totals.values(), Counter[str]())
    named = [name for name, _ in sorted(overall.items(), key=lambda one: (-one[1], one[0]))[:_PURPOSES_MAX]]
    made = figure(
        height=max(340, 96 + 34 * len(totals)),
        x_title="bytes sent",
        barmode="stack",
        bargap=0.5,
        legend={"traceorder": "normal"},
    )
    for place, name in enumerate(named):
        _bar(made, {peer: sent[name] for peer, sent in totals.items()}, name, SERIES[place])
    rest = {peer: sum(sent.values()) - sum(sent[name] for name in named) for peer, sent in totals.items()}
    if any(rest.values()):
        _bar(made, rest, "other", GREY)
    made.update_yaxes(autorange="reversed", type="category")
    made.update_xaxes(showgrid=True, tickformat="~s", ticksuffix="B", rangemode="tozero")
    return made


def sent_by_purpose(log: PeerLog) -> Counter[str]:
    """Bytes that a peer sent in all its lives, as far as it lived to tell."""
    return sent_bytes([entry for life in log.lives for entry in life.entries])


def _bar(made: go.Figure, by_peer: dict[str, int], name: str, color: str) -> None:
    made.add_bar(
        x=list(by_peer.values()),
        y=[label(peer, 40) for peer in by_peer],
        name=label(name, 40),
        orientation="h",
        marker={"color": color, "line": {"width": 0}},
        customdata=[wording.size(value) for value in by_peer.values()],
        hovertemplate="%{y}: %{customdata}<extra>" + label(name, 40) + "</extra>",
    )


def _loss_line(made: go.Figure, n_bytes: list[float], losses: list[float], name: str, color: str) -> None:
    made.add_scatter(
        x=n_bytes,
        y=losses,
        name=name,
        mode="lines+markers",
        line={"color": color, "width": 2.5},
        marker={"size": 5},
        customdata=[wording.size(value) for value in n_bytes],
        hovertemplate="%{customdata}: %{y:.4f}<extra>" + name + "</extra>",
    )


def mean_sent(run: Run, at_s: float) -> float:
    """Bytes that a peer had sent by a moment, on average over all peers."""
    return fmean(_sent_by(log, at_s) for log in run.peers)


def _sent_by(log: PeerLog, at_s: float) -> float:
    """Bytes that a peer had sent in all its lives by a moment, between two counts in proportion to time."""
    total = 0.0
    for life in log.lives:
        counts = [(life.start_s, 0)] + [(when_s, sum(event.sent.values())) for when_s, event in life.told(Traffic)]
        total += float(np.interp(at_s, [when_s for when_s, _ in counts], [n_bytes for _, n_bytes in counts]))
    return total


def mean_by_step(pairs: list[tuple[int, float | None]]) -> dict[int, float]:
    """Step -> the mean of what was told of it, by step; what is None was not finite."""
    found: dict[int, list[float]] = defaultdict(list)
    for step, value in pairs:
        if value is not None:
            found[step].append(value)
    return {step: fmean(found[step]) for step in sorted(found)}


def _thinned(values: list[int]) -> list[int]:
    """At most so many of them, evenly, that a browser keeps up."""
    stride = -(-len(values) // _POINTS_MAX) if values else 1
    return values[::stride]
