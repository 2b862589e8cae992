"""Devices of a scenario: the daemons of `edge/` on a fleet's machines, at the gateways of a swarm."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..edge.daemon import Device
from ..edge.data import DeviceData
from ..edge.folder import DeviceFolder
from ..edge.rules import Rules
from ..edge.sensors import Reading
from ..peer.gateway.book import Book
from ..peer.gateway.options import GatewayOptions
from ..protocol.errors import GossamerError, UsageError
from ..protocol.identity import Identity
from ..tasks import Task
from ..tasks.classification import Classification, Labelled
from .energy import energy_of
from .fleets import Fleet, Machine
from .host import Host
from .tables import DeviceCrowd
from .world import Simulation

RULES = Rules(allow_metered=True)
"""Their owners have agreed to mobile data; when they are on, they are on mains."""


@dataclass
class Tally:
    """What one device has done, in all its lives."""

    counts: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0
    received_bytes: int = 0
    on_s: float = 0.0
    lives: int = 0
    weights: str = ""
    """Digest of those that it ended the run with; empty if it was not there."""


class Crowd:
    """All devices of one run. They come enrolled: their keys are in the gateways' books."""

    def __init__(
        self,
        crowd: DeviceCrowd,
        fleet: Fleet,
        sim: Simulation,
        root: Path,
        *,
        task: Task,
        run_id: str,
        gateways: list[Identity],
    ) -> None:
        """Args: root: for the devices' folders. Raises UsageError for a task that has no samples for devices."""
        if not isinstance(task, Classification):
            raise UsageError(f"task {task.name!r} is not for devices: they classify samples")
        self.crowd, self.fleet, self.sim, self.root = crowd, fleet, sim, root
        self.tallies = [Tally() for _ in fleet.machines]
        self.is_over = False
        self._run_id, self._gateways = run_id, [identity.peer_id for identity in gateways]
        self._shares = list(_dealt(task.train, crowd, len(fleet.machines), sim.seed))
        self.hosts = [self._host(number, machine) for number, machine in enumerate(fleet.machines)]

    def enter_books(self, folders: list[Path]) -> None:
        """Args: folders: of the gateways' books, in order."""
        for place, folder in enumerate(folders):
            mine = [host.peer_id for number, host in enumerate(self.hosts) if self._place(number) == place]
            book = Book(folder, run_id=self._run_id, gateway=self._gateways[place])
            # Tokens that were redeemed before the story begins; their names are nobody's.
            book.enter({Identity(hashlib.sha256(b"token" + one.encode()).digest()).peer_id: one for one in mine})

    async def follow_sessions(self, number: int) -> None:
        """Switch a device on and off as its fleet has it."""
        loop, host = asyncio.get_running_loop(), self.hosts[number]
        host.kill()
        for session in self.fleet.machines[number].sessions:
            await asyncio.sleep(max(0.0, session.start_s - loop.time()))
            if self.is_over or self.tallies[number].weights:
                return
            host.restart()
            life = host.spawn(self._live(number))
            if session.end_s < float("inf"):
                await asyncio.sleep(session.end_s - loop.time())
                host.kill()
            else:
                await asyncio.gather(life, return_exceptions=True)

    async def _live(self, number: int) -> None:
        host, tally, loop = self.hosts[number], self.tallies[number], asyncio.get_running_loop()
        network, began_s = host.network, loop.time()
        device = Device(
            client=network,
            identity=host.identity,
            gateway=self._gateways[self._place(number)],
            run_id=self._run_id,
            folder=DeviceFolder(self.root / str(number)),
            data=self._shares[number],
            rules=RULES,
            sensors=lambda: Reading(on_mains=True, interface="wwan0"),
            entropy=host.random,
            secret=lambda: host.random.randbytes(32),
        )
        try:
            await device.run()
            tally.weights = str(device.status()["weights"])
        except GossamerError as error:
            tally.counts[error.code] += 1
        finally:
            tally.lives += 1
            tally.on_s += loop.time() - began_s
            tally.counts.update(device.counts)
            tally.sent_bytes += sum(network.traffic.sent.values())
            tally.received_bytes += sum(network.traffic.received.values())

    def _place(self, number: int) -> int:
        return number % len(self._gateways)

    def _host(self, number: int, machine: Machine) -> Host:
        return self.sim.host(
            f"d{number}",
            identity=Identity(hashlib.sha256(f"device {self.sim.seed} {number}".encode()).digest()),
            flops_per_s=machine.flops_per_s,
            memory_bytes_per_s=machine.memory_bytes_per_s,
            up_bytes_per_s=machine.up_bytes_per_s,
            down_bytes_per_s=machine.down_bytes_per_s,
            nat=machine.nat,
        )

    # ---------------------------------------------------------------------------------------------------------- telling

    def figures(self) -> dict[str, Any]:
        """What it took and came to; means over the devices that were ever on."""
        seen = [number for number, tally in enumerate(self.tallies) if tally.lives]
        if not seen:
            return {"n_devices": len(self.tallies), "n_devices_seen": 0}
        tallies = [self.tallies[number] for number in seen]
        totals = sum((tally.counts for tally in tallies), Counter[str]())
        counted = max(1, totals["rounds_counted"])
        energies = [self._energy(number) for number in seen]
        return {
            "n_devices": len(self.tallies),
            "n_devices_seen": len(seen),
            "n_devices_that_counted": sum(tally.counts["rounds_counted"] > 0 for tally in tallies),
            "n_gateways": len(self._gateways),
            "device_rounds_counted": totals["rounds_counted"],
            "rounds_late": totals["rounds_late"],
            "rounds_abandoned": totals["rounds_abandoned"],
            "snapshots_fetched": totals["resyncs"],
            "device_on_share": round(statistics.fmean(t.on_s for t in tallies) / max(1e-9, self.sim.now_s), 4),
            "uplink_bytes_per_device": round(statistics.fmean(tally.sent_bytes for tally in tallies)),
            "downlink_bytes_per_device": round(statistics.fmean(tally.received_bytes for tally in tallies)),
            "uplink_bytes_per_device_per_round": round(sum(tally.sent_bytes for tally in tallies) / counted),
            "downlink_bytes_per_device_per_round": round(sum(tally.received_bytes for tally in tallies) / counted),
            "energy_j_per_device": {
                name: round(statistics.fmean(one[name] for one in energies), 3) for name in energies[0]
            },
            "model_hashes": sorted({tally.weights for tally in tallies if tally.weights}),
        }

    def _energy(self, number: int) -> dict[str, float]:
        tally = self.tallies[number]
        # A burst for each connection, each round and each heartbeat: they are farther apart than a radio's tail.
        bursts = tally.lives + tally.counts["rounds_counted"] + tally.on_s / self.crowd.heartbeat_s
        energy = energy_of(
            busy_s=self.hosts[number].busy_s,
            up_bytes=tally.sent_bytes,
            down_bytes=tally.received_bytes,
            bursts=bursts,
        )
        return {**asdict(energy), "total_j": energy.total_j}


def _dealt(train: Labelled, crowd: DeviceCrowd, n_devices: int, seed: int) -> Iterator[DeviceData]:
    """Each device's own samples: drawn from the task's, with classes mixed as a Dirichlet distribution has it."""
    rng = np.random.default_rng(seed)
    inputs, labels = train.inputs.numpy(), train.labels.numpy()
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    n = min(crowd.samples, len(labels))
    for _ in range(n_devices):
        if crowd.alpha is None:
            chosen = rng.choice(len(labels), n, replace=False)
        else:
            mixture = rng.choice(len(by_class), n, p=rng.dirichlet(np.full(len(by_class), crowd.alpha)))
            chosen = np.array([rng.choice(by_class[label]) for label in mixture])
        yield DeviceData(inputs=inputs[chosen], labels=labels[chosen])


def gateway_identity(seed: int, number: int) -> Identity:
    """By which devices know the gateway on machine `number`."""
    return Identity(hashlib.sha256(f"gateway {seed} {number}".encode()).digest())


def gateway_options(crowd: DeviceCrowd) -> GatewayOptions:
    """As the scenario has it."""
    return GatewayOptions(
        devices_min=crowd.at_least,
        devices_per_round=crowd.per_round,
        backups=crowd.backups,
        staleness_max=crowd.staleness,
        round_every_s=crowd.round_every_s,
        heartbeat_s=crowd.heartbeat_s,
        patience_initial_s=crowd.patience_s,
    )
