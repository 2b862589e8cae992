"""The daemons of a pipeline on a fleet that churns, on virtual time: how much of the optimum they do.

Sizes and costs only (`simulator/analytic.py`): on the median machine a microbatch's forward pass at one stage takes so
many seconds, and a backward pass three times that, so a stage needs four of them for a microbatch, the last one three.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from gossamer.peer.event_kinds import Moved, StageRestored, StepPassed
from gossamer.simulator.analytic import Gather, Sized
from gossamer.simulator.invariants import read_logs
from gossamer.simulator.playing import Played, play
from gossamer.simulator.scenario import Scenario, scenario_of

from .churning import Peer, best
from .stage_churn_losses import Logs, losses, work_of

FLOPS_PER_S = 1e12
"""Of the median machine."""
MICROBATCHES = 256
SAMPLES_PER_S = 64.0
"""That it passes forward at one stage."""
TICK_S = 2.0


def scenario(
    n_stages: int,
    duration_s: float,
    seed: int,
    *,
    every_s: float,
    forward_s: float,
    trace: Path,
    n_microbatches: int = MICROBATCHES,
) -> Scenario:
    n_samples = max(1, round(SAMPLES_PER_S * forward_s))
    flops_per_sample = 3 * n_stages * forward_s * FLOPS_PER_S / n_samples
    run: dict[str, Any] = {
        "task": Sized.name,
        "task_options": {"n_layers": n_stages, "flops_per_sample": flops_per_sample, "activation_elements": 16},
        "method": f"{Gather.__module__}:Gather",
        "method_options": {"payload_bytes": 100_000},
        "batch": n_samples,
        "steps": 10**6,
        "checkpoint_every": 10,
        "evaluate_every": 10**6,
    }
    pipeline = {"stages": n_stages, "microbatches": n_microbatches, "rebalance_every_s": every_s}
    fleet = {"kind": "trace", "trace": trace}
    tables = {"name": "stage churn", "seed": seed, "duration_s": duration_s, "run": run}
    return scenario_of({**tables, "pipeline": pipeline, "fleet": fleet})


def write_trace(peers: Sequence[Peer], path: Path, *, still: bool) -> None:
    lines = ["machine,start_s,end_s,tflop_s"]
    for peer in peers:
        tflop_s = peer.speed * FLOPS_PER_S / 1e12
        for one in peer.sessions[:1] if still else peer.sessions:
            end_s = float("inf") if still else one.end_s
            lines.append(f"{peer.name},{one.start_s:.3f},{end_s:.3f},{tflop_s:.9f}")
    path.write_text("\n".join(lines) + "\n")


def tell_daemons(
    peers: Sequence[Peer],
    n_stages: int,
    duration_s: float,
    seed: int,
    *,
    every_s: float,
    forward_s: float,
    n_microbatches: int = MICROBATCHES,
    still: bool = False,
) -> None:
    """Microbatches/s of the whole pipeline, against what the machines alive could do at most."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "fleet.csv"
        write_trace(peers, trace, still=still)
        played_for = scenario(
            n_stages,
            duration_s,
            seed,
            every_s=every_s,
            forward_s=forward_s,
            trace=trace,
            n_microbatches=n_microbatches,
        )
        played = play(played_for, Path(folder) / "out")
        logs = read_logs(Path(folder) / "out" / "peers")
    events = [entry.event for log in logs.values() for entry in log]
    counted = {event.round: event.counted for event in events if isinstance(event, StepPassed)}
    rate = sum(counted.values()) / duration_s
    ticks = [TICK_S * tick for tick in range(int(duration_s / TICK_S))]
    alive = [[peer.speed for peer in peers if still or peer.life(now_s)] for now_s in ticks]
    optima = [best(speeds, n_stages, work_of(n_stages)) for speeds in alive]
    whole, bound = _mean_rates(optima, forward_s)
    ended_s = _ends_s(logs)
    finished = ", ".join(f"{after - before:.1f}" for before, after in pairwise([0.0, *ended_s]))
    until_s = ended_s[-1] if ended_s else duration_s
    possible, _ = _mean_rates(optima[: max(1, int(until_s / TICK_S))], forward_s)
    parts = losses(logs, peers, n_stages, ticks, done_of_whole=rate / whole, still=still)
    moves = f"moves every {every_s:g} s" if every_s else "no moves"
    who = f"{len(peers)} peers{' that stay' if still else ''}, {n_stages} stages"
    print(
        f"daemons: {who}, {duration_s:g} s, seed {seed}, {n_microbatches} microbatches, passes of {forward_s:g} s, "
        f"{moves}: {rate / whole:.1%} of `whole`, {rate / bound:.1%} of `bound` ({rate:.2f} microbatches/s) = "
        f"{parts.placed:.1%} members alive, where they are, x {parts.once:.1%} not done again, x {parts.busy:.1%} "
        f"not idle; until the end of the last step that ended {sum(counted.values()) / until_s / possible:.1%} of "
        f"`whole`, steps of {finished} s; " + _what_happened(played, events, n_microbatches),
        flush=True,
    )


def _mean_rates(optima: Sequence[tuple[float, float]], forward_s: float) -> tuple[float, float]:
    """(whole, bound) in microbatches/s."""
    whole, bound = (statistics.mean(part) / forward_s for part in zip(*optima, strict=True))
    return whole, bound


def _ends_s(logs: Logs) -> list[float]:
    """When each step was first applied somewhere."""
    began_s = min(entry.unix_s for log in logs.values() for entry in log)
    first: dict[int, float] = {}
    for log in logs.values():
        for entry in log:
            if isinstance(entry.event, StepPassed):
                at_s = entry.unix_s - began_s
                first[entry.event.round] = min(at_s, first.get(entry.event.round, at_s))
    return sorted(first.values())


def _what_happened(played: Played, events: Sequence[object], n_microbatches: int) -> str:
    steps = {event.round: event.counted for event in events if isinstance(event, StepPassed)}
    n_moved = sum(isinstance(event, Moved) for event in events)
    n_restored = len({(event.round, event.stage) for event in events if isinstance(event, StageRestored)})
    n_partial = sum(counted < n_microbatches for counted in steps.values())
    summary = played.summary
    return (
        f"{len(steps)} steps, {n_partial} of them partial, {summary['rounds_failed']} rounds failed, {n_moved} moves, "
        f"{n_restored} stages restored, violations {list(played.violations)}, {summary['cpu_s']:.0f} s of computing"
    )
