"""How fast samples flow where a machine's line carries what it serves and what it trains.

A trainer sends each stage what that receives, and gets what it sends, for its share of the samples: trainers take equal
shares. A replica does the same the other way round for its share of its stage's samples, which goes by its rate. What a
machine asks of itself travels over no line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .workload import Machine

Direction = Literal["uplink", "downlink"]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A stage and its replicas. Bytes are of one sample, in both passes."""

    flops: float
    down_bytes: float
    """That a replica receives."""
    up_bytes: float
    """That it sends."""
    shares: Mapping[int, float]
    """Of the stage's samples, by machine."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One direction of a machine's line, and how many samples could flow through the pipeline for all it can carry."""

    machine: int
    direction: Direction
    samples_per_s: float


def tightest_line(machines: Sequence[Machine], stages: Sequence[Placed], trainers: Sequence[int]) -> Line:
    """The one that allows the least; nothing travels where there is a single stage."""
    lines = []
    for p, machine in enumerate(machines):
        up, down = carried_bytes(p, stages, trainers)
        lines.append(Line(machine=p, direction="uplink", samples_per_s=_rate(machine.up_bytes_per_s, up)))
        lines.append(Line(machine=p, direction="downlink", samples_per_s=_rate(machine.down_bytes_per_s, down)))
    return min(lines, key=lambda line: line.samples_per_s)


def carried_bytes(machine: int, stages: Sequence[Placed], trainers: Sequence[int]) -> tuple[float, float]:
    """(up, down) that a machine's line carries for each sample of the whole pipeline."""
    if len(stages) == 1:
        return 0.0, 0.0
    trained = 1 / len(trainers) if machine in trainers else 0.0
    up = down = 0.0
    for stage in stages:
        # Of what it serves all but its own, and of what it trains all but what it serves itself.
        served = stage.shares.get(machine, 0.0)
        for_others, by_others = served * (1 - trained), trained * (1 - served)
        up += for_others * stage.up_bytes + by_others * stage.down_bytes
        down += for_others * stage.down_bytes + by_others * stage.up_bytes
    return up, down


def first_way_s(
    machines: Sequence[Machine], stages: Sequence[Placed], trainers: Sequence[int], n_samples: int
) -> dict[str, float]:
    """Seconds of a microbatch through all stages and back that finds all of them idle: the slowest of each decide.

    Returns: what is spent on compute, uplink and downlink; a line is the slower one of its two ends.
    """
    spent_s = {"compute": 0.0, "uplink": 0.0, "downlink": 0.0}
    for stage in stages:
        spent_s["compute"] += n_samples * stage.flops / min(machines[p].flops_per_s for p in stage.shares)
        if len(stages) == 1:
            continue
        ways = ((trainers, stage.shares, stage.down_bytes), (stage.shares, trainers, stage.up_bytes))
        for senders, receivers, n_bytes in ways:
            up = min(machines[p].up_bytes_per_s for p in senders)
            down = min(machines[p].down_bytes_per_s for p in receivers)
            spent_s["uplink" if up <= down else "downlink"] += n_samples * n_bytes / min(up, down)
    return spent_s


def _rate(bytes_per_s: float, bytes_per_sample: float) -> float:
    return bytes_per_s / bytes_per_sample if bytes_per_sample > 0 else math.inf
