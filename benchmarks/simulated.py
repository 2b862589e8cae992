"""Trains a run with the daemons' own code in the simulated world: processes' arithmetic without the processes."""

from __future__ import annotations

import gc
import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gossamer.algorithms import method_class
from gossamer.peer.commands.order import Order, manifest_for
from gossamer.peer.daemon import Daemon, Result
from gossamer.peer.event_kinds import Evaluated, RoundEnded
from gossamer.peer.events import Entry, read_events
from gossamer.peer.folder import PeerFolder
from gossamer.protocol.identity import Identity
from gossamer.protocol.manifest import compose, parse
from gossamer.simulator.world import Simulation


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What became of a simulated run."""

    losses: tuple[tuple[int, float], ...]
    """(step, loss) on held-out samples."""
    accuracy: float | None
    rounds: int
    n_params: int
    payload_bytes: float
    """Mean of one contribution."""
    sent_bytes: float
    """All that a peer sent, protocol included; the mean over peers."""
    virtual_s: float
    wall_s: float

    @property
    def loss(self) -> float:
        """The last; infinite if it was not finite."""
        return self.losses[-1][1] if self.losses else float("inf")


def train(order: Order, *, n_peers: int) -> Trained:
    """Run `order` with `n_peers` daemons, each of whose contributions counts in every round."""
    begun_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trained = _train(order, n_peers, Path(folder), begun_s)
    gc.collect()  # a swarm is full of cycles, and Python does not know how much its tensors weigh
    return trained


def _train(order: Order, n_peers: int, root: Path, begun_s: float) -> Trained:
    owner = _identity(order.seed, 0)
    manifest, task = manifest_for(order, created="benchmark", start_peers=n_peers, policy="open")
    signed = parse(compose(manifest, owner))
    sim = Simulation(seed=order.seed, up_bytes_per_s=1e9, down_bytes_per_s=1e9)
    daemons: list[Daemon] = []

    async def live(number: int) -> Result:
        who = _identity(order.seed, number)
        daemon = Daemon(
            network=hosts[number].network,
            identity=who,
            manifest=signed,
            task=task,
            folder=PeerFolder(root / str(number)),
            owner=who if number == 0 else None,
        )
        daemons.append(daemon)
        return await daemon.run()

    hosts = [sim.host(f"p{number}", identity=_identity(order.seed, number)) for number in range(n_peers)]

    async def main() -> list[Result]:
        lives = [host.spawn(live(number)) for number, host in enumerate(hosts)]
        return [await life for life in lives]

    results = sim.run(main())
    assert len({result.digest for result in results}) == 1, "the replicas differ"
    entries = [read_events(root / str(number) / "events.jsonl") for number in range(n_peers)]
    rounds = [e.event for e in entries[0] if isinstance(e.event, RoundEnded) and e.event.outcome == "committed"]
    evaluations = {e.event.step: e.event for log in entries for e in log if isinstance(e.event, Evaluated)}
    finite = [(step, event.loss) for step, event in sorted(evaluations.items()) if event.loss is not None]
    last = evaluations[max(evaluations)]
    return Trained(
        losses=tuple(finite) if last.loss is not None else (),
        accuracy=last.accuracy,
        rounds=len(rounds),
        n_params=daemons[0].replica.n_params,
        payload_bytes=sum(event.payload_bytes for event in rounds) / max(1, len(rounds)),
        sent_bytes=sum(sum(host.network.traffic.sent.values()) for host in hosts) / n_peers,
        virtual_s=_last_s(entries),
        wall_s=time.perf_counter() - begun_s,
    )


def default_lr(method: str) -> float:
    """The peak learning rate that a method suggests."""
    return method_class(method).default_lr


def _last_s(entries: list[list[Entry]]) -> float:
    return max(log[-1].t_s for log in entries)


def _identity(seed: int, number: int) -> Identity:
    return Identity(hashlib.sha256(f"benchmark {seed} {number}".encode()).digest())
