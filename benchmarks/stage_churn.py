"""What moving replicas between stages is worth under heavy churn.

    python -m benchmarks.stage_churn                  the rule, on a model of a fleet: 64 peers, 8 stages, 2 hours
    python -m benchmarks.stage_churn --daemons        real daemons on virtual time: smaller, since it costs minutes

Lives are log-normal with median 10 minutes and mean 30 (a heavy tail), gaps exponential with mean 2 minutes, speeds
log-normal (sigma 0.7). A pipeline's throughput is that of its slowest stage. `model` plays the rule of
`algorithms.pipeline.rebalancing` alone: speeds are known exactly, a joining or moved replica serves after `SYNC_S`, a
death is noticed after `NOTICE_S`, and a lost stage is served again by whoever joins it. The optimum is for the peers
that are alive at each instant, as if they could be spread at no cost: `bound`, if machines could be divided between
stages, and `whole`, a good assignment of whole machines (fastest first, each to the slowest stage).
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from gossamer.algorithms.pipeline.rebalancing import Fleet, Serving, balancing_move, urgent_move
from gossamer.peer.event_kinds import Moved, StageRestored, StepPassed
from gossamer.peer.pipeline.changes import URGENT_EVERY_S
from gossamer.peer.pipeline.server import BACKWARD_PASSES
from gossamer.simulator.fleets.fleet import Session
from gossamer.simulator.fleets.lifetimes import log_normal
from gossamer.simulator.invariants import read_logs
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of
from gossamer.tasks import build_task

LIFE_MEDIAN_S, LIFE_MEAN_S, GAP_MEAN_S = 600.0, 1800.0, 120.0
SPEED_SIGMA = 0.7
SYNC_S, NOTICE_S, TICK_S = 30.0, 5.0, 2.0
FLOPS_PER_S = 4e7
"""Of the median machine of the daemons' fleet."""


@dataclass(frozen=True)
class Peer:
    name: str
    speed: float
    sessions: tuple[Session, ...]

    def life(self, now_s: float) -> Session | None:
        return next((one for one in self.sessions if one.start_s <= now_s < one.end_s), None)


def draw_fleet(n_peers: int, duration_s: float, seed: int) -> list[Peer]:
    """The first peer is always on: it holds the owner's key."""
    choose = random.Random(f"churn {seed}")
    mu, sigma = log_normal(LIFE_MEDIAN_S, LIFE_MEAN_S)
    peers = []
    for number in range(n_peers):
        now_s, sessions = 0.0, []
        while now_s < duration_s:
            end_s = float("inf") if number == 0 else now_s + max(1.0, choose.lognormvariate(mu, sigma))
            sessions.append(Session(start_s=now_s, end_s=end_s))
            now_s = end_s + 1.0 + choose.expovariate(1 / GAP_MEAN_S)
        peers.append(Peer(f"{number:03d}", choose.lognormvariate(0.0, SPEED_SIGMA), tuple(sessions)))
    return peers


# -- the rule alone -------------------------------------------------------------------------------


@dataclass
class Seat:
    """A peer's place: since when it serves, or will."""

    stage: int
    serves_s: float
    life: Session
    moved_s: float = float("-inf")


def model(peers: list[Peer], n_stages: int, duration_s: float, *, every_s: float, joins: str, seed: int) -> list[float]:
    """Mean rates: of the pipeline, of the bound, of the best whole assignment."""
    choose = random.Random(f"joins {seed}")
    seats: dict[str, Seat] = {}
    moved_s, totals, now_s, n_ticks = 0.0, [0.0, 0.0, 0.0], 0.0, 0
    while now_s < duration_s:
        alive = {peer.name: (peer, life) for peer in peers if (life := peer.life(now_s)) is not None}
        for name, (_, life) in alive.items():
            if name not in seats or seats[name].life != life:
                seats.pop(name, None)
                fleet = _known(peers, seats, n_stages, now_s)
                stage = fleet.neediest() if joins == "neediest" else choose.randrange(n_stages)
                seats[name] = Seat(stage, now_s + (SYNC_S if now_s else 0.0), life)
        seats = {name: seat for name, seat in seats.items() if now_s < seat.life.end_s + NOTICE_S}
        fleet = _known(peers, seats, n_stages, now_s)
        since_s = now_s - moved_s
        move = None
        if every_s and since_s >= min(URGENT_EVERY_S, every_s):
            move = urgent_move(fleet)
        if every_s and move is None and since_s >= every_s:
            move = balancing_move(fleet, rest_s=2 * every_s)
        if move is not None:
            moved_s = now_s
            seats[move.name] = replace(seats[move.name], stage=move.to_stage, serves_s=now_s + SYNC_S, moved_s=now_s)
        serving = [
            Serving(name=name, stage=seat.stage, samples_per_s=alive[name][0].speed)
            for name, seat in seats.items()
            if name in alive and seat.serves_s <= now_s
        ]
        served = Fleet(serving, n_stages)
        speeds = [peer.speed for peer, _ in alive.values()]
        now = [min(served.rate(stage) for stage in range(n_stages)), sum(speeds) / n_stages, _whole(speeds, n_stages)]
        totals = [total + one for total, one in zip(totals, now, strict=True)]
        n_ticks += 1
        now_s += TICK_S
    return [total / n_ticks for total in totals]


def _known(peers: list[Peer], seats: dict[str, Seat], n_stages: int, now_s: float) -> Fleet:
    speeds = {peer.name: peer.speed for peer in peers}
    known = [
        Serving(
            name=name,
            stage=seat.stage,
            samples_per_s=speeds[name],
            rested_s=now_s - seat.moved_s,
            may_move=seat.serves_s <= now_s,
        )
        for name, seat in seats.items()
    ]
    return Fleet(known, n_stages)


def _whole(speeds: list[float], n_stages: int) -> float:
    rates = [0.0] * n_stages
    for speed in sorted(speeds, reverse=True):
        rates[rates.index(min(rates))] += speed
    return min(rates)


def tell_model(n_peers: int, n_stages: int, hours: float, n_seeds: int) -> None:
    print(f"model: {n_peers} peers, {n_stages} stages, {hours:g} h, {n_seeds} seeds; share of the optimum")
    print("| newcomers join | moves | of `bound` | of `whole` (lowest to highest seed) |\n|---|---|---:|---:|")
    duration_s = hours * 3600
    for joins, every_s in (
        *(("any stage", 0.0), ("any stage", 300.0), ("any stage", 30.0)),
        *(("neediest", 0.0), ("neediest", 300.0), ("neediest", 60.0), ("neediest", 30.0)),
    ):
        rates = [
            model(draw_fleet(n_peers, duration_s, seed), n_stages, duration_s, every_s=every_s, joins=joins, seed=seed)
            for seed in range(n_seeds)
        ]
        bound = statistics.mean(rate / most for rate, most, _ in rates)
        whole = [rate / best for rate, _, best in rates]
        moves = f"every {every_s:g} s" if every_s else "none"
        spread = f"{statistics.mean(whole):.1%} ({min(whole):.1%} to {max(whole):.1%})"
        print(f"| {joins} | {moves} | {bound:.1%} | {spread} |", flush=True)


# -- real daemons ---------------------------------------------------------------------------------


def tell_daemons(n_peers: int, n_stages: int, hours: float, seed: int, every_s: float) -> None:
    """Samples/s of the whole pipeline, against what the machines alive could do at most."""
    duration_s = hours * 3600
    peers = draw_fleet(n_peers, duration_s, seed)
    options = {"d_model": 16, "n_layers": n_stages, "n_heads": 2, "context": 16}
    batch, microbatches = 8, 2 * n_stages
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "fleet.csv"
        lines = ["machine,start_s,end_s,tflop_s"]
        for peer in peers:
            for one in peer.sessions:
                lines.append(f"{peer.name},{one.start_s:.3f},{one.end_s:.3f},{peer.speed * FLOPS_PER_S / 1e12:.9f}")
        trace.write_text("\n".join(lines) + "\n")
        scenario = scenario_of(
            {
                "name": "stage churn",
                "seed": seed,
                "duration_s": duration_s,
                "run": {
                    "task": "chars",
                    "method": "allreduce",
                    "task_options": options,
                    "batch": batch,
                    "steps": 10**6,
                    "checkpoint_every": 20,
                    "evaluate_every": 10**6,
                },
                "pipeline": {"stages": n_stages, "microbatches": microbatches, "rebalance_every_s": every_s},
                "fleet": {"kind": "trace", "trace": trace},
            }
        )
        played = play(scenario, Path(folder) / "out")
        logs = read_logs(Path(folder) / "out" / "peers")
    events = [entry.event for entries in logs.values() for entry in entries]
    counted = {event.round: event.counted for event in events if isinstance(event, StepPassed)}
    samples_per_s = sum(counted.values()) * batch / duration_s
    passes = build_task("chars", options).flops_per_sample() / 3 * (1 + BACKWARD_PASSES)
    ticks = [TICK_S * tick for tick in range(int(duration_s / TICK_S))]
    power = statistics.mean(sum(peer.speed for peer in peers if peer.life(now_s)) for now_s in ticks) * FLOPS_PER_S
    n_moved = sum(isinstance(event, Moved) for event in events)
    n_restored = len({(event.round, event.stage) for event in events if isinstance(event, StageRestored)})
    print(
        f"daemons: {n_peers} peers, {n_stages} stages, {duration_s:g} s, seed {seed}, moves every {every_s:g} s: "
        f"{len(counted)} steps, {samples_per_s:.2f} samples/s, {samples_per_s * passes / power:.1%} of the bound, "
        f"{n_moved} moves, {n_restored} restored, violations {list(played.violations)}, "
        f"{played.summary['cpu_s']:.0f} s of computing",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--daemons", action="store_true")
    parser.add_argument("--peers", type=int)
    parser.add_argument("--stages", type=int)
    parser.add_argument("--hours", type=float)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rebalance-every", type=float, nargs="+", default=[0.0, 60.0])
    args = parser.parse_args()
    if not args.daemons:
        tell_model(args.peers or 64, args.stages or 8, args.hours or 2.0, args.seeds)
        return
    for every_s in args.rebalance_every:
        tell_daemons(args.peers or 12, args.stages or 3, args.hours or 0.25, 0, every_s)


if __name__ == "__main__":
    main()
