"""A swarm of the real daemons on a fleet's machines, which come and go as the fleet has it."""

from __future__ import annotations

import asyncio
import hashlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..peer.daemon import Daemon, Devices
from ..peer.pipeline.daemon import StageDaemon
from ..peer.pipeline.model import StageModel
from ..peer.rounds.roster import NO_STAGE, WHOLE
from ..protocol.errors import GossamerError
from ..protocol.identity import Identity
from .devices import Crowd, gateway_identity, gateway_options
from .faults import Fault
from .fleets import Fleet, Machine
from .folders import SimulatedFolder
from .host import Host
from .likeness import check_alike, likeness_of
from .lives import End, Note
from .scenario import Scenario
from .training import training_of
from .world import Simulation


class Swarm:
    """Daemons on simulated hosts. Machine 0 holds the run's owner's key."""

    def __init__(
        self,
        scenario: Scenario,
        fleet: Fleet,
        sim: Simulation,
        root: Path,
        *,
        phones: Fleet | None = None,
        tell: Callable[[Note], None],
    ) -> None:
        """Args: root: for the peers' folders. phones: the devices' machines.

        Raises: GossamerError if what is to be trained does not exist or fit.
        """
        self.scenario, self.fleet, self.sim, self.root = scenario, fleet, sim, root
        self.tell = tell
        self._like = likeness_of(scenario.run.like) if scenario.run.like is not None else None
        if self._like is None:
            self.task, self.manifest = training_of(scenario, fleet, owner=_identity(sim.seed, 0, 0))
        else:
            self.task, self.manifest = self._like.task(), self._like.manifest
            check_alike(self._like, fleet)
        self.hosts: list[Host] = []
        self.daemons: list[Daemon | None] = [None] * len(fleet.machines)
        self.everyone: list[Daemon] = []
        """Of every life."""
        self.ends: list[End] = []
        self.struck: list[Fault] = []
        """Faults as they were done so far."""
        self.is_over = False
        """Nobody is switched on any more."""
        self._folders = [root / str(number) for number in range(len(fleet.machines))]
        for number, machine in enumerate(fleet.machines):
            self.hosts.append(self._host(number, machine))
        self._fronts: list[Host] = []
        """What devices see of each gateway: a port of its machine, with a line like its machine's."""
        self.crowd = self._crowd(phones) if phones is not None else None

    # ------------------------------------------------------------------------------------------------- life and death

    async def follow_sessions(self, number: int) -> None:
        """Switch a machine on and off as its fleet has it."""
        loop, host = asyncio.get_running_loop(), self.hosts[number]
        for session in self.fleet.machines[number].sessions:
            await asyncio.sleep(max(0.0, session.start_s - loop.time()))
            if self.is_over:
                return
            self.switch_on(number)
            if math.isinf(session.end_s):
                return
            await asyncio.sleep(session.end_s - loop.time())
            self.note("off", host, "its session is over")
            host.kill()

    def switch_on(self, number: int, *, new_machine: bool = False) -> None:
        """Start a daemon, unless one runs there.

        Args: new_machine: in the place of the old one, with a key and a folder of its own. Not for the owner's.
        """
        host = self.hosts[number]
        if self.is_over or (self._runs(number) and not new_machine):
            return
        if new_machine and number != 0:
            host.restart(identity=_identity(self.sim.seed, number, host.incarnation + 1))
            self._folders[number] = self.root / f"{number}.{host.incarnation}"
        elif self.daemons[number] is not None or host.network.closed:
            host.restart()
        self.note("on", host, f"incarnation {host.incarnation}")
        host.spawn(self._live(number))

    def _runs(self, number: int) -> bool:
        daemon = self.daemons[number]
        return daemon is not None and daemon.network is self.hosts[number].network and self.hosts[number].alive

    async def _live(self, number: int) -> None:
        host, daemon, result, error = self.hosts[number], None, None, ""
        front = self._fronts[number] if number < len(self._fronts) else None
        if front is not None:
            front.restart()
        try:
            folder = SimulatedFolder(self._folders[number])
            owner = host.identity
            if self._like is not None:
                folder.keep_ticket(self._like.tickets[number])
                owner = self._like.owner
            kind: type[Daemon] = Daemon
            limits: dict[str, Any] = {}
            if self.manifest.manifest.pipeline.stages > 1:
                kind, limits = StageDaemon, {"memory_max": int(self.fleet.machines[number].memory_bytes)}
                limits["stage"] = NO_STAGE if self._only_trains(number) else WHOLE
            daemon = kind(
                network=host.network,
                identity=host.identity,
                manifest=self.manifest,
                task=self.task,
                folder=folder,
                owner=owner if number == 0 else None,
                devices=self._devices(front) if front is not None else None,
                **limits,
            )
            self.daemons[number] = daemon
            self.everyone.append(daemon)
            result = await daemon.run()
        except GossamerError as failure:
            error = f"{failure.code}: {failure}"
        finally:
            if front is not None:
                front.kill()  # it goes with its machine
        self.note("end", host, error or f"{result.outcome if result else ''} at step {result.step if result else 0}")
        model = daemon.replica if daemon is not None else None
        stage = model.stage if isinstance(model, StageModel) else WHOLE
        self.ends.append(End(peer=host.name, result=result, error=error, stage=stage))
        await host.network.close()

    def _only_trains(self, number: int) -> bool:
        if self._like is not None:
            return number in self._like.only_train
        return number >= len(self.fleet.machines) - self.scenario.pipeline.only_train

    def up(self, region: str | None = None) -> list[int]:
        """Machines whose daemons run now, by number."""
        return [
            number
            for number, machine in enumerate(self.fleet.machines)
            if self._runs(number) and (region is None or machine.region == region)
        ]

    def running(self) -> list[Daemon]:
        """The daemons of processes that run now."""
        return [daemon for number in self.up() if (daemon := self.daemons[number]) is not None]

    def finished(self) -> list[Daemon]:
        """The daemons whose last life ended with the run finished."""
        peers = {end.peer for end in self.ends if end.result is not None and end.result.outcome == "finished"}
        last = zip(self.hosts, self.daemons, strict=True)
        return [daemon for host, daemon in last if host.name in peers and daemon is not None]

    def can_spare_one(self) -> bool:
        """Whether a majority of the committed roster would still be alive and sound if one more were not.

        An incarnation that has died never votes again, so a roster that loses its majority before it could drop the
        dead pauses for good: that is how rounds are defined, and no fault of theirs. Nor do they say what becomes of a
        majority that needs somebody who garbles what it sends.
        """
        alive = [
            daemon for number in self.up() if self.hosts[number].tamper is None and (daemon := self.daemons[number])
        ]
        members = [daemon.member for daemon in alive]
        for daemon in alive:
            if daemon.group is not None:
                roster = daemon.group.roster.members
                n_alive = sum(member in members for member in roster)
                if n_alive - 1 < len(roster) // 2 + 1:
                    return False
        return len(alive) > 1

    def folder(self, number: int) -> Path:
        return self._folders[number]

    @property
    def step(self) -> int:
        """Most updates that anybody has applied."""
        return max((daemon.replica.step for daemon in self.daemons if daemon is not None), default=0)

    def note(self, what: str, host: Host | None, text: str = "") -> None:
        """Tell what happened, and to whom if to anybody."""
        self.tell(Note(t_s=self.sim.now_s, what=what, peer=host.name if host is not None else "", text=text))

    def close_logs(self) -> None:
        """Close the files of the dead, as a kernel would."""
        for daemon in self.everyone:
            daemon.log.close()

    def _crowd(self, phones: Fleet) -> Crowd:
        seed, n_gateways = self.sim.seed, self.scenario.devices.gateways
        for number, machine in enumerate(self.fleet.machines[:n_gateways]):
            self._fronts.append(self._host(number, machine, name=f"g{number}", identity=gateway_identity(seed, number)))
        return Crowd(
            self.scenario.devices,
            phones,
            self.sim,
            self.root.parent / "devices",
            task=self.task,
            run_id=self.manifest.run_id,
            gateways=[front.identity for front in self._fronts],
        )

    def _devices(self, front: Host) -> Devices:
        return Devices(front=front.network, identity=front.identity, options=gateway_options(self.scenario.devices))

    def open_books(self) -> None:
        """Enter the devices at their gateways, before anything begins."""
        if self.crowd is not None:
            self.crowd.enter_books([self._folders[number] / "gateway" for number in range(len(self._fronts))])

    def clear(self) -> None:
        """Forget the peers' folders of an earlier run."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.root.parent / "devices", ignore_errors=True)

    # ---------------------------------------------------------------------------------------------------------- making

    def _identity(self, number: int) -> Identity:
        return _identity(self.sim.seed, number, 0) if self._like is None else self._like.identities[number]

    def _host(self, number: int, machine: Machine, *, name: str = "", identity: Identity | None = None) -> Host:
        return self.sim.host(
            name or f"p{number}",
            identity=identity or self._identity(number),
            flops_per_s=machine.flops_per_s,
            memory_bytes_per_s=machine.memory_bytes_per_s,
            up_bytes_per_s=machine.up_bytes_per_s,
            down_bytes_per_s=machine.down_bytes_per_s,
            nat=machine.nat,
            relay=machine.is_relay,
        )


def _identity(seed: int, number: int, life: int) -> Identity:
    return Identity(hashlib.sha256(f"scenario {seed} {number} {life}".encode()).digest())
