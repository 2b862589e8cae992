"""Where to cut a model, which machines serve which stage, and what to expect of it.

A stage of some layers on one machine does at most

    min(flops/s / flops, uplink / bytes sent, downlink / bytes received)        samples/s,

and nothing if the stage does not fit its memory. A stage's rate is the sum over its replicas. Samples flow at the
slowest stage's rate, or at what the tightest line allows that also carries what its machine trains (`lines.py`). A step
takes the batch through that, and besides the time to fill the pipeline once and to exchange gradients among replicas.
For each number of stages two cuts and assignments are found by the stages' rates alone; of all of them the one of
which most is expected is the plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .assigning import best_assignments
from .lines import Line, Placed, first_way_s, tightest_line
from .workload import Machine, Rates, Workload

STAGES_MAX: Final = 16
"""When the number of stages is free."""


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage."""

    first_layer: int
    last_layer: int
    machines: tuple[int, ...]
    """Indices of its replicas, ascending."""
    samples_per_s: float
    bottleneck: str
    """compute, uplink or downlink: what holds most of its throughput back."""
    memory_bytes: float
    """Needed by each replica."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A cut, who serves what, and what to expect of it."""

    stages: tuple[StagePlan, ...]
    trainers: tuple[int, ...]
    """Machines that pass microbatches: those that serve a stage and train, and those that only train."""
    unused: tuple[int, ...]
    """Machines that no stage can use, and that shall not only train, are too small for it, or have too slow lines."""
    samples_per_s: float
    """Expected, all told."""
    flow_s: float
    """Of one step: the batch through the slowest stage, or through `line`."""
    fill_s: float
    """Of one step: the first microbatch is sent to and computed by stage after stage, and back."""
    latency_s: float
    """Of one step: there and back between trainer and each stage, for both passes."""
    exchange_s: float
    """Of one step: replicas exchange gradients."""
    bottleneck: str
    """compute, uplink, downlink (of `slowest`, or of `line`), latency or exchange: the largest part of a step."""
    slowest: int
    """The stage that the others wait for."""
    line: Line | None
    """What the slowest stage waits for, if that is the line of a machine that trains; None: itself."""
    trainer_up_bytes_per_s: float
    """All trainers' uplinks together; activations travel through them."""
    trainer_down_bytes_per_s: float

    @property
    def starts(self) -> tuple[int, ...]:
        return tuple(stage.first_layer for stage in self.stages)


NEARLY: Final = 0.95
"""Of the best plan's samples/s: what is above goes by how many replicas its poorest stage has, for with the last one
of a stage all others stop."""


class NoPlan(ValueError):
    """These machines cannot train this model; the message says what would do."""


def plan(
    workload: Workload,
    machines: Sequence[Machine],
    n_stages: int | None = None,
    *,
    tell: Callable[[int, int], None] = lambda n_done, n_all: None,
) -> Plan:
    """The best plan found, with this many stages or any number.

    Args:
        tell: is called before each number of stages, with how many have been looked at, of how many.

    Raises: NoPlan.
    """
    rates = Rates(workload, machines)
    n_layers, n_serving = len(workload.layers), sum(machine.serves for machine in machines)
    if n_stages is not None and not 1 <= n_stages <= min(n_layers, n_serving):
        raise NoPlan(
            f"{n_stages} stages need as many layers and machines that serve them: the model has {n_layers} layers, the "
            f"fleet {n_serving} such machines"
        )
    most = min(n_layers, n_serving, STAGES_MAX)
    numbers = [n_stages] if n_stages is not None else range(1, most + 1)
    both = np.array([float(machine.serves and machine.trains) for machine in machines])[:, None, None]
    plans: list[Plan] = []
    for n_done, s in enumerate(numbers):
        tell(n_done, len(numbers))
        allowed = rates if s > 1 else rates.limited(both)  # a whole model is trained where it is
        expected = (_expect(workload, machines, allowed, *found) for found in best_assignments(allowed, s))
        plans += [made for made in expected if made is not None]
    if not plans:
        raise NoPlan(_why_not(workload, machines, n_stages))
    enough = NEARLY * max(made.samples_per_s for made in plans)
    return max((made for made in plans if made.samples_per_s >= enough), key=_merit)


def _merit(made: Plan) -> tuple[int, float, int]:
    return min(len(stage.machines) for stage in made.stages), made.samples_per_s, -len(made.stages)


def _expect(
    workload: Workload,
    machines: Sequence[Machine],
    rates: Rates,
    starts: tuple[int, ...],
    groups: Sequence[Sequence[int]],
) -> Plan | None:
    """None: nobody is left who trains."""
    bounds = list(zip(starts, (*starts[1:], rates.n_layers), strict=True))
    stages = [_stage(rates, i, j, group) for (i, j), group in zip(bounds, groups, strict=True)]
    placed = [_placed(rates, i, j, stage) for (i, j), stage in zip(bounds, stages, strict=True)]
    serving = {p for stage in stages for p in stage.machines}
    trainers = tuple(
        p
        for p, machine in enumerate(machines)
        if machine.trains and (p in serving or (len(stages) > 1 and _fits(workload, machine)))
    )
    if not trainers:
        return None
    trainers = _without_slow_lines(machines, placed, trainers)
    slowest = min(range(len(stages)), key=lambda s: stages[s].samples_per_s)
    line = tightest_line(machines, placed, trainers)
    holds = line.samples_per_s < stages[slowest].samples_per_s
    flow_s = workload.batch_samples / (line if holds else stages[slowest]).samples_per_s
    fill = first_way_s(machines, placed, trainers, workload.microbatch_samples)
    latency_s = sum(4 * max(machines[p].latency_s for p in stage.machines) for stage in stages)
    exchange_s = max(_exchange_s(workload, machines, rates, i, j, s) for (i, j), s in zip(bounds, stages, strict=True))
    parts = {**fill, "latency": latency_s, "exchange": exchange_s}
    parts[line.direction if holds else stages[slowest].bottleneck] += flow_s
    samples_per_s = workload.batch_samples / sum(parts.values())
    travelling = placed if len(placed) > 1 else []
    return Plan(
        stages=tuple(stages),
        trainers=trainers,
        unused=tuple(p for p in range(len(machines)) if p not in serving and p not in trainers),
        samples_per_s=samples_per_s,
        flow_s=flow_s,
        fill_s=sum(fill.values()),
        latency_s=latency_s,
        exchange_s=exchange_s,
        bottleneck=max(parts, key=lambda name: parts[name]),
        slowest=slowest,
        line=line if holds else None,
        trainer_up_bytes_per_s=samples_per_s * sum(stage.down_bytes for stage in travelling),
        trainer_down_bytes_per_s=samples_per_s * sum(stage.up_bytes for stage in travelling),
    )


def _without_slow_lines(
    machines: Sequence[Machine], placed: Sequence[Placed], trainers: tuple[int, ...]
) -> tuple[int, ...]:
    """Trainers take equal shares, so one that only trains and has the tightest line may hold up all others."""
    while True:
        line = tightest_line(machines, placed, trainers)
        fewer = tuple(p for p in trainers if p != line.machine)
        if not fewer or machines[line.machine].serves:
            return trainers
        if tightest_line(machines, placed, fewer).samples_per_s <= line.samples_per_s:
            return trainers
        trainers = fewer


def _fits(workload: Workload, machine: Machine) -> bool:
    """Whether a machine can be there without a stage, and shall."""
    return not machine.serves and machine.memory_bytes >= workload.overhead_bytes


def _placed(rates: Rates, i: int, j: int, stage: StagePlan) -> Placed:
    return Placed(
        flops=float(rates.flops[i, j]),
        down_bytes=float(rates.down[i, j]),
        up_bytes=float(rates.up[i, j]),
        shares={p: float(rates.rate[p, i, j]) / stage.samples_per_s for p in stage.machines},
    )


def _exchange_s(
    workload: Workload, machines: Sequence[Machine], rates: Rates, i: int, j: int, stage: StagePlan
) -> float:
    """Of one step, on average: gradients among a stage's replicas."""
    used = [machines[p] for p in stage.machines]
    if len(used) == 1:
        return 0.0
    line = min(min(m.up_bytes_per_s, m.down_bytes_per_s) for m in used)
    taken_s = workload.exchanged_bytes(float(rates.parameters[i, j]), len(used)) / line
    return (taken_s + 2 * max(m.latency_s for m in used)) / workload.exchange_every_steps


def _stage(rates: Rates, i: int, j: int, group: Sequence[int]) -> StagePlan:
    used = tuple(sorted(p for p in group if rates.rate[p, i, j] > 0))
    held_back = dict.fromkeys(rates.by_resource, 0.0)
    for p in used:
        tightest = min(held_back, key=lambda name: _or_inf(rates.by_resource[name][p, i, j]))
        held_back[tightest] += float(rates.rate[p, i, j])
    return StagePlan(
        first_layer=i,
        last_layer=j - 1,
        machines=used,
        samples_per_s=float(rates.rate[list(used), i, j].sum()),
        bottleneck=max(held_back, key=lambda name: held_back[name]),
        memory_bytes=float(rates.memory[i, j]),
    )


def _or_inf(value: float) -> float:
    return math.inf if math.isnan(value) else float(value)


def _why_not(workload: Workload, machines: Sequence[Machine], n_stages: int | None) -> str:
    if not any(machine.trains for machine in machines):
        return "no machine trains: let some that serve a stage do both, or add some that only train"
    if not any((machine.serves and machine.trains) or _fits(workload, machine) for machine in machines):
        least = workload.overhead_bytes / 1e9
        return f"no machine that trains has the {least:.2g} GB that a daemon needs: let some that serve do both"
    both = [machine for machine in machines if machine.serves and machine.trains]
    machines = [machine for machine in machines if machine.serves]
    if not machines:
        return "no machine serves a stage: let some do both"
    if (len(machines) == 1 or n_stages == 1) and not both:
        return "a model in one piece is trained where it is: let some do both, or have two or more that serve stages"
    largest = max(machines, key=lambda m: m.memory_bytes)
    per_layer = [
        sum(layer.parameters.values()) * workload.bytes_per_parameter + workload.overhead_bytes
        for layer in workload.layers
    ]
    dearest = max(range(len(per_layer)), key=lambda i: per_layer[i])
    if per_layer[dearest] > largest.memory_bytes:
        return (
            f"layer {workload.layers[dearest].name!r} alone needs {per_layer[dearest] / 1e9:.3g} GB, the largest "
            f"machine {largest.name!r} has {largest.memory_bytes / 1e9:.3g} GB: add a machine with more memory"
        )
    stages = "any number of stages" if n_stages is None else f"{n_stages} stages"
    return (
        f"the model does not fit these {len(machines)} machines in {stages}: use more stages, add machines, or some "
        f"with more memory (the largest, {largest.name!r}, has {largest.memory_bytes / 1e9:.3g} GB)"
    )
