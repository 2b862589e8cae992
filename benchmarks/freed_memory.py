"""What a daemon's arithmetic costs when the process keeps the memory that it frees, and when it gives it back.

    python -m benchmarks.freed_memory [--rounds 40] [--repeat 3]

Rounds of a replica of `chars` with DeMo and eight members' payloads, as `gossamer calibrate` measures them, in fresh
processes by turns. Median milliseconds of processor time, page faults for each round, and the most memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

import torch

from gossamer.peer.freed_memory import keep_freed_memory
from gossamer.peer.peak_memory import peak_memory_bytes
from gossamer.peer.replica import Replica
from gossamer.protocol.identity import Identity
from gossamer.protocol.manifest import compose, manifest_of, parse
from gossamer.simulator.calibrating import RoundsOfOne
from gossamer.tasks import build_task

N_MEMBERS = 8
WARM_UPS = 10
TASK = {"d_model": 64, "n_layers": 3, "context": 64}


def measured(n_rounds: int) -> dict[str, float]:
    """In this process."""
    torch.set_num_threads(1)
    turns, taken = RoundsOfOne(_replica(), N_MEMBERS), dict[str, list[float]]()
    for index in range(WARM_UPS):
        turns(index)
    faults = _faults()
    for index in range(WARM_UPS, WARM_UPS + n_rounds):
        for name, seconds in turns(index).items():
            taken.setdefault(name, []).append(1e3 * seconds)
    told = {f"{name}_ms": round(statistics.median(values), 2) for name, values in taken.items()}
    faults = (_faults() - faults) / n_rounds
    return {**told, "faults": round(faults), "peak_mb": round(peak_memory_bytes() / 1e6)}


def _replica() -> Replica:
    task = build_task("chars", TASK)
    tables = {
        "run": {"name": "freed memory", "seed": 0, "steps": 1000, "created": "benchmark"},
        "task": {"name": task.name, "fingerprint": task.fingerprint(), "options": TASK},
        "method": {"name": "demo", "options": {"k": 1024}},
        "schedule": {"lr": 1e-3},
        "data": {"batch_size": 2},
        "admission": {"policy": "open"},
    }
    return Replica(task, parse(compose(manifest_of(tables), Identity(bytes(32)))).manifest)


def _faults() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--in-this-process", choices=["kept", "given back"], help="used by itself")
    chosen = parser.parse_args()
    if chosen.in_this_process is not None:
        if chosen.in_this_process == "kept":
            keep_freed_memory()
        print(json.dumps(measured(chosen.rounds)))
        return
    command = [sys.executable, "-m", "benchmarks.freed_memory", "--rounds", str(chosen.rounds), "--in-this-process"]
    for _ in range(chosen.repeat):
        for way in ("given back", "kept"):
            done = subprocess.run([*command, way], capture_output=True, text=True, timeout=300, check=True)
            print(f"{way:>10}: {json.loads(done.stdout)}", flush=True)


if __name__ == "__main__":
    main()
