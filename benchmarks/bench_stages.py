"""Pipelines in the simulated world: what int8 between stages costs in loss, and what a slow replica costs in time.

    python -m benchmarks.bench_stages int8 [--steps 300]
    python -m benchmarks.bench_stages slow [--steps 60]

The daemons' own code, on virtual time, in one process. `int8`: a small language model in three stages, trained twice
from the same samples, with tensors between stages in 8 bits and as they are. `slow`: two stages; the second has four
replicas, of which one is ten times slower than the others, or as fast, or absent. Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from gossamer.peer.commands.order import Order, manifest_for
from gossamer.peer.daemon import Result
from gossamer.peer.event_kinds import Evaluated, RoundEnded, StepPassed
from gossamer.peer.events import Entry, read_events
from gossamer.peer.folder import PeerFolder
from gossamer.peer.pipeline.daemon import StageDaemon
from gossamer.protocol.identity import Identity
from gossamer.protocol.manifest import compose, parse
from gossamer.simulator.world import Simulation

SMALL = ("task.d_model=64", "task.n_layers=3", "task.context=64")
FAST_FLOPS_PER_S, SLOWDOWN = 2e7, 10.0
SETTLED = 10
"""Steps after which a trainer's throughput averages are believed."""


def run(order: Order, stages: Sequence[int], flops_per_s: Sequence[float]) -> list[list[Entry]]:
    """The logs of a run with one daemon for each of `stages`."""
    owner = _identity(0)
    manifest, task = manifest_for(order, created="benchmark", start_peers=len(stages), policy="open")
    signed = parse(compose(manifest, owner))
    sim = Simulation(seed=order.seed, up_bytes_per_s=1e9, down_bytes_per_s=1e9, latency_s=0.001)
    with tempfile.TemporaryDirectory() as folder:
        homes = [PeerFolder(Path(folder) / str(number)) for number in range(len(stages))]
        hosts = [
            sim.host(f"p{number}", identity=_identity(number), flops_per_s=speed)
            for number, speed in enumerate(flops_per_s)
        ]

        async def live(number: int) -> Result:
            who = _identity(number)
            daemon = StageDaemon(
                stage=stages[number],
                network=hosts[number].network,
                identity=who,
                manifest=signed,
                task=task,
                folder=homes[number],
                owner=who if number == 0 else None,
            )
            return await daemon.run()

        async def main() -> None:
            lives = [host.spawn(live(number)) for number, host in enumerate(hosts)]
            for life in lives:
                await life

        sim.run(main())
        return [read_events(home.events) for home in homes]


def int8(steps: int) -> dict[str, Any]:
    """Held-out losses after the same steps."""
    losses: dict[str, float] = {}
    for activations in ("none", "int8"):
        order = Order(
            task="chars",
            method="demo",
            steps=steps,
            batch=4,
            seed=0,
            stages=3,
            activations=activations,
            options=(*SMALL, f"limits.eval_every_steps={steps}"),
        )
        logs = run(order, stages=(0, 1, 2), flops_per_s=(1e12,) * 3)
        found = {e.event.step: e.event.loss for log in logs for e in log if isinstance(e.event, Evaluated)}
        losses[activations] = found[steps] or float("nan")
        losses[f"{activations}_at_start"] = found[0] or float("nan")
    return {"steps": steps, "losses": losses, "difference_nat": losses["int8"] - losses["none"]}


def slow(steps: int) -> dict[str, Any]:
    """Microbatches of each replica of the second stage, and the time of a step."""
    arms = {
        "four alike": [FAST_FLOPS_PER_S] * 4,
        "one ten times slower": [*[FAST_FLOPS_PER_S] * 3, FAST_FLOPS_PER_S / SLOWDOWN],
        "three alike": [FAST_FLOPS_PER_S] * 3,
    }
    found: dict[str, Any] = {}
    for name, speeds in arms.items():
        order = Order(
            task="digits",
            method="allreduce",
            steps=steps,
            batch=16,
            seed=0,
            stages=2,
            activations="none",
            options=("pipeline.microbatches=62", f"limits.eval_every_steps={steps}"),
        )
        logs = run(order, stages=(0, 0, *[1] * len(speeds)), flops_per_s=(20 * FAST_FLOPS_PER_S,) * 2 + tuple(speeds))
        found[name] = _of_second_stage(logs[2:])
    return found


def _of_second_stage(logs: Sequence[list[Entry]]) -> dict[str, Any]:
    passes: Counter[int] = Counter()
    durations = []
    for number, log in enumerate(logs):
        for entry in log:
            event = entry.event
            if isinstance(event, StepPassed) and event.step > SETTLED:
                passes[number] += event.backward_passes
            if isinstance(event, RoundEnded) and event.step > SETTLED and number == 0:
                durations.append(event.duration_s)
    total = sum(passes.values())
    return {
        "share_of_microbatches": [round(passes[number] / total, 4) for number in range(len(logs))],
        "step_s_median": round(median(durations), 4),
        "step_s_mean": round(sum(durations) / len(durations), 4),
    }


def _identity(number: int) -> Identity:
    return Identity(hashlib.sha256(f"benchmark stages {number}".encode()).digest())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("int8", "slow"))
    parser.add_argument("--steps", type=int)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(int8(asked.steps or 300) if asked.what == "int8" else slow(asked.steps or 60), indent=1))


if __name__ == "__main__":
    main()
