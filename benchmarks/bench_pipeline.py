"""Pipelines of real processes against torch.distributed.pipelining, and what the wiring itself costs.

    python -m benchmarks.bench_pipeline [--stages 3] [--steps 30] [--rounds 2] [--skip torch kill wiring]

`torch` and `ours`: chars cut into the same stages, one process each with one thread, the same microbatches, SGD, and
uncompressed tensors; they take turns, so that a machine that others use as well does the same to both, and the ratio
counts.
`kill`: one process is killed at half of the steps; ours has two replicas a stage there. Utilisation is the part of the
time in which the busiest stage computes: one minus that is what pipelining loses. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from gossamer.benchmarks.wiring_cost import wiring_cost
from gossamer.peer.event_kinds import StepPassed
from gossamer.peer.events import Entry, read_events

WARM_UP = 3
TIMEOUT_S = 600
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def ours(asked: argparse.Namespace, *, peers: int, kill: str | None = None) -> dict[str, Any]:
    """A run of `gossamer up`; samples/s from the times of its steps."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "gossamer.cli", "up", "--task", "chars", "--json", "--out", str(out)]
        command += ["--stages", str(asked.stages), "--peers", str(peers), "--steps", str(WARM_UP + asked.steps)]
        command += ["--method", "allreduce", "--activations", "none", "--batch", str(asked.batch), "--lr", "0.1"]
        for setting in ("optimizer=sgd", "momentum=0.0", "clip=0.0"):
            command += ["--set", f"method.{setting}"]
        command += [
            "--set",
            f"pipeline.microbatches={asked.microbatches}",
            "--set",
            f"pipeline.schedule={asked.schedule}",
        ]
        command += ["--set", f"limits.eval_every_steps={WARM_UP + asked.steps}"]
        command += ["--kill", kill] if kill is not None else []
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=ENVIRONMENT, check=False)
        if done.returncode:
            raise SystemExit(f"our run failed: {done.stderr[-2000:]}")
        summary = json.loads(done.stdout)
        logs = [read_events(path) for path in sorted(out.glob("peers/*/events.jsonl"))]
    return {
        "samples_per_s": asked.microbatches * asked.batch / median(_durations(logs[0])),
        "utilisation": _utilisation(logs),
        "steps": summary["steps"],
        "counted": summary["microbatches_counted"],
        "expected": summary["microbatches_expected"],
    }


def _durations(log: list[Entry]) -> list[float]:
    """From step to step, after the warm-up."""
    times = [entry.t_s for entry in log if isinstance(entry.event, StepPassed)][WARM_UP:]
    return [after - before for before, after in pairwise(times)]


def _utilisation(logs: list[list[Entry]]) -> float:
    """Of the stage that computes most."""
    shares: dict[int, list[float]] = {}
    for log in logs:
        passed = [e.event for e in log if isinstance(e.event, StepPassed) and e.event.step > WARM_UP]
        share = sum(event.busy_s for event in passed) / sum(event.duration_s for event in passed)
        if passed[-1].stage is not None:
            shares.setdefault(passed[-1].stage, []).append(share)
    return max(mean(values) for values in shares.values())


def torchs(asked: argparse.Namespace, *, kill: int | None = None) -> dict[str, Any]:
    """The same by torch, one process for each stage."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gossamer.benchmarks.pipeline_in_torch", "--port", str(port)]
    for name in ("stages", "microbatches", "batch", "steps"):
        command += [f"--{name}", str(getattr(asked, name))]
    ranks = [
        subprocess.Popen(
            [*command, "--rank", str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        for rank in range(asked.stages)
    ]
    if kill is not None:
        stdout = ranks[0].stdout
        assert stdout is not None
        for line in stdout:
            if json.loads(line).get("step") == WARM_UP + asked.steps // 2:
                break
        ranks[kill].send_signal(signal.SIGKILL)
    killed_s = time.perf_counter()
    outs = [rank.communicate(timeout=TIMEOUT_S) for rank in ranks]
    told = [json.loads(line) for out, _ in outs for line in out.splitlines()]
    if kill is not None:
        return {
            "steps": max((one["step"] for one in told if "step" in one), default=0),
            "exit_codes": [rank.returncode for rank in ranks],
            "ended_after_s": time.perf_counter() - killed_s,
            "last_words": outs[0][1].strip().splitlines()[-1][:200] if outs[0][1].strip() else "",
        }
    results = [one for one in told if "seconds" in one]
    if len(results) < asked.stages:
        raise SystemExit(f"torch's run failed: {outs[0][1][-2000:]}")
    seconds = max(one["seconds"] for one in results)
    return {"samples_per_s": asked.steps * asked.microbatches * asked.batch / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("stages", 3), ("steps", 30), ("rounds", 2), ("microbatches", 12), ("batch", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--schedule", default="credit")
    parser.add_argument("--skip", nargs="*", default=(), choices=("torch", "kill", "wiring"))
    asked = parser.parse_args()
    result: dict[str, Any] = {"load_average": os.getloadavg()[0]}
    if "wiring" not in asked.skip:
        result["wiring"] = wiring_cost()
    if "torch" not in asked.skip:
        pairs = [(torchs(asked), ours(asked, peers=asked.stages)) for _ in range(asked.rounds)]
        result["rounds"] = [{"torch": a, "ours": b, "ratio": b["samples_per_s"] / a["samples_per_s"]} for a, b in pairs]
    if "kill" not in asked.skip:
        at = WARM_UP + asked.steps // 2
        result["killed"] = {
            "torch": torchs(asked, kill=1),
            "ours": ours(asked, peers=2 * asked.stages, kill=f"{asked.stages + 1}@{at}"),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
