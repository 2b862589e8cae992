"""SWARM's rebalancing experiment: preemptible machines, moves every 60 s, 300 s or never.

    python -m benchmarks.preempted_stages [--seeds 10] [--hours 32] [--plot docs/rebalancing.svg] [--page FILE.html]
    python -m benchmarks.preempted_stages --daemons [--stages 8] [--first-seed 0] [--seeds 1] [--hours 8]

Equal machines with the lives of the fleet `preemptible` (median 1 h, mean 6.1 h, replaced after 15 minutes on average).
The first is the rule alone, on a model (benchmarks/churning.py): 32 stages on 256 machines. The second is the daemons
on virtual time, on 64 machines, since a roster has at most 64 members: 8 stages, which is a quarter of both, or any
other number of as much work together. Throughput is a share of what whole machines would do if those alive were always
spread well at no cost. The paper (arXiv:2301.11913) reports 82.7 % without moves and 95.8 % with moves every 300 s, on
its own traces and machines.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gossamer.peer.report.theme import SERIES, figure
from gossamer.simulator.fleets.fleet import Session

from .churning import ANY, NEEDIEST, Span, play, preempted
from .stage_churn_daemons import tell_daemons

N_STAGES, N_PEERS = 32, 256
DAEMONS_PEERS = 64
FORWARD_S, MICROBATCHES = 16.0, 256
"""Of the daemons: a microbatch at all stages, and how many a step has."""
INTERVALS_S = 0.0, 300.0, 60.0
PUBLISHED = {0.0: 0.827, 300.0: 0.958}
BINS = 64
Curve = list[float]


def share(spans: Sequence[Span], start_s: float, end_s: float) -> float:
    """What was done of what could have been, between two instants."""
    done = could = 0.0
    for span in spans:
        overlap_s = min(span.end_s, end_s) - max(span.start_s, start_s)
        if overlap_s > 0:
            done += overlap_s * span.rate
            could += overlap_s * span.whole
    return done / could if could else 1.0


def measure(joins: str, every_s: float, hours: float, n_seeds: int) -> tuple[list[float], Curve]:
    """(each seed's share, the mean share in each of BINS stretches of time)."""
    duration_s = hours * 3600
    shares, curves = [], []
    for seed in range(n_seeds):
        peers = preempted(N_PEERS, duration_s, seed)
        spans = list(play(peers, N_STAGES, duration_s, every_s=every_s, joins=joins, seed=seed))
        shares.append(share(spans, 0.0, duration_s))
        width_s = duration_s / BINS
        curves.append([share(spans, width_s * number, width_s * (number + 1)) for number in range(BINS)])
    return shares, [statistics.mean(column) for column in zip(*curves, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--daemons", action="store_true")
    parser.add_argument("--stages", type=int, default=8, help="of the daemons")
    parser.add_argument("--first-seed", type=int, default=0, help="of the daemons")
    parser.add_argument("--seeds", type=int, help="default 10, with --daemons 1")
    parser.add_argument("--hours", type=float, help="default 32, with --daemons 8")
    parser.add_argument("--rebalance-every", type=float, nargs="+", default=INTERVALS_S, metavar="S")
    parser.add_argument("--plot", type=Path, help="write an SVG here")
    parser.add_argument("--page", type=Path, help="write a page with the plot here")
    args = parser.parse_args()
    if args.daemons:
        for seed in range(args.first_seed, args.first_seed + (args.seeds or 1)):
            play_daemons(args.stages, args.hours or 8.0, seed, args.rebalance_every)
        return
    args.seeds, args.hours = args.seeds or 10, args.hours or 32.0
    print(f"model: {N_PEERS} machines, {N_STAGES} stages, {args.hours:g} h, {args.seeds} seeds")
    print("| newcomers join | moves | share of the optimum (lowest to highest seed) | the paper |\n|---|---|---:|---:|")
    curves: dict[str, Curve] = {}
    for joins in (ANY, NEEDIEST):
        for every_s in args.rebalance_every:
            shares, curve = measure(joins, every_s, args.hours, args.seeds)
            moves = f"every {every_s:g} s" if every_s else "none"
            paper = f"{PUBLISHED[every_s]:.1%}" if every_s in PUBLISHED else ""
            spread = f"{statistics.mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"
            print(f"| {joins} | {moves} | {spread} | {paper} |", flush=True)
            curves[f"join {joins}, moves: {moves}"] = curve
    if args.plot is not None:
        args.plot.write_text(drawn(curves, args.hours))
    if args.page is not None:
        args.page.write_text(page(curves, args.hours))


def play_daemons(n_stages: int, hours: float, seed: int, intervals_s: Sequence[float]) -> None:
    """Print the share of each interval. The first machine is always on: it holds the owner's key."""
    first, *others = preempted(DAEMONS_PEERS, hours * 3600, seed)
    peers = [replace(first, sessions=(Session(start_s=0.0, end_s=math.inf),)), *others]
    for every_s in intervals_s:
        tell_daemons(
            peers,
            n_stages,
            hours * 3600,
            seed,
            every_s=every_s,
            forward_s=FORWARD_S / n_stages,
            n_microbatches=MICROBATCHES,
        )


def page(curves: dict[str, Curve], hours: float) -> str:
    """A page of its own, with its scripts."""
    made = figure(height=480, x_title="hours", y_title="share of the optimum")
    middles = [hours * (number + 0.5) / BINS for number in range(BINS)]
    for color, (name, curve) in zip(SERIES, curves.items(), strict=False):
        made.add_scatter(x=middles, y=curve, name=name, mode="lines", line={"color": color})
    for every_s, published in PUBLISHED.items():
        moves = f"every {every_s:g} s" if every_s else "none"
        made.add_hline(y=published, line={"dash": "dot", "width": 1}, annotation_text=f"the paper, moves: {moves}")
    html: str = made.to_html(include_plotlyjs=True, full_html=True)
    return html


WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 820, 450, 56, 12, 110, 150


def drawn(curves: dict[str, Curve], hours: float) -> str:
    """The same plot as an SVG, which a page of Markdown can show."""
    low = min(0.7, *(math.floor(10 * min(curve)) / 10 for curve in curves.values()))

    def x(hour: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * hour / hours

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value) / (1 - low)

    head = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for percent in range(round(100 * low), 101, 10):
        at = y(percent / 100)
        parts.append(f'<path d="M{LEFT},{at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{percent} %</text>')
    for hour in range(0, int(hours) + 1, max(1, int(hours / 8))):
        parts.append(f'<text x="{x(hour):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{hour} h</text>')
    for every_s, published in PUBLISHED.items():
        at, moves = y(published), f"{every_s:g} s" if every_s else "no moves"
        parts.append(f'<path d="M{LEFT},{at:.1f}H{WIDTH - RIGHT}" stroke="#555" stroke-dasharray="2 4"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 4}" y="{at + 4:.1f}">paper, {moves}</text>')
    for number, (color, (name, curve)) in enumerate(zip(SERIES, curves.items(), strict=False)):
        points = " ".join(f"{x(hours * (at + 0.5) / BINS):.1f},{y(value):.1f}" for at, value in enumerate(curve))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        row = HEIGHT - BOTTOM + 40 + 18 * number
        parts.append(f'<path d="M{LEFT},{row - 4}h24" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 32}" y="{row}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
