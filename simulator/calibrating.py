"""Measures this machine: what the task's mathematics, messages and the rounds' bookkeeping take of a core.

Everything is processor time, not wall time, so that others who use the machine meanwhile disturb little.

    maths        a replica's local steps, encoding, applying and evaluating, as a daemon does them, on one thread
    transport    calls of two sizes between two real networks (gRPC over TLS on loopback): half of it for each end
    bookkeeping  the daemons' rounds in the simulated world, whose own share is measured apart and taken off

Maths and bookkeeping are measured beside as many others as share the machine, each piece after a rest (`companions`).

What a message weighs on the wire follows from the protocols and not from the machine: `costs.Wire`.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from typing import Any, TypeVar

import numpy as np
import torch

from ..algorithms import Exchange, Slots
from ..peer.freed_memory import keep_freed_memory
from ..peer.replica import Replica
from ..peer.rounds.reducing import reducing_cost
from ..protocol.manifest import Manifest
from ..tasks import Task
from .bookkeeping import measure_bookkeeping, measure_checking
from .companions import Turns, companions, rest
from .costs import OFFERS, CostModel, Maths, rounded
from .stage_maths import measure_stages, stage_turns
from .transport import measure_transport

T = TypeVar("T")
Tell = Callable[[str], None]

_MEMORY_BYTES_PER_S = 1e10
"""Taken as given: what maths takes is told by factors on estimates that use it."""
_WARM_UPS = 3
_REPEATS = 12


def calibrate(
    task: Task, manifest: Manifest, *, n_members: int, at_once: int = 1, tell: Tell = lambda what: None
) -> CostModel:
    """Measure for a run of this task and method with so many members. Takes about half a minute.

    Args: at_once: so many of them compute on this machine at the same time.
    """
    keep_freed_memory()  # as daemons do
    with companions(at_once - 1, _turns, task, manifest, n_members):
        tell("mathematics")
        maths = measure_maths(task, manifest, n_members=n_members)
        tell("bookkeeping")
        bookkeeping = _bookkeeping(task, manifest, n_members)
    tell("transport")
    return CostModel(
        machine=f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; "
        f"{manifest.task.name} by {manifest.method.name}, {n_members} members, {at_once} at once",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        handling=measure_transport().model_copy(update=bookkeeping),
        maths=maths,
    )


def _bookkeeping(task: Task, manifest: Manifest, n_members: int) -> dict[str, Any]:
    """The part of `Handling` that is the daemons' own. Contributions that come in slices are not checked whole:
    reducing those is work by itself."""
    replica = None if manifest.pipeline.stages > 1 else Replica(task, manifest)
    exchange = Exchange.GATHER if replica is None else replica.exchange
    request_s: dict[str, float] = {}
    if replica is not None and exchange is Exchange.GATHER:
        request_s = dict.fromkeys(OFFERS, measure_checking(replica, n_members=n_members))
    return {
        "bookkeeping_s": measure_bookkeeping(manifest, exchange, n_members=n_members),
        "request_s": request_s,
    }


# --------------------------------------------------------------------------------------------------------- mathematics


def measure_maths(task: Task, manifest: Manifest, *, n_members: int) -> Maths:
    """A core's speed at the local steps, and how far the estimates of all other work are off."""
    torch.set_num_threads(1)
    if manifest.pipeline.stages > 1:
        return measure_stages(task, manifest)
    replica, taken = Replica(task, manifest), defaultdict[str, list[float]](list)
    turns = RoundsOfOne(replica, n_members)
    for index in range(max(_WARM_UPS, min(n_members, _REPEATS)) + _REPEATS):
        for name, seconds_ in turns(index).items():
            taken[name].append(seconds_)
    taken["evaluate"] = [_cpu_s(replica.evaluate)[0] for _ in range(3)]
    seconds = {name: statistics.mean(values[-_REPEATS:]) for name, values in taken.items()}
    work = replica.work_cost(n_members, 0)
    # Memory's part of the estimate is small beside the rest; where it is not, the speed stands for both.
    memory_s = work.memory_bytes / _MEMORY_BYTES_PER_S
    flops_per_s = work.flops / max(seconds["work"] - memory_s, seconds["work"] / 2)
    estimates = {
        "work": work,
        "encode": replica.encode_cost(),
        "apply": replica.apply_cost(),
        "evaluate": replica.evaluate_cost(),
        "reduce": reducing_cost(n_members * replica.vector_length * replica.unit_bytes),
    }

    def factor(name: str) -> float:
        estimated_s = CostModel().maths_s(
            estimates[name], flops_per_s=flops_per_s, memory_bytes_per_s=_MEMORY_BYTES_PER_S
        )
        return rounded(seconds[name] / estimated_s) if estimated_s else 1.0

    return Maths(
        flops_per_s=rounded(flops_per_s),
        memory_bytes_per_s=_MEMORY_BYTES_PER_S,
        factor={name: factor(name) for name in estimates if name in seconds},
    )


class RoundsOfOne:
    """What each part of a round takes a replica, round after round. What it sent in the rounds before stands for what
    others send: the same payload over and over would be in the caches."""

    def __init__(self, replica: Replica, n_members: int) -> None:
        self._replica, self._n_members = replica, n_members
        self._sent: deque[bytes] = deque(maxlen=n_members)

    def __call__(self, index: int) -> dict[str, float]:
        replica, n_members, taken = self._replica, self._n_members, dict[str, float]()
        taken["work"], work = _cpu_s(partial(replica.work, index, n_members, 0))
        taken["encode"], payload = _cpu_s(partial(replica.encode, work.floats))
        self._sent.appendleft(payload)
        payloads: list[bytes | memoryview] = list(islice(cycle(self._sent), n_members))
        if replica.exchange is Exchange.REDUCE:
            parts = [np.frombuffer(payload, np.uint8)] * n_members
            taken["reduce"], reduced = _cpu_s(partial(replica.reduce, parts, 0))
            payloads = [reduced.tobytes()]
        taken["apply"], _ = _cpu_s(partial(replica.apply, payloads, 0, Slots.everybody(n_members)))
        return taken


def _turns(task: Task, manifest: Manifest, n_members: int) -> Turns:
    """What a companion does over and over: as `measure_maths` measures it."""
    if manifest.pipeline.stages > 1:
        return stage_turns(task, manifest)
    return RoundsOfOne(Replica(task, manifest), n_members)


def _cpu_s(work: Callable[[], T]) -> tuple[float, T]:
    rest()
    begun_s = time.thread_time()
    result = work()
    return time.thread_time() - begun_s, result
