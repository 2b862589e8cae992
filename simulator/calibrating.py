"""Measures this machine: what the task's mathematics, messages and the rounds' bookkeeping take of a core.

Everything is processor time, not wall time, so that others who use the machine meanwhile disturb little.

    maths        a replica's local steps, encoding, applying and evaluating, as a daemon does them, on one thread
    transport    calls of two sizes between two real networks (gRPC over TLS on loopback): half of it for each end
    bookkeeping  the daemons' rounds in the simulated world, whose own share is measured apart and taken off

What a message weighs on the wire follows from the protocols and not from the machine: `costs.Wire`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from ..algorithms import Exchange, Slots
from ..peer.freed_memory import keep_freed_memory
from ..peer.network import NetworkConfig, RealNetwork
from ..peer.replica import Replica
from ..peer.rounds import ledger
from ..peer.rounds.reducing import reducing_cost
from ..protocol.identity import Identity, PeerId
from ..protocol.manifest import Manifest
from ..tasks import Task
from .companions import Turns, companions
from .costs import CostModel, Handling, Maths
from .playing import play
from .scenario import scenario_of
from .stage_maths import measure_stages, stage_turns
from .world import Simulation

T = TypeVar("T")
Tell = Callable[[str], None]

_MEMORY_BYTES_PER_S = 1e10
"""Taken as given: what maths takes is told by factors on estimates that use it."""
_WARM_UPS = 3
_REPEATS = 12
OFFERS = ("round/offer", "round/offer-stream")
_CACHE_BYTES = 8 << 20
"""More than a core has of its own."""
_ROUNDS = 120
_CALLS = 400
_LARGE_BYTES = 512 << 10


def calibrate(
    task: Task, manifest: Manifest, *, n_members: int, at_once: int = 1, tell: Tell = lambda what: None
) -> CostModel:
    """Measure for a run of this task and method with so many members. Takes about half a minute.

    Args: at_once: so many of them compute on this machine at the same time.
    """
    keep_freed_memory()  # as daemons do
    tell("mathematics")
    with companions(at_once - 1, _turns, task, manifest, n_members):
        maths = measure_maths(task, manifest, n_members=n_members)
        checking_s = measure_checking(task, manifest, n_members=n_members)
    tell("transport")
    transport = measure_transport()
    tell("bookkeeping")
    bookkeeping_s = measure_bookkeeping()
    return CostModel(
        machine=f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; "
        f"{manifest.task.name} by {manifest.method.name}, {n_members} members, {at_once} at once",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        handling=with_bookkeeping(transport, bookkeeping_s).model_copy(
            update={"request_s": dict.fromkeys(OFFERS, checking_s) if checking_s else {}}
        ),
        maths=maths,
    )


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
    seconds = {name: statistics.median(values[-_REPEATS:]) for name, values in taken.items()}
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
        return _rounded(seconds[name] / estimated_s) if estimated_s else 1.0

    return Maths(
        flops_per_s=_rounded(flops_per_s),
        memory_bytes_per_s=_MEMORY_BYTES_PER_S,
        factor={name: factor(name) for name in estimates if name in seconds},
    )


def measure_checking(task: Task, manifest: Manifest, *, n_members: int) -> float:
    """A core's time for a contribution that comes in whole: to hash it, to see that an honest replica can have sent it,
    and to keep it. Between two of them a core does other things, so nothing of it is in the caches; and what the ledger
    keeps lies in memory that is new, which the kernel has to clear first, and a virtual machine's host to find. 0 for
    methods whose contributions come in slices: reducing those is work by itself."""
    if manifest.pipeline.stages > 1:
        return 0.0
    replica = Replica(task, manifest)
    if replica.exchange is Exchange.REDUCE:
        return 0.0
    payload = replica.encode(replica.work(0, n_members, 0).floats)

    other_things = np.zeros(_CACHE_BYTES, np.uint8)
    most = max(1, ledger.BYTES_MAX // max(1, len(payload)))
    kept = deque[bytes](maxlen=most)

    def check() -> None:
        hashlib.sha256(payload).digest()
        replica.check(payload)
        kept.append(bytes(memoryview(payload)))

    def check_s() -> float:
        other_things.fill(1)
        return _cpu_s(check)[0]

    n_times = max(_REPEATS, min(most, n_members * _REPEATS))
    return _rounded(statistics.mean(check_s() for _ in range(n_times)))


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
    begun_s = time.thread_time()
    result = work()
    return time.thread_time() - begun_s, result


# ----------------------------------------------------------------------------------------------------------- transport


def measure_transport() -> Handling:
    """A core's time for a message at one of its ends, without what daemons do with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # hivemind's use of importlib.resources
        return asyncio.run(_two_networks())


async def _two_networks() -> Handling:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gossamer-calibrate-")))
        near = await _network(stack, folder, ())
        far = await _network(stack, folder, tuple(near.addresses()))
        far.set_gate(lambda peer: True)
        far.serve("calibrate", _length)
        far.serve_stream("calibrate-stream", _echo)
        small_s = await _call_s(near, far.peer_id, bytes(200), _CALLS)
        large_s = await _call_s(near, far.peer_id, bytes(_LARGE_BYTES), _CALLS // 8)
        stream_s = await _stream_s(near, far.peer_id, _CALLS // 2)
    return handling_from(small_s, large_s, stream_s, n_bytes=_LARGE_BYTES)


def handling_from(short_s: float, long_s: float, stream_s: float, *, n_bytes: int) -> Handling:
    """From the processor time of three kinds of calls, both ends together.

    Args:
        short_s: of a call of hardly any bytes.
        long_s: of one that brings n_bytes.
        stream_s: of a stream with one short chunk in each direction.
    """
    # A call is two messages, each handled at two ends; the answer is short. A stream opens as half of a call, and two
    # chunks and two ends follow.
    return Handling(
        message_s=_rounded(short_s / 4),
        chunk_s=_rounded(max(0.0, stream_s - short_s / 2) / 8),
        byte_s=_rounded(max(0.0, long_s - short_s) / 2 / n_bytes),
    )


def with_bookkeeping(transport: Handling, bookkeeping_s: float) -> Handling:
    """What a message costs a daemon, beside its transport."""
    chunk_s = transport.message_s if transport.chunk_s is None else transport.chunk_s
    fixed = {"message_s": transport.message_s + bookkeeping_s, "chunk_s": chunk_s + bookkeeping_s}
    return transport.model_copy(update=fixed)


async def _network(stack: AsyncExitStack, folder: Path, bootstrap: tuple[str, ...]) -> RealNetwork:
    identity = Identity.generate()
    path = folder / identity.peer_id
    identity.save(path)
    network = await RealNetwork.open(
        identity, NetworkConfig(run_id="calibrate", identity_path=path, bootstrap=bootstrap)
    )
    stack.push_async_callback(network.close)
    return network


async def _call_s(network: RealNetwork, peer: PeerId, request: bytes, n_calls: int) -> float:
    """This process's processor time for a call, in which both ends are."""
    for _ in range(n_calls // 8):
        await network.call(peer, "calibrate", request, timeout_s=20)
    begun_s = time.process_time()
    for _ in range(n_calls):
        await network.call(peer, "calibrate", request, timeout_s=20)
    return (time.process_time() - begun_s) / n_calls


async def _stream_s(network: RealNetwork, peer: PeerId, n_streams: int) -> float:
    """The same for a stream of one short chunk there and one back."""
    begun_s = time.process_time()
    for _ in range(n_streams):
        async for _chunk in network.stream(peer, "calibrate-stream", _one_chunk(), timeout_s=20):
            pass
    return (time.process_time() - begun_s) / n_streams


async def _one_chunk() -> AsyncIterator[bytes]:
    yield bytes(200)


async def _echo(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


async def _length(peer: PeerId, request: bytes) -> bytes:
    return len(request).to_bytes(8, "little")


# --------------------------------------------------------------------------------------------------------- bookkeeping


def measure_bookkeeping() -> float:
    """A core's time for a message at one of its ends that goes into agreeing on rounds: what the daemons' own code
    takes to send, check, count and sign it. Rounds of hardly any payload, in the simulated world."""
    _simulated_rounds(_ROUNDS // 8), _simulator_s()  # libraries are loaded, kernels compiled
    begun_s, sent = _simulated_rounds(_ROUNDS // 8)
    ended_s, more_sent = _simulated_rounds(_ROUNDS)
    per_message_s = (ended_s - begun_s) / (more_sent - sent)
    return _rounded(max(0.0, per_message_s - _simulator_s()) / 2)


def _simulated_rounds(n_rounds: int) -> tuple[float, int]:
    """(processor seconds, messages) of four daemons' rounds, start and end included."""
    sizes = {"n_params": 1000, "payload_bytes": 1000}
    tables = {
        "name": "bookkeeping",
        "run": {"compute": "analytic", "steps": n_rounds, "sizes": sizes, "evaluate_every": 10**6},
        "fleet": {"peers": 4},
    }
    with tempfile.TemporaryDirectory(prefix="gossamer-calibrate-") as folder:
        summary = play(scenario_of(tables), Path(folder)).summary
    return float(summary["cpu_s"]), int(summary["n_deliveries"])


def _simulator_s() -> float:
    """What the simulator itself takes for a message."""
    sim = Simulation(seed=0)
    hosts = [sim.host(name) for name in ("a", "b")]
    hosts[1].network.set_gate(lambda peer: True)
    hosts[1].network.serve("calibrate", _length)

    async def main() -> None:
        for _ in range(_CALLS * 4):
            await hosts[0].network.call(hosts[1].peer_id, "calibrate", bytes(200), timeout_s=20)

    begun_s = time.process_time()
    sim.run(main())
    return (time.process_time() - begun_s) / sim.n_deliveries


def _rounded(figure: float) -> float:
    """To four digits: there is no truth in more."""
    return float(f"{figure:.4g}")
