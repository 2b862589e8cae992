"""Figures of a run's speed, over time: samples, the part of the time that was computed, what the lines carried.

Each bin is the mean over its time of what the peers told meanwhile; a machine that is off counts as doing nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from ..event_kinds import Evaluated, StepPassed, Traffic, Trained
from ..events import Event
from . import wording
from .learning import mean_by_step
from .run import PeerLog, Run
from .theme import BLUE, GREEN, GREY, ORANGE, figure

E = TypeVar("E", bound=Event)
F64 = npt.NDArray[np.float64]

_BINS_MAX = 120
_LENGTHS_PER_BIN = 2
"""Narrower bins would show when rounds end, and not how fast the run is."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Something that went on for a while."""

    start_s: float
    end_s: float
    amount: float


def loss_by_time(run: Run) -> go.Figure | None:
    """Held-out loss against the run's time; None where it was evaluated once at most."""
    points = [(event.step, at_s, event.loss) for at_s, _, event in run.learnt(Evaluated)]
    losses = mean_by_step([(step, loss) for step, _, loss in points])
    times = mean_by_step([(step, at_s) for step, at_s, _ in points])
    if len(losses) < 2:
        return None
    made = figure(height=340, x_title="seconds since the start", y_title="held-out loss")
    made.add_scatter(
        x=[times[step] for step in losses],
        y=list(losses.values()),
        customdata=list(losses),
        mode="lines+markers",
        line={"color": BLUE, "width": 2.5},
        marker={"size": 5},
        showlegend=False,
        hovertemplate="%{x:.1f} s, step %{customdata}: %{y:.4f}<extra></extra>",
    )
    made.update_xaxes(rangemode="tozero")
    return made


def speed_figures(run: Run) -> dict[str, go.Figure]:
    """Element id -> figure, over time; only what the logs tell of."""
    worked = {log.label: _worked(log) for log in run.peers}
    computed = {log.label: _computed(log) for log in run.peers}
    sent = {log.label: _sent(log) for log in run.peers}
    made: dict[str, go.Figure] = {}
    edges = _edges(run, [one for stretches in worked.values() for one in stretches])
    if any(worked.values()):
        total = sum((binned(stretches, edges) for stretches in worked.values()), np.zeros(len(edges) - 1))
        made["throughput"] = _line(edges, total, "samples a second, all peers", GREEN, "%{y:.4g} samples/s")
    if any(computed.values()):
        shares = np.mean([binned(stretches, edges) for stretches in computed.values()], axis=0)
        made["utilisation"] = _line(edges, np.minimum(shares, 1.0), "part of the time", BLUE, "%{y:.1%}")
        made["utilisation"].update_yaxes(tickformat=".0%", range=[0, 1.02])
    if any(sent.values()):
        rates = {label: binned(stretches, edges) for label, stretches in sent.items()}
        made["link-use"] = _links(edges, list(rates.values()))
        shares = [rates[log.label] / capacity for log in run.peers if (capacity := _capacity(run, log))]
        if shares:
            made["link-share"] = _link_shares(edges, shares)
    return made


def _capacity(run: Run, log: PeerLog) -> float | None:
    """Bytes per second that its line carries upwards at most, where that is known."""
    known = run.summary.up_bytes_per_s
    return known[log.number] if log.number is not None and log.number < len(known) else None


def binned(stretches: list[Stretch], edges: F64) -> F64:
    """Amount a second in each bin, a stretch's amount lying evenly over its time.

    Args: edges: float64 [n + 1], ascending.
    Returns: float64 [n].
    """
    total = np.zeros(len(edges))
    for one in stretches:
        length_s = max(one.end_s - one.start_s, 1e-9)
        total += one.amount * np.clip((edges - one.start_s) / length_s, 0.0, 1.0)
    rates: F64 = np.diff(total) / np.diff(edges)
    return rates


# ------------------------------------------------------------------------------------------------------ what is counted


def _worked(log: PeerLog) -> list[Stretch]:
    """Samples, each over the time since the peer told of the ones before."""
    return [
        Stretch(start_s=before_s, end_s=at_s, amount=float(event.samples))
        for before_s, at_s, event in _spans(log, Trained)
    ]


def _computed(log: PeerLog) -> list[Stretch]:
    """Seconds of passes and local steps."""
    passed = _spans(log, StepPassed)
    if passed:
        return [Stretch(start_s=a, end_s=b, amount=event.busy_s) for a, b, event in passed]
    return [Stretch(start_s=at_s - e.seconds, end_s=at_s, amount=e.seconds) for at_s, e in log.told(Trained)]


def _sent(log: PeerLog) -> list[Stretch]:
    """Bytes between two counts of a life."""
    found = []
    for life in log.lives:
        counts = [(life.start_s, 0), *((at_s, sum(event.sent.values())) for at_s, event in life.told(Traffic))]
        found += [
            Stretch(start_s=a_s, end_s=b_s, amount=float(b - a)) for (a_s, a), (b_s, b) in pairwise(counts) if b > a
        ]
    return found


def _spans(log: PeerLog, kind: type[E]) -> list[tuple[float, float, E]]:
    """(since when, until when, event), in each life from its start."""
    found = []
    for life in log.lives:
        before_s = life.start_s
        for at_s, event in life.told(kind):
            found.append((before_s, at_s, event))
            before_s = at_s
    return found


def _edges(run: Run, stretches: list[Stretch]) -> F64:
    """Bins over the run's time, none narrower than some rounds."""
    lengths = sorted(one.end_s - one.start_s for one in stretches) or [run.end_s]
    usual_s = lengths[len(lengths) // 2]
    n_bins = int(run.end_s / max(_LENGTHS_PER_BIN * usual_s, 1e-6))
    return np.linspace(0.0, max(run.end_s, 1e-6), min(_BINS_MAX, max(8, n_bins)) + 1)


# ---------------------------------------------------------------------------------------------------------- the figures


def _line(edges: F64, values: F64, y_title: str, color: str, hover: str) -> go.Figure:
    made = figure(height=300, x_title="seconds since the start", y_title=y_title)
    made.add_scatter(
        x=_middles(edges),
        y=values.tolist(),
        mode="lines",
        line={"color": color, "width": 2},
        showlegend=False,
        hovertemplate="%{x:.1f} s: " + hover + "<extra></extra>",
    )
    made.update_xaxes(range=[0.0, edges[-1]])
    made.update_yaxes(rangemode="tozero", showgrid=True)
    return made


def _links(edges: F64, by_peer: list[F64]) -> go.Figure:
    """What a peer sends: the mean, and between the least and the most of any."""
    made = figure(height=300, x_title="seconds since the start", y_title="sent by a peer")
    for name, values, look in _spread(by_peer):
        made.add_scatter(
            x=_middles(edges),
            y=(8 * values).tolist(),
            customdata=[f"{wording.size(value)}/s" for value in values],
            hovertemplate="%{x:.1f} s: %{customdata}<extra>" + name + "</extra>",
            **look,
        )
    made.update_xaxes(range=[0.0, edges[-1]])
    made.update_yaxes(rangemode="tozero", showgrid=True, tickformat="~s", ticksuffix="bit/s")
    return made


def _link_shares(edges: F64, by_peer: list[F64]) -> go.Figure:
    """The same, as a part of what the peer's line carries at most."""
    made = figure(height=300, x_title="seconds since the start", y_title="part of a peer's uplink")
    for name, values, look in _spread(by_peer):
        hover = "%{x:.1f} s: %{y:.1%}<extra>" + name + "</extra>"
        made.add_scatter(x=_middles(edges), y=values.tolist(), hovertemplate=hover, **look)
    made.update_xaxes(range=[0.0, edges[-1]])
    made.update_yaxes(rangemode="tozero", showgrid=True, tickformat="~%")
    return made


def _spread(by_peer: list[F64]) -> Iterator[tuple[str, F64, dict[str, Any]]]:
    """(name, values, look) of the most, the mean and the least of any peer."""
    stacked = np.stack(by_peer)
    for name, values, color, width in (
        ("busiest peer", stacked.max(0), ORANGE, 1.2),
        ("mean", stacked.mean(0), BLUE, 2.2),
        ("idlest peer", stacked.min(0), GREY, 1.2),
    ):
        yield name, values, {"name": name, "mode": "lines", "line": {"color": color, "width": width}}


def _middles(edges: F64) -> list[float]:
    middles: list[float] = ((edges[1:] + edges[:-1]) / 2).tolist()
    return middles
