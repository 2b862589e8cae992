"""What moving replicas between stages is worth under heavy churn: 64 peers, 8 stages, 2 hours.

    python -m benchmarks.stage_churn                  the rule, on a model of a fleet (benchmarks/churning.py)
    python -m benchmarks.stage_churn --daemons        the daemons on virtual time: minutes for each seed

Lives are log-normal with median 10 minutes and mean 30 (a heavy tail), gaps exponential with mean 2 minutes. The
optimum is for the peers that are alive at each instant, as if they could be spread at no cost: `bound`, if machines
could be divided between stages, and `whole`, a good assignment of whole machines.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from .churning import ANY, NEEDIEST, Peer, Span, heavy_churn, play
from .stage_churn_daemons import MICROBATCHES, tell_daemons

LIFE_MEDIAN_S, LIFE_MEAN_S, GAP_MEAN_S = 600.0, 1800.0, 120.0


def draw(n_peers: int, duration_s: float, seed: int, sigma: float) -> list[Peer]:
    lives = {"median_s": LIFE_MEDIAN_S, "mean_s": LIFE_MEAN_S, "gap_s": GAP_MEAN_S}
    return heavy_churn(n_peers, duration_s, seed, sigma=sigma, **lives)


def share(spans: Sequence[Span], of: str) -> float:
    """What was done of what could have been done, over time."""
    done = sum((span.end_s - span.start_s) * span.rate for span in spans)
    could = sum((span.end_s - span.start_s) * (span.whole if of == "whole" else span.bound) for span in spans)
    return done / could


def tell_model(n_peers: int, n_stages: int, hours: float, seeds: Sequence[int], sigma: float) -> None:
    print(f"model: {n_peers} peers, {n_stages} stages, {hours:g} h, {len(seeds)} seeds; share of the optimum")
    print("| newcomers join | moves | of `bound` | of `whole` (lowest to highest seed) |\n|---|---|---:|---:|")
    duration_s = hours * 3600
    for joins, every_s in (
        *((ANY, 0.0), (ANY, 300.0), (ANY, 60.0), (ANY, 30.0)),
        *((NEEDIEST, 0.0), (NEEDIEST, 300.0), (NEEDIEST, 60.0), (NEEDIEST, 30.0)),
    ):
        played = [
            list(
                play(
                    draw(n_peers, duration_s, seed, sigma),
                    n_stages,
                    duration_s,
                    every_s=every_s,
                    joins=joins,
                    seed=seed,
                )
            )
            for seed in seeds
        ]
        bound = statistics.mean(share(spans, "bound") for spans in played)
        whole = [share(spans, "whole") for spans in played]
        moves = f"every {every_s:g} s" if every_s else "none"
        spread = f"{statistics.mean(whole):.1%} ({min(whole):.1%} to {max(whole):.1%})"
        print(f"| {joins} | {moves} | {bound:.1%} | {spread} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--daemons", action="store_true")
    parser.add_argument("--peers", type=int, default=64)
    parser.add_argument("--stages", type=int, default=8)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seeds", "--seed", type=int, nargs="+", help="default 0 to 4, with --daemons 0")
    parser.add_argument("--sigma", type=float, help="of log speeds; default .7, with --daemons .2")
    parser.add_argument("--rebalance-every", type=float, nargs="+", default=[0.0, 300.0, 60.0], metavar="S")
    parser.add_argument("--forward-s", type=float, default=0.25, help="with --daemons: a microbatch at a stage")
    parser.add_argument("--microbatches", type=int, default=MICROBATCHES, help="with --daemons: of a step")
    parser.add_argument("--still", action="store_true", help="with --daemons: nobody dies, for comparison")
    args = parser.parse_args()
    if not args.daemons:
        tell_model(
            args.peers, args.stages, args.hours, args.seeds or range(5), 0.7 if args.sigma is None else args.sigma
        )
        return
    sigma = 0.2 if args.sigma is None else args.sigma
    for seed in args.seeds or [0]:
        peers = draw(args.peers, args.hours * 3600, seed, sigma)
        for every_s in args.rebalance_every:
            tell_daemons(
                peers,
                args.stages,
                args.hours * 3600,
                seed,
                every_s=every_s,
                forward_s=args.forward_s,
                n_microbatches=args.microbatches,
                still=args.still,
            )


if __name__ == "__main__":
    main()
