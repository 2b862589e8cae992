"""Measures what daemons do with messages besides maths and transport: agree on rounds, and take in contributions.

In a daemon such work comes in small pieces, each when a message has come, on a core on which others have computed in
the meantime: caches and branch predictors know nothing of it, and it takes two to three times as long as it does over
and over (docs/design/0007-truth.md). So we sleep for a moment before each piece, and whoever shares the machine
computes.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections import deque
from pathlib import Path

from ..algorithms import Exchange
from ..peer.replica import Replica
from ..peer.rounds import ledger
from ..protocol import rounds_pb2 as pb
from ..protocol.identity import PeerId, forget_signatures
from ..protocol.manifest import Manifest
from ..protocol.network import MAX_MESSAGE_BYTES
from ..protocol.wire import parse
from .companions import rest
from .costs import rounded
from .messages import Message
from .playing import play
from .scenario import scenario_of
from .trace import Trace
from .world import Simulation

_FIRST_ROUNDS = 4
_MESSAGES = 2000
_MEMBERS_MAX = 8
"""More daemons than that say the same again."""
_CHECKS = 100
_AWAKE_S = 0.001
"""Whatever comes to a daemon so soon after another message, such as the rest of a stream, finds it awake."""


def measure_bookkeeping(manifest: Manifest, exchange: Exchange, *, n_members: int) -> float:
    """A core's time for a message at one of its ends: what the daemons' own code takes to send, check, count and sign
    it. Rounds of hardly any payload, in the simulated world, less what the simulator and the work of its peers take."""
    _simulated_rounds(manifest, exchange, n_members, 1), _simulator_s()  # libraries are loaded, kernels compiled
    first_s, n_first = _simulated_rounds(manifest, exchange, n_members, _FIRST_ROUNDS)
    n_rounds = _FIRST_ROUNDS + max(2, _MESSAGES * _FIRST_ROUNDS // n_first)
    all_s, n_all = _simulated_rounds(manifest, exchange, n_members, n_rounds)
    return rounded(max(0.0, (all_s - first_s) / (n_all - n_first) - _simulator_s()) / 2)


def measure_checking(replica: Replica, *, n_members: int) -> float:
    """A core's time for a contribution that comes in whole, see `Contributions`."""
    contributions = Contributions(replica, n_members)

    def taken_s() -> float:
        rest()
        begun_s = time.thread_time()
        contributions.take(contributions.message)
        return time.thread_time() - begun_s

    return rounded(statistics.mean(taken_s() for _ in range(_CHECKS)))


class Contributions:
    """What a daemon does with contributions that come in whole: it reads and hashes each, sees that an honest replica
    can have sent it, and keeps it in memory that is new."""

    def __init__(self, replica: Replica, n_members: int) -> None:
        payload = replica.encode(replica.work(0, n_members, 0).floats)
        self.message = pb.Offer(payload=payload).SerializeToString()
        """One of them."""
        self._replica = replica
        self._kept = deque[bytes](maxlen=max(1, ledger.BYTES_MAX // len(payload)))

    def take(self, message: bytes) -> None:
        """Raises: InvalidMessage, ValueError."""
        payload = parse(pb.Offer, message, bytes_max=MAX_MESSAGE_BYTES, what="an offer").payload
        hashlib.sha256(payload).digest()
        self._replica.check(payload)
        self._kept.append(payload)


class _Rested(Trace):
    """Of peers that live in processes of their own: nothing is left in the caches from one wake to the next, and nobody
    knows of a signature because somebody else has seen it."""

    def __init__(self) -> None:
        super().__init__()
        self._awake = "", 0.0

    def record(self, time_s: float, source: str, target: str, method: str, message: Message) -> None:
        super().record(time_s, source, target, method, message)
        forget_signatures()
        woken, last_s = self._awake
        if target != woken or time_s > last_s + _AWAKE_S:
            rest()
        self._awake = target, time_s


def _simulated_rounds(manifest: Manifest, exchange: Exchange, n_members: int, n_rounds: int) -> tuple[float, int]:
    """(processor seconds, messages) of daemons' rounds, start and end included."""
    cut, n_peers = manifest.pipeline, max(2, manifest.pipeline.stages, min(n_members, _MEMBERS_MAX))
    sizes = {"n_params": 1000, "payload_bytes": 1000, "n_layers": cut.stages, "exchange": exchange.value}
    run = {"compute": "analytic", "steps": n_rounds, "batch": 1, "sizes": sizes, "evaluate_every": 10**6}
    stages = {"stages": cut.stages, "microbatches": cut.microbatches, "schedule": cut.schedule}
    tables = {"name": "bookkeeping", "run": run, "pipeline": stages, "fleet": {"peers": n_peers}}
    with tempfile.TemporaryDirectory(prefix="gossamer-calibrate-") as folder:
        summary = play(scenario_of(tables), Path(folder), trace=_Rested()).summary
    return float(summary["cpu_s"]) - float(summary["maths_cpu_s"]), int(summary["n_deliveries"])


def _simulator_s() -> float:
    """What the simulator itself takes for a message."""
    sim = Simulation(seed=0, trace=_Rested())
    hosts = [sim.host(name) for name in ("a", "b")]
    hosts[1].network.set_gate(lambda peer: True)
    hosts[1].network.serve("calibrate", _take)

    async def main() -> None:
        for _ in range(_MESSAGES // 4):
            await hosts[0].network.call(hosts[1].peer_id, "calibrate", bytes(200), timeout_s=20)

    begun_s = time.process_time()
    sim.run(main())
    return (time.process_time() - begun_s) / sim.n_deliveries


async def _take(peer: PeerId, request: bytes) -> bytes:
    return b""
