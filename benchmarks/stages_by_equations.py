"""Pipelines of real processes against the equations: what runs end with, and what one process makes of their samples.

    python -m benchmarks.stages_by_equations [--modes ...] [--steps 60]

Daemons compute in a thread of their own beside the loop that serves others, which no simulation does. So a small
language model with tied weights (`chars`, three stages on six peers), and `digits` (two on four) where weights are
predicted, are trained by momentum SGD for each `pipeline.mode`; and by `local` with a round of one step, which is plain
descent. The equations (`algorithms/pipeline/delayed.py`) take the delay that the run measured in each step. Prints the
largest difference in any weight, and both held-out losses, as JSON. The rate is small enough that rounding does not
grow: weights are then a few 1e-7 apart. Ends with an error if they are further apart than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gossamer.algorithms.pipeline.delayed import compensation
from gossamer.peer.checkpoints import load_newest
from gossamer.peer.event_kinds import StepPassed
from gossamer.peer.events import read_events
from gossamer.peer.pipeline.flow import step_batches
from gossamer.protocol.manifest import Manifest, parse
from gossamer.tasks import Staged, build_task

TIMEOUT_S = 600
APART_MAX = 1e-5
LR, MOMENTUM = 0.01, 0.9
CHARS = ("--task", "chars", "--stages", "3", "--peers", "6", "--set", "task.d_model=64", "--set", "task.context=64")
DIGITS = ("--task", "digits", "--stages", "2", "--peers", "4")
SGD = ("--set", "method.optimizer=sgd", "--set", "method.clip=0", "--set", f"schedule.lr={LR}")
MODES = {
    "synchronous": CHARS,
    "stash": CHARS,
    "compensate": CHARS,
    "predict": DIGITS,
    "compensate-predict": DIGITS,
    "local": CHARS,
}
"""Borrowed weights are not predicted, so that `predict` is no equation of the whole model where weights are tied."""
Weights = Mapping[str, torch.Tensor]


def arguments_of(mode: str) -> list[str]:
    """What the run of a mode asks for."""
    if mode == "local":
        return [*MODES[mode], "--method", "local", "--set", "method.h=1", "--set", "method.momentum=0", *SGD]
    momentum = ("--set", f"method.momentum={MOMENTUM}", "--set", f"pipeline.mode={mode}")
    return [*MODES[mode], "--method", "allreduce", *momentum, *SGD]


def run(mode: str, n_steps: int, out: Path) -> dict[str, Any]:
    """The summary of a run of `gossamer up`, which leaves its folder in `out`."""
    command = [sys.executable, "-m", "gossamer.cli", "up", "--json", "--out", str(out), "--steps", str(n_steps)]
    command += ["--batch", "4", "--activations", "none", *arguments_of(mode)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise SystemExit(f"the run with mode {mode} failed: {done.stderr[-2000:]}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def measured_delays(out: Path) -> dict[int, float]:
    """Of each step. All replicas measure the same."""
    found: dict[int, float] = {}
    for path in out.glob("peers/*/events.jsonl"):
        for entry in read_events(path):
            if isinstance(entry.event, StepPassed):
                step, delay = entry.event.step, entry.event.delay
                if found.setdefault(step, delay) != delay:
                    raise SystemExit(f"replicas measured different delays of step {step}: {delay} and {found[step]}")
    return found


def by_equations(task: Staged, manifest: Manifest, delays: Mapping[int, float]) -> dict[str, torch.Tensor]:
    """The whole model's weights after as many steps, each with the delay that was measured."""
    mode, mu = manifest.pipeline.mode, float(manifest.method.options["momentum"])
    model = task.build_model(manifest.run.seed)
    w = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    v = {name: torch.zeros_like(tensor) for name, tensor in w.items()}
    ahead = w
    for step in range(manifest.run.steps):
        delay = delays[step + 1]
        if delay not in (0.0, 1.0):
            raise SystemExit(f"only some microbatches of step {step + 1} were late: try again on a quieter machine")
        g = gradient(task, model, manifest, step, ahead if delay else w)
        ahead = {name: w[name] - LR * v[name] if "predict" in mode else w[name] for name in w}
        v = {name: mu * v[name] + g[name] for name in w}
        a, b = compensation(mu, delay) if "compensate" in mode else (1.0, 0.0)
        w = {name: w[name] - LR * (a * v[name] + b * g[name]) for name in w}
    return w


def gradient(
    task: Staged, model: torch.nn.Module, manifest: Manifest, step: int, weights: Weights
) -> dict[str, torch.Tensor]:
    """Of the mean loss over a step's samples at these weights."""
    parameters = dict(model.named_parameters())
    _put(weights, model)
    batches = step_batches(
        task,
        seed=manifest.run.seed,
        step=step,
        n_microbatches=manifest.pipeline.microbatches,
        n_samples=manifest.data.batch_size,
    )
    loss = torch.stack([task.loss(model, batch) for batch in batches]).mean()
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def held_out_loss(task: Staged, manifest: Manifest, weights: Weights) -> float:
    model = task.build_model(manifest.run.seed).eval()
    _put(weights, model)
    inputs, targets = task.held_out_batch()
    with torch.no_grad():
        return float(task.output_loss(model(inputs), targets))


@torch.no_grad()
def _put(weights: Weights, model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])


def compare(mode: str, n_steps: int) -> dict[str, Any]:
    """A run and the equations."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        summary = run(mode, n_steps, out)
        manifest = parse((out / "manifest.toml").read_bytes().decode()).manifest
        delays = measured_delays(out)
        found: dict[str, torch.Tensor] = {}
        for home in sorted(out.glob("peers/*")):
            found.update(load_newest(home).checkpoint.model)
    task = build_task(manifest.task.name, manifest.task.options)
    assert isinstance(task, Staged)
    expected = by_equations(task, manifest, delays)
    return {
        "largest_difference": max(float((found[name] - expected[name]).abs().max()) for name in expected),
        "eval_loss": summary["eval_loss"],
        "eval_loss_by_equations": held_out_loss(task, manifest, expected),
        "mean_delay": sum(delays.values()) / len(delays),
        "microbatches": [summary["microbatches_counted"], summary["microbatches_expected"]],
        "rounds_failed": summary["rounds_failed"],
        "digests_per_stage": [len(digests) for digests in summary["state_digests_by_stage"].values()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = {mode: compare(mode, asked.steps) for mode in asked.modes}
    print(json.dumps(found, indent=1))
    worst = max(found, key=lambda mode: found[mode]["largest_difference"])
    if not found[worst]["largest_difference"] <= APART_MAX:
        sys.exit(f"{worst} is not what the equations make of the same samples")


if __name__ == "__main__":
    main()
