"""A swarm of the real daemons in the simulated world, and the properties that every run of it must have."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gossamer.algorithms import method_class
from gossamer.peer.daemon import Daemon, Result
from gossamer.peer.event_kinds import RoundEnded
from gossamer.peer.events import read_events
from gossamer.peer.folder import PeerFolder
from gossamer.protocol.identity import Identity
from gossamer.protocol.manifest import SignedManifest, compose, manifest_of, parse
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation
from gossamer.tasks import Task, build_task

T = TypeVar("T")


def identity(seed: int, number: int) -> Identity:
    return Identity(hashlib.sha256(f"scenario {seed} {number}".encode()).digest())


def signed_manifest(
    task: Task, owner: Identity, task_options: Mapping[str, Any] | None = None, /, **tables: dict[str, Any]
) -> SignedManifest:
    """A manifest for `task`, made with these options, with some tables changed."""
    method = tables.get("method", {}).get("name", "demo")
    defaults: dict[str, dict[str, Any]] = {
        "run": {"name": "scenario", "seed": 1, "steps": 12, "created": "now"},
        "task": {"name": task.name, "fingerprint": task.fingerprint(), "options": dict(task_options or {})},
        "method": {"name": method, "options": {}},
        "schedule": {"lr": method_class(method).default_lr},
        "data": {"batch_size": 8},
        "group": {"start_peers": 4},
        "admission": {"policy": "open"},
    }
    for name, table in tables.items():
        defaults.setdefault(name, {}).update(table)
    return parse(compose(manifest_of(defaults), owner))


@dataclass
class SimulatedSwarm:
    """Daemons on simulated hosts; host 0 holds the owner's key."""

    sim: Simulation
    root: Path
    manifest: SignedManifest
    task: Task
    seed: int = 0
    stop_at: int | None = None
    make_daemon: Callable[..., Daemon] | None = None
    """In place of `Daemon`."""
    hosts: list[Host] = field(default_factory=list)
    daemons: list[Daemon] = field(default_factory=list)
    lives: list[asyncio.Task[Result]] = field(default_factory=list)
    everyone: list[Daemon] = field(default_factory=list)
    """Every daemon of every life."""

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run the scenario on virtual time; files of the dead are closed afterwards, as a kernel would."""
        try:
            return self.sim.run(main)
        finally:
            for daemon in self.everyone:
                daemon.log.close()

    def start(self, n_peers: int, **host_options: Any) -> None:
        """Start so many more."""
        for number in range(len(self.hosts), len(self.hosts) + n_peers):
            self.hosts.append(self.sim.host(f"p{number}", identity=identity(self.seed, number), **host_options))
            self._launch(number)

    def _launch(self, number: int) -> None:
        life = self.hosts[number].spawn(self._live(number))
        self.lives[number : number + 1] = [life]

    async def _live(self, number: int) -> Result:
        who = identity(self.seed, number)
        make = self.make_daemon or Daemon
        daemon = make(
            network=self.hosts[number].network,
            identity=who,
            manifest=self.manifest,
            task=self.task,
            folder=PeerFolder(self.root / str(number)),
            owner=who if number == 0 else None,
            stop_at=self.stop_at,
        )
        self.daemons[number : number + 1] = [daemon]
        self.everyone.append(daemon)
        return await daemon.run()

    def restart(self, number: int) -> None:
        self.hosts[number].restart()
        self._launch(number)

    async def reach(self, step: int, *, timeout_s: float = 600.0) -> None:
        """Wait until some daemon has applied so many updates."""
        async with asyncio.timeout(timeout_s):
            while max((daemon.replica.step for daemon in self.daemons), default=0) < step:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.05)  # of virtual time

    async def finish(self, living: Sequence[int], *, timeout_s: float = 3000.0) -> list[Result]:
        async with asyncio.timeout(timeout_s):
            return [await self.lives[number] for number in living]

    def rounds(self, number: int) -> list[RoundEnded]:
        path = self.root / str(number) / "events.jsonl"
        return [
            entry.event
            for entry in read_events(path)
            if isinstance(entry.event, RoundEnded) and entry.event.outcome != "unknown"
        ]

    def check_one_result(self) -> None:
        """Whoever applied a round applied the same contributions and came to the same state."""
        seen: dict[int, tuple[tuple[str, ...], str]] = {}
        for number in range(len(self.daemons)):
            for event in self.rounds(number):
                told = (event.contributors, event.digest)
                assert seen.setdefault(event.round, told) == told, f"round {event.round} differs on peer {number}"


def digits(root: Path, *, sim: Simulation, seed: int = 0, stop_at: int | None = None, **tables: Any) -> SimulatedSwarm:
    """A swarm that trains the digits task."""
    task = build_task("digits", {})
    manifest = signed_manifest(task, identity(seed, 0), **tables)
    return SimulatedSwarm(sim=sim, root=root, manifest=manifest, task=task, seed=seed, stop_at=stop_at)
