"""`gossamer plan`: where to cut a run's model, who serves which stage, and what to expect."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...algorithms import Exchange, Method, build_method
from ...algorithms.pipeline.planning import NoPlan, Plan, plan
from ...algorithms.pipeline.workload import LayerLoad, Machine, Workload
from ...protocol.errors import UsageError
from ...protocol.manifest import Group, Manifest, parse
from ...tasks import LayerCost, Staged, estimate_costs, measure_costs
from ..pipeline.activations import Compression, wire_bytes
from ..pipeline.fleet import read_fleet
from ..pipeline.memory import DAEMON_BYTES, STATE_BYTES
from ..pipeline.microbatches import Boundary
from ..progress import bar
from ..replica import schedule_of
from ..rounds.roster import PEERS_MAX
from .order import build


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked."""

    run: Path
    fleet: Path
    data: Path | None = None
    stages: int | None = None
    microbatch: int | None = None
    """Samples; None: the run's batch_size."""
    activations: str | None = None
    """None: as the run has it."""
    measure: bool = False


def answer(question: Question, *, json_output: bool) -> None:
    """Print the plan. Raises UsageError where there is none."""
    machines = read_fleet(question.fleet)
    if len(machines) > PEERS_MAX:
        raise UsageError(
            f"the fleet has {len(machines)} machines, and a run has {PEERS_MAX} members at a time at most: plan for so "
            "many of them, or for several runs"
        )
    manifest = _manifest(question.run)
    task = build(manifest.task.name, dict(manifest.task.options), question.data)
    if not isinstance(task, Staged):
        raise UsageError(f"task {manifest.task.name!r} does not say how it is cut: make it a gossamer.tasks.Staged")
    costs = _costs(task, measure=question.measure)
    workload = _workload(task, manifest, costs, question)
    try:
        with bar("planning", 1) as (progress, task_id):

            def show(n_done: int, n_all: int) -> None:
                progress.update(task_id, completed=n_done, total=n_all, note=f"{n_done} of {n_all} numbers of stages")

            made = plan(workload, machines, question.stages, tell=show)
    except NoPlan as error:
        raise UsageError(str(error)) from None
    described = _describe(made, workload, machines)
    activations = question.activations or manifest.pipeline.activations
    described["order"] = _order(made, workload, activations) if len(made.stages) > 1 else None
    if json_output:
        print(json.dumps(described))
    else:
        _show(described, {machine.name: machine.kind for machine in machines})


def _manifest(path: Path) -> Manifest:
    path = path / "manifest.toml" if path.is_dir() else path
    try:
        return parse(path.read_bytes().decode()).manifest
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}; give the path of a manifest.toml") from None


def _costs(task: Staged, *, measure: bool) -> tuple[LayerCost, ...]:
    if not measure:
        return estimate_costs(task)
    torch.set_num_threads(1)  # as daemons do
    print("measuring the layers on this machine", file=sys.stderr)
    return measure_costs(task, clock=time.perf_counter)


def _workload(task: Staged, manifest: Manifest, costs: tuple[LayerCost, ...], question: Question) -> Workload:
    compression = Compression(question.activations or manifest.pipeline.activations)
    inputs = task.inputs(np.zeros(1, np.int64))
    n_samples = question.microbatch or manifest.data.batch_size

    def per_sample(shape: tuple[int, ...], dtype: torch.dtype) -> float:
        return wire_bytes(Boundary(shape=shape, dtype=dtype), compression, n_samples) / n_samples

    total_flops, total_s = sum(cost.flops for cost in costs), sum(cost.forward_s or 0.0 for cost in costs)
    layers = tuple(
        LayerLoad(
            name=cost.name,
            # Measured times share out what was counted: machines differ in speed, less in what is slow.
            flops=cost.flops if cost.forward_s is None else total_flops * cost.forward_s / total_s,
            output_bytes=per_sample(cost.output_shape, torch.float32),
            parameters=cost.parameters,
        )
        for cost in costs
    )
    method, n_parameters = _method(task, manifest, costs)
    is_cut = manifest.pipeline.stages > 1
    return Workload(
        layers=layers,
        input_bytes=per_sample(tuple(inputs.shape[1:]), inputs.dtype),
        batch_samples=manifest.data.batch_size
        * (manifest.pipeline.microbatches if is_cut else manifest.group.start_peers),
        microbatch_samples=n_samples,
        bytes_per_parameter=STATE_BYTES,
        overhead_bytes=DAEMON_BYTES,
        payload_bytes_per_parameter=method.payload_bytes_max() / n_parameters,
        gathers=method.exchange is Exchange.GATHER,
        exchange_every_steps=method.steps(0),
    )


def _method(task: Staged, manifest: Manifest, costs: tuple[LayerCost, ...]) -> tuple[Method, int]:
    """The run's method on the model's largest layer, and how many parameters that has: what its payloads are like."""
    model = task.build_skeleton()
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    largest = max(costs, key=lambda cost: sum(cost.parameters.values()))
    parameters = {name: torch.zeros(shapes[name]) for name in largest.parameters}
    chosen = manifest.method
    try:
        method = build_method(chosen.name, parameters, chosen.options, schedule_of(manifest))
    except ValueError as error:
        raise UsageError(str(error)) from None
    return method, sum(largest.parameters.values())


def _describe(made: Plan, workload: Workload, machines: tuple[Machine, ...]) -> dict[str, Any]:
    return {
        "starts": list(made.starts),
        "stages": [
            {
                "layers": [layer.name for layer in workload.layers[stage.first_layer : stage.last_layer + 1]],
                "replicas": len(stage.machines),
                "machines": [machines[p].name for p in stage.machines],
                "samples_per_s": stage.samples_per_s,
                "bottleneck": stage.bottleneck,
                "memory_bytes": stage.memory_bytes,
            }
            for stage in made.stages
        ],
        "unused": [machines[p].name for p in made.unused],
        "samples_per_s": made.samples_per_s,
        "bottleneck": made.bottleneck,
        "slowest_stage": made.slowest,
        "line": made.line and {"machine": machines[made.line.machine].name, "direction": made.line.direction},
        "batch_samples": workload.batch_samples,
        "step_s": {
            "flow": made.flow_s,
            "fill": made.fill_s,
            "latency": made.latency_s,
            "exchange": made.exchange_s,
        },
        "trainers": {
            "machines": [machines[p].name for p in made.trainers],
            "up_bytes_per_s": made.trainer_up_bytes_per_s,
            "down_bytes_per_s": made.trainer_down_bytes_per_s,
        },
    }


def _order(made: Plan, workload: Workload, activations: str) -> str:
    """Options of `run new` for a run as it was planned."""
    n_peers = len({p for stage in made.stages for p in stage.machines} | {*made.trainers})
    starts = ",".join(map(str, made.starts))
    room = f" --set group.peers_max={n_peers}" if n_peers > Group.model_fields["peers_max"].default else ""
    return (
        f"--stages {len(made.starts)} --set 'pipeline.starts=[{starts}]' "
        f"--start-peers {n_peers}{room} "
        f"--batch {workload.microbatch_samples} --set "
        f"pipeline.microbatches={max(1, workload.batch_samples // workload.microbatch_samples)} "
        f"--activations {activations}"
    )


def _show(described: dict[str, Any], kinds: Mapping[str, str]) -> None:
    table = Table("stage", "layers", "replicas", "samples/s", "held back by", "memory", title="plan")
    for index, stage in enumerate(described["stages"]):
        names = stage["layers"]
        layers = names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]}"
        memory = f"{stage['memory_bytes'] / 1e9:.2f} GB"
        replicas = _together(stage["machines"], kinds)
        table.add_row(
            str(index), escape(layers), escape(replicas), f"{stage['samples_per_s']:.3g}", stage["bottleneck"], memory
        )
    console = Console(markup=False, highlight=False)
    console.print(table)
    parts = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in described["step_s"].items())
    line = described["line"]
    whose = f" of {line['machine']}, which trains" if line and line["direction"] == described["bottleneck"] else ""
    console.print(
        f"expected: {described['samples_per_s']:.3g} samples/s, held back by {described['bottleneck']}{whose}; "
        f"a step of {described['batch_samples']} samples: {parts}"
    )
    if described["unused"]:
        console.print(f"no use for: {_together(described['unused'], kinds)}")
    if described["order"] is None:
        return
    lines = described["trainers"]
    console.print(
        f"{len(lines['machines'])} trainers, their lines together: {lines['up_bytes_per_s'] / 1e6:.3g} MB/s up, "
        f"{lines['down_bytes_per_s'] / 1e6:.3g} MB/s down"
    )
    console.print(f"order it with: gossamer run new FOLDER --task ... {described['order']}", soft_wrap=True)


def _together(names: Sequence[str], kinds: Mapping[str, str]) -> str:
    """Alike machines as one, if they are several."""
    counts = Counter(kinds[name] for name in names)
    told = {
        kinds[name]: name if counts[kinds[name]] == 1 else f"{counts[kinds[name]]} x {kinds[name]}" for name in names
    }
    return ", ".join(told.values())
