"""Where to cut a model, which machines serve which stage, and what to expect of it.

A stage of some layers on one machine does at most

    min(flops/s / flops, uplink / bytes sent, downlink / bytes received)        samples/s,

and nothing if the stage does not fit its memory. A stage's rate is the sum over its replicas, and the slowest stage's
rate is that at which samples flow. A step takes the batch through it, and besides the time to fill the pipeline once
and to exchange gradients among replicas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .assigning import best_assignment
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
    unused: tuple[int, ...]
    """Machines that no stage can use."""
    samples_per_s: float
    """Expected, all told."""
    flow_s: float
    """Of one step: the batch through the slowest stage."""
    fill_s: float
    """Of one step: the first microbatch is computed by stage after stage, and back."""
    latency_s: float
    """Of one step: there and back between trainer and each stage, for both passes."""
    exchange_s: float
    """Of one step: replicas exchange gradients."""
    bottleneck: str
    """compute, uplink, downlink (of `slowest`), latency or exchange: the largest part of a step."""
    slowest: int
    """The stage that the others wait for."""
    trainer_up_bytes_per_s: float
    """All trainers' uplinks together; activations travel through them."""
    trainer_down_bytes_per_s: float

    @property
    def starts(self) -> tuple[int, ...]:
        return tuple(stage.first_layer for stage in self.stages)


class NoPlan(ValueError):
    """These machines cannot train this model; the message says what would do."""


def plan(workload: Workload, machines: Sequence[Machine], n_stages: int | None = None) -> Plan:
    """The best plan found, with this many stages or any number.

    Raises: NoPlan.
    """
    rates = Rates(workload, machines)
    n_layers = len(workload.layers)
    if n_stages is not None and not 1 <= n_stages <= min(n_layers, len(machines)):
        raise NoPlan(
            f"{n_stages} stages need as many layers and machines: the model has {n_layers} layers, the fleet "
            f"{len(machines)} machines"
        )
    most = min(n_layers, len(machines), STAGES_MAX)
    plans = [
        _expect(workload, machines, rates, starts, groups)
        for s in ([n_stages] if n_stages is not None else range(1, most + 1))
        if (found := best_assignment(rates, s)) is not None
        for starts, groups in [found]
    ]
    if not plans:
        raise NoPlan(_why_not(workload, machines, n_stages))
    return max(plans, key=lambda made: (made.samples_per_s, -len(made.stages)))


def _expect(
    workload: Workload,
    machines: Sequence[Machine],
    rates: Rates,
    starts: tuple[int, ...],
    groups: Sequence[Sequence[int]],
) -> Plan:
    ends = (*starts[1:], rates.n_layers)
    stages = [_stage(rates, i, j, group) for i, j, group in zip(starts, ends, groups, strict=True)]
    slowest = min(range(len(stages)), key=lambda s: stages[s].samples_per_s)
    flow_s = workload.batch_samples / stages[slowest].samples_per_s
    fill_s = latency_s = exchange_s = 0.0
    for stage, i, j in zip(stages, starts, ends, strict=True):
        used = [machines[p] for p in stage.machines]
        fill_s += workload.microbatch_samples * float(rates.flops[i, j]) / min(m.flops_per_s for m in used)
        latency_s += 4 * max(m.latency_s for m in used)
        if len(used) > 1:
            n_parameters = (rates.memory[i, j] - workload.overhead_bytes) / workload.bytes_per_parameter
            line = min(min(m.up_bytes_per_s, m.down_bytes_per_s) for m in used)
            taken_s = workload.exchanged_bytes(n_parameters, len(used)) / line + 2 * max(m.latency_s for m in used)
            exchange_s = max(exchange_s, taken_s / workload.exchange_every_steps)
    parts = {"compute": fill_s, "uplink": 0.0, "downlink": 0.0, "latency": latency_s, "exchange": exchange_s}
    parts[stages[slowest].bottleneck] += flow_s
    samples_per_s = workload.batch_samples / sum(parts.values())
    serving = {p for stage in stages for p in stage.machines}
    return Plan(
        stages=tuple(stages),
        unused=tuple(p for p in range(len(machines)) if p not in serving),
        samples_per_s=samples_per_s,
        flow_s=flow_s,
        fill_s=fill_s,
        latency_s=latency_s,
        exchange_s=exchange_s,
        bottleneck=max(parts, key=lambda name: parts[name]),
        slowest=slowest,
        trainer_up_bytes_per_s=samples_per_s * float(sum(rates.down[i, j] for i, j in zip(starts, ends, strict=True))),
        trainer_down_bytes_per_s=samples_per_s * float(sum(rates.up[i, j] for i, j in zip(starts, ends, strict=True))),
    )


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
