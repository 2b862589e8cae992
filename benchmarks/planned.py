"""What `gossamer plan` expects of a pipeline, beside what the simulated daemons make of it.

    python -m benchmarks.planned [NAME ...]

Equal machines in several settings, each with another bottleneck: the planner's expectation for the number of stages,
and the daemons' own code with analytic compute over modelled lines, cut where the plan says. How many replicas a stage
gets is the daemons' choice. Samples a second of the median step, the first one left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from gossamer.algorithms.pipeline.planning import Plan, plan
from gossamer.algorithms.pipeline.workload import LayerLoad, Machine, Workload
from gossamer.peer.event_kinds import StepPassed
from gossamer.simulator.invariants import read_logs
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of

N_LAYERS, N_PARAMETERS, SAMPLES, FLOPS_PER_S = 8, 1_000_000, 8, 4e12
MBIT = 125e3
INT8_BYTES = 1 + 4 / 256


@dataclass(frozen=True, kw_only=True)
class Case:
    """Equal machines, all of which serve and train unless said otherwise."""

    n_stages: int
    n_peers: int = 8
    n_only_train: int = 0
    n_microbatches: int = 64
    flops: float
    """Of a sample's forward pass, all layers."""
    activation_elements: int = 1000
    up_mbit_s: float = 1000.0
    down_mbit_s: float = 1000.0
    round_trip_s: float = 0.04
    payload_bytes: int = 10_000
    """Of a replica's contribution, for the whole model."""
    grain: int = 1
    """Bytes on the lines for each in memory, so that large messages take less of ours."""


HOMES = Case(
    n_stages=4,
    flops=8e11,
    activation_elements=1_000_000,
    up_mbit_s=20.0,
    down_mbit_s=100.0,
    payload_bytes=8_400_000,
    grain=64,
)
CASES = {
    "compute": Case(n_stages=4, flops=8e12),
    "compute, 8 microbatches": Case(n_stages=4, flops=8e12, n_microbatches=8),
    "compute and uplinks": replace(HOMES, flops=8e12),
    "uplinks, 2 stages": replace(HOMES, n_stages=2),
    "uplinks, 4 stages": HOMES,
    "uplinks, 8 stages": replace(HOMES, n_stages=8),
    "uplinks, 2 of 8 only train": replace(HOMES, n_stages=3, n_only_train=2),
    "downlinks": replace(HOMES, up_mbit_s=100.0, down_mbit_s=20.0),
    "exchange": replace(
        HOMES, n_stages=2, activation_elements=16_384, n_microbatches=32, payload_bytes=150_000_000, grain=8
    ),
    "latency": Case(n_stages=4, flops=8e9, n_microbatches=16, round_trip_s=0.4),
}


def planned(case: Case) -> Plan:
    """What the planner says."""
    layers = [
        LayerLoad(
            name=f"layer {number}",
            flops=case.flops / N_LAYERS,
            output_bytes=case.activation_elements * INT8_BYTES,
            parameters={str(number): N_PARAMETERS // N_LAYERS},
        )
        for number in range(N_LAYERS)
    ]
    workload = Workload(
        layers=tuple(layers),
        input_bytes=8,
        batch_samples=SAMPLES * case.n_microbatches,
        microbatch_samples=SAMPLES,
        payload_bytes_per_parameter=case.payload_bytes / N_PARAMETERS,
        gathers=True,
    )
    machines = [
        Machine(
            name=f"machine {number}",
            flops_per_s=FLOPS_PER_S,
            memory_bytes=1e12,
            up_bytes_per_s=case.up_mbit_s * MBIT,
            down_bytes_per_s=case.down_mbit_s * MBIT,
            latency_s=case.round_trip_s / 2,
            serves=number < case.n_peers - case.n_only_train,
        )
        for number in range(case.n_peers)
    ]
    return plan(workload, machines, case.n_stages)


def simulated(case: Case, starts: Sequence[int], n_steps: int = 6) -> float:
    """Samples a second of the daemons."""
    sizes = {
        "n_params": N_PARAMETERS,
        "n_layers": N_LAYERS,
        "flops_per_sample": 3 * case.flops,
        "activation_elements": case.activation_elements,
        "payload_bytes": case.payload_bytes,
        "grain": case.grain,
    }
    never = {"evaluate_every": 10**6, "checkpoint_every": 10**6}
    tables = {
        "name": "planned",
        "duration_s": 1e7,
        "run": {"compute": "analytic", "steps": n_steps, "batch": SAMPLES, "sizes": sizes, **never},
        "pipeline": {
            "stages": case.n_stages,
            "starts": list(starts),
            "microbatches": case.n_microbatches,
            "only_train": case.n_only_train,
        },
        "fleet": {
            "peers": case.n_peers,
            "flops_per_s": FLOPS_PER_S,
            "memory_bytes_per_s": 1e15,
            "up_mbit_s": case.up_mbit_s,
            "down_mbit_s": case.down_mbit_s,
            "round_trip_s": case.round_trip_s,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        play(scenario_of(tables), Path(folder) / "out")
        logs = read_logs(Path(folder) / "out" / "peers")
    ended_s: dict[int, float] = {}
    for log in logs.values():
        for entry in log:
            if isinstance(entry.event, StepPassed):
                ended_s[entry.event.round] = min(entry.unix_s, ended_s.get(entry.event.round, entry.unix_s))
    steps_s = [after - before for before, after in pairwise(ended_s[step] for step in sorted(ended_s))]
    return SAMPLES * case.n_microbatches / statistics.median(steps_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {'; '.join(CASES)}")
    names = parser.parse_args().names or list(CASES)
    if unknown := sorted(set(names) - set(CASES)):
        parser.error(f"no such setting: {'; '.join(unknown)}: name one of {'; '.join(CASES)}")
    print("| setting | stages start at | held back by | planned, samples/s | simulated | planned / simulated |")
    print("|---|---|---|---:|---:|---:|")
    for name in names:
        made = planned(CASES[name])
        done = simulated(CASES[name], made.starts)
        starts, held = ", ".join(map(str, made.starts)), made.bottleneck
        print(
            f"| {name} | {starts} | {held} | {made.samples_per_s:.3g} | {done:.3g} | {made.samples_per_s / done:.2f} |"
        )


if __name__ == "__main__":
    main()
