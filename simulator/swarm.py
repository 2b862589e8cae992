"""A swarm of the real daemons on a fleet's machines, which come and go as the fleet has it."""

from __future__ import annotations

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
from .fleets import Fleet, Machine
from .folders import SimulatedFolder
from .holds import Holds
from .host import Host
from .likeness import check_alike, likeness_of
from .lives import End, Note, Remains
from .scenario import Scenario
from .seat import Seat, identity_of
from .struck import Struck
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
            self.task, self.manifest = training_of(scenario, fleet, owner=identity_of(sim.seed, 0, 0))
        else:
            self.task, self.manifest = self._like.task(), self._like.manifest
            check_alike(self._like, fleet)
        self.remains = Remains()
        self.ends: list[End] = []
        self.struck: list[Struck] = []
        """Faults so far."""
        self._unburied: list[Daemon] = []
        hosts = [self._host(number, machine) for number, machine in enumerate(fleet.machines)]
        self._fronts: list[Host] = []
        """What devices see of each gateway: a port of its machine, with a line like its machine's."""
        self.crowd = self._crowd(phones) if phones is not None else None
        self.seats = [
            Seat(number, machine, hosts[number], self._front(number), sim, root, live=self._live, tell=self.note)
            for number, machine in enumerate(fleet.machines)
        ]
        """One for each machine."""
        self.holds = Holds(sim, self.seats)

    # ------------------------------------------------------------------------------------------------- life and death

    async def _live(self, seat: Seat) -> None:
        host, front, daemon, result, error = seat.host, seat.front, None, None, ""
        network = front.restart() if front is not None else None
        try:
            daemon = seat.daemon = self._daemon(seat)
            self._unburied.append(daemon)
            result = await daemon.run()
        except GossamerError as failure:
            error = f"{failure.code}: {failure}"
        finally:
            if front is not None and front.network is network:
                front.kill()  # it goes with its machine
            if daemon is not None:
                self._bury(daemon)
            if seat.daemon is daemon and (result is None or result.outcome != "finished"):
                seat.daemon = None
        self.note("end", host, error or f"{result.outcome if result else ''} at step {result.step if result else 0}")
        seat.has_ended()
        model = daemon.replica if daemon is not None else None
        stage = model.stage if isinstance(model, StageModel) else WHOLE
        self.ends.append(End(peer=host.name, result=result, error=error, stage=stage))
        await host.network.close()

    def _daemon(self, seat: Seat) -> Daemon:
        folder, owner = SimulatedFolder(seat.folder), seat.host.identity
        if self._like is not None:
            folder.keep_ticket(self._like.tickets[seat.number])
            owner = self._like.owner
        kind: type[Daemon] = Daemon
        limits: dict[str, Any] = {}
        if self.manifest.manifest.pipeline.stages > 1:
            kind, limits = StageDaemon, {"memory_max": int(seat.machine.memory_bytes)}
            limits["stage"] = NO_STAGE if self._only_trains(seat.number) else WHOLE
        return kind(
            network=seat.host.network,
            identity=seat.host.identity,
            manifest=self.manifest,
            task=self.task,
            folder=folder,
            owner=owner if seat.number == 0 else None,
            devices=self._devices(seat.front) if seat.front is not None else None,
            **limits,
        )

    def _only_trains(self, number: int) -> bool:
        if self._like is not None:
            return number in self._like.only_train
        return number >= len(self.fleet.machines) - self.scenario.pipeline.only_train

    def _bury(self, daemon: Daemon) -> None:
        """Keep what is told of it, and close its files as a kernel would."""
        self._unburied.remove(daemon)
        self.remains.take(daemon)
        daemon.log.close()

    def end(self) -> None:
        """Nobody is switched on any more."""
        for seat in self.seats:
            seat.is_over = True
        if self.crowd is not None:
            self.crowd.is_over = True

    def bury_all(self) -> None:
        """When all is over, whatever stopped it."""
        for daemon in [*self._unburied]:
            self._bury(daemon)

    # --------------------------------------------------------------------------------------------------- who is there

    def up(self, region: str | None = None) -> list[int]:
        """Machines that are on now, by number."""
        return [seat.number for seat in self.seats if seat.is_on and region in (None, seat.machine.region)]

    def running(self) -> list[Daemon]:
        """The daemons of processes that run now."""
        return [seat.daemon for seat in self.seats if seat.is_on and seat.daemon is not None]

    def finished(self) -> list[Daemon]:
        """The daemons whose last life ended with the run finished."""
        peers = {end.peer for end in self.ends if end.result is not None and end.result.outcome == "finished"}
        return [seat.daemon for seat in self.seats if seat.host.name in peers and seat.daemon is not None]

    def can_spare(self, n: int) -> bool:
        """Whether a majority of the committed roster would still be alive and sound if so many more were not.

        An incarnation that has died never votes again, so a roster that loses its majority before it could drop the
        dead pauses for good: that is how rounds are defined, and no fault of theirs. Nor do they say what becomes of a
        majority that needs somebody who garbles what it sends.
        """
        sound = [seat.daemon for seat in self.seats if seat.is_on and seat.host.tamper is None]
        alive = [daemon for daemon in sound if daemon is not None]
        members = [daemon.member for daemon in alive]
        for daemon in alive:
            if daemon.group is not None:
                roster = daemon.group.roster.members
                n_alive = sum(member in members for member in roster)
                if n_alive - n < len(roster) // 2 + 1:
                    return False
        return len(alive) > n

    @property
    def step(self) -> int:
        """Most updates that anybody has applied."""
        steps = [seat.daemon.replica.step for seat in self.seats if seat.daemon is not None]
        return max([self.remains.step, *steps])

    def note(self, what: str, host: Host | None, text: str = "") -> None:
        """Tell what happened, and to whom if to anybody."""
        self.tell(Note(t_s=self.sim.now_s, what=what, peer=host.name if host is not None else "", text=text))

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

    def _front(self, number: int) -> Host | None:
        return self._fronts[number] if number < len(self._fronts) else None

    def _devices(self, front: Host) -> Devices:
        return Devices(front=front.network, identity=front.identity, options=gateway_options(self.scenario.devices))

    def open_books(self) -> None:
        """Enter the devices at their gateways, before anything begins."""
        if self.crowd is not None:
            self.crowd.enter_books([seat.folder / "gateway" for seat in self.seats if seat.front is not None])

    def clear(self) -> None:
        """Forget the peers' folders of an earlier run."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.root.parent / "devices", ignore_errors=True)

    # ---------------------------------------------------------------------------------------------------------- making

    def _identity(self, number: int) -> Identity:
        return identity_of(self.sim.seed, number, 0) if self._like is None else self._like.identities[number]

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
