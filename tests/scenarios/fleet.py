"""A gateway and its devices in the simulated world: the daemons' own code on virtual time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from gossamer.algorithms.forward import BaffleOptions, Part, Replay
from gossamer.algorithms.forward.exchange import decode
from gossamer.algorithms.forward.fixedpoint import VotePart, VoteReplay, VotingOptions
from gossamer.algorithms.forward.mixed import Mixed, MixedOptions, RosterPart
from gossamer.edge.daemon import Device
from gossamer.edge.data import DeviceData
from gossamer.edge.engines import Engines
from gossamer.edge.enrolment import enrol
from gossamer.edge.folder import DeviceFolder
from gossamer.edge.rules import Rules
from gossamer.edge.sensors import Reading
from gossamer.peer.daemon import Daemon, Devices, Result
from gossamer.peer.event_kinds import PeerRefused
from gossamer.peer.events import read_events
from gossamer.peer.folder import PeerFolder
from gossamer.peer.gateway.attendance import Hall
from gossamer.peer.gateway.book import Book, issue_token
from gossamer.peer.gateway.integers import calibrated_options, input_range, pixels
from gossamer.peer.gateway.journal import Journal
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.protocol.devices import ATTEND, Submission, read_submission_body
from gossamer.protocol.edge_pb2 import Downlink, Hello, JournalEntry, Signed, Uplink
from gossamer.protocol.enrolment import Token
from gossamer.protocol.identity import PeerId, peer_id_of
from gossamer.protocol.manifest import SignedManifest
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation
from gossamer.tasks.digits import Digits

from .swarm import identity, signed_manifest

T = TypeVar("T")
NEVER_S = 1e12


def digits_manifest(
    *, steps: int = 6, start_peers: int = 1, lr: float = 1e-2, checkpoint_every: int = 4, **options: Any
) -> SignedManifest:
    task = Digits(options={})
    method = {"name": "baffle", "options": {"K": 8, **options}}
    schedule = {"lr": lr, "kind": "cosine"}
    limits = {"checkpoint_every_steps": checkpoint_every, "eval_every_steps": 1000}
    run = {"name": "edge", "seed": 1, "steps": steps, "created": "now"}
    tables: dict[str, dict[str, Any]] = {
        "method": method,
        "schedule": schedule,
        "limits": limits,
        "group": {"start_peers": start_peers},
        "run": run,
    }
    return signed_manifest(task, identity(0, 0), **tables)


def federated_manifest(*, steps: int = 6, start_peers: int = 1, hidden: int = 32, **options: Any) -> SignedManifest:
    tables: dict[str, dict[str, Any]] = {
        "method": {"name": "federated", "options": {"K": 8, **options}},
        "schedule": {"lr": 0.05 if options.get("rule") in ("fedadam", "fedyogi") else 1.0},
        "limits": {"checkpoint_every_steps": 4, "eval_every_steps": 1000},
        "group": {"start_peers": start_peers},
        "run": {"name": "edge", "seed": 1, "steps": steps, "created": "now"},
    }
    options_of_task = {"hidden": hidden} if hidden != 32 else {}
    return signed_manifest(Digits(options=options_of_task), identity(0, 0), options_of_task, **tables)


def fixed_point_manifest(*, steps: int = 6, **options: Any) -> SignedManifest:
    task = Digits(options={})
    chosen = VotingOptions(n_devices=4, **options)
    constants = calibrated_options(task, task.build_model(1), chosen, n_rounds=steps)
    tables: dict[str, dict[str, Any]] = {
        "method": {"name": "fixedpoint", "options": {"n_devices": 4, **options, **constants}},
        "limits": {"checkpoint_every_steps": 4, "eval_every_steps": 1000},
        "group": {"start_peers": 1},
        "run": {"name": "edge", "seed": 1, "steps": steps, "created": "now"},
    }
    return signed_manifest(task, identity(0, 0), **tables)


@dataclass
class Fleet:
    """One gateway, which is a peer and the run's owner, and its devices, each with a share of the digits."""

    root: Path
    sim: Simulation
    manifest: SignedManifest = field(default_factory=digits_manifest)
    options: GatewayOptions = field(default_factory=GatewayOptions)
    rules: Rules = field(default_factory=Rules)
    liars: frozenset[int] = frozenset()
    """Devices that do not measure on the samples that they were dealt."""
    engines: dict[int, Engines] = field(default_factory=dict)
    """Where it is not numpy."""
    readings: dict[int, Reading] = field(default_factory=dict)
    """What a device's sensors say, where it is not the default."""
    by_number: dict[int, Device] = field(default_factory=dict)
    """The last life of each device."""
    hosts: list[Host] = field(default_factory=list)
    lives: list[asyncio.Task[None]] = field(default_factory=list)
    daemons: list[Daemon] = field(default_factory=list)
    """One a life of the gateway."""

    def __post_init__(self) -> None:
        self.task = Digits(options=self.manifest.manifest.task.options)
        self.owner = identity(0, 0)
        self.gateway = identity(7, 0)
        """Whom devices know."""
        self.peer_host = self.sim.host("gateway", identity=self.owner)
        self.front_host = self.sim.host("front", identity=self.gateway)
        self.folder = PeerFolder(self.root / "gateway")
        self.work: asyncio.Task[Result]

    def run(self, main: Coroutine[Any, Any, T], *, timeout_s: float = 3600) -> T:
        try:
            return self.sim.run(main, timeout_s=timeout_s)
        finally:
            for daemon in self.daemons:
                daemon.log.close()
                if daemon.gateway is not None:
                    daemon.gateway.abandon()

    # -- the gateway -----------------------------------------------------------------------------

    def accuracy(self) -> float:
        """Of the gateway's model on all samples, of which devices train on four in five.

        The held-out ones alone are so few that their accuracy scatters by a point from run to run.
        """
        replica, task = self.daemon.replica, self.task
        samples = [(part.inputs, part.labels) for part in (task.train, task.held_out)]
        with torch.no_grad():
            right = [task.judge(replica.model(inputs), labels).accuracy or 0.0 for inputs, labels in samples]
        sizes = [len(labels) for _, labels in samples]
        return float(np.average(right, weights=sizes))

    def start_gateway(self) -> None:
        self.work = self.peer_host.spawn(self._serve())

    async def _serve(self) -> Result:
        daemon = Daemon(
            network=self.peer_host.network,
            identity=self.owner,
            manifest=self.manifest,
            task=self.task,
            folder=self.folder,
            owner=self.owner,
            devices=Devices(front=self.front_host.network, identity=self.gateway, options=self.options),
        )
        self.daemons.append(daemon)
        return await daemon.run()

    def start_peer(self) -> asyncio.Task[Result]:
        """A member of the group that backpropagates."""
        host = self.sim.host("peer", identity=identity(0, 1))

        async def live() -> Result:
            daemon = Daemon(
                network=host.network,
                identity=host.identity,
                manifest=self.manifest,
                task=self.task,
                folder=PeerFolder(self.root / "peer"),
            )
            self.daemons.insert(0, daemon)
            return await daemon.run()

        return host.spawn(live())

    def kill_gateway(self) -> None:
        self.front_host.kill()
        self.peer_host.kill()

    def restart_gateway(self) -> None:
        self.front_host.restart()
        self.peer_host.restart()
        self.start_gateway()

    async def outlive_a_kill(self) -> None:
        """The gateway is killed, comes back a second later, and the run goes on to its end."""
        self.kill_gateway()
        await asyncio.sleep(1.0)
        self.restart_gateway()
        await self.end()

    async def end(self) -> None:
        """Until the lives of the gateway and of all devices are over."""
        await self.work
        await asyncio.gather(*self.lives)

    @property
    def daemon(self) -> Daemon:
        return self.daemons[-1]

    # -- devices ---------------------------------------------------------------------------------

    def token(self, number: int) -> Token:
        secret = hashlib.sha256(f"token {number}".encode()).digest()
        token = Token(
            run_id=self.manifest.run_id, gateway=self.gateway.peer_id, certificate_hash=bytes(32), secret=secret
        )
        issue_token(self.folder.path / "gateway", token, expires_at_s=NEVER_S)
        return token

    def start_devices(self, n: int, **host_options: Any) -> None:
        for number in range(len(self.hosts), len(self.hosts) + n):
            self.hosts.append(self.sim.host(f"d{number}", identity=identity(5, number), **host_options))
            self.token(number)
            self.launch(number)

    def launch(self, number: int) -> None:
        life = self.hosts[number].spawn(self._live(number))
        self.lives[number : number + 1] = [life]

    def restart_device(self, number: int) -> None:
        self.hosts[number].restart()
        self.launch(number)

    async def _live(self, number: int) -> None:
        host = self.hosts[number]
        token = self.token(number) if not (self.root / str(number)).exists() else None
        folder = DeviceFolder(self.root / str(number))
        while token is not None:
            try:
                await enrol(host.network, token)
                token = None
            except Exception:  # noqa: BLE001 - the gateway is not up yet
                await asyncio.sleep(0.2)
        device = Device(
            client=host.network,
            identity=host.identity,
            gateway=self.gateway.peer_id,
            run_id=self.manifest.run_id,
            folder=folder,
            data=self.data(number + 1 if number in self.liars else number),
            rules=self.rules,
            sensors=self._sensors(number),
            entropy=host.random,
            engines=self.engines.get(number),
            secret=lambda: host.random.randbytes(32),
        )
        self.by_number[number] = device
        await device.run()

    @property
    def devices(self) -> list[Device]:
        return [self.by_number[number] for number in sorted(self.by_number)]

    def data(self, number: int) -> DeviceData:
        labels = self.task.train.labels.numpy()
        in_bytes = self.manifest.manifest.method.name == "fixedpoint"
        inputs = pixels(self.task.train, *input_range(self.task)) if in_bytes else self.task.train.inputs.numpy()
        return DeviceData(inputs=inputs[number % 10 :: 10], labels=labels[number % 10 :: 10])

    def show_samples(self, number: int) -> None:
        """Give the gateway what a device has, so that it can audit it."""
        home = self.folder.path / "gateway" / "audit"
        home.mkdir(parents=True, exist_ok=True)
        data = self.data(number)
        np.savez(home / f"{identity(5, number).peer_id}.npz", inputs=data.inputs, labels=data.labels)

    def _sensors(self, number: int) -> Callable[[], Reading]:
        return lambda: self.readings.get(number, Reading(on_mains=True, interface="eth0"))

    def status(self, number: int) -> dict[str, Any]:
        return dict(json.loads((self.root / str(number) / "status.json").read_text()))

    def weights(self) -> list[str]:
        """Digests of the weights that the devices ended with."""
        return [str(device.status()["weights"]) for device in self.devices]

    async def reach(self, step: int) -> None:
        """Wait until the gateway has applied so many updates."""
        while not self.daemons or self.daemon.replica.step < step:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.02)

    # -- what to look at -------------------------------------------------------------------------

    def final_weights(self) -> str:
        """Digest of the weights that the gateway ended with."""
        return str(self.final()["weights"])

    def final(self) -> dict[str, Any]:
        """The gateway's last words."""
        return dict(json.loads((self.folder.path / "gateway" / "final.json").read_text()))

    def hall(self) -> Hall:
        assert self.daemon.gateway is not None
        return self.daemon.gateway.collector.hall

    def book(self) -> Book:
        assert self.daemon.gateway is not None
        return self.daemon.gateway.book

    def entries(self) -> list[JournalEntry]:
        journal = Journal(self.folder.path / "gateway" / "journal")
        journal.close()
        return list(journal.entries())

    def accepted(self) -> list[tuple[PeerId, Submission]]:
        """Every submission that was written down, and whose it was."""
        found = []
        for entry in self.entries():
            if entry.HasField("accepted"):
                device = peer_id_of(entry.accepted.device)
                found.append((device, read_submission_body(entry.accepted.body, device)))
        return found

    def updates(self) -> list[list[tuple[int, int]]]:
        """The (round, slot) of the contributions in each update of the model."""
        found = []
        for entry in self.entries():
            if entry.HasField("applied"):
                parts = [part for payload in entry.applied.step.payloads for part in self._parts(payload)]
                found.append([(part.round_index, slot) for part in parts for slot in part.slots])
        return found

    def _parts(self, payload: bytes) -> tuple[Part | VotePart | RosterPart, ...]:
        if self.manifest.manifest.method.name == "fixedpoint":
            return VoteReplay.from_bytes(payload, n_votes=3).parts
        if self.manifest.manifest.method.name == "federated":
            n = self.daemons[0].replica.n_params
            mixed = Mixed.from_bytes(payload, MixedOptions(K=8), n)
            forward = mixed.replay.parts if mixed.replay is not None else ()
            return (*forward, *(mixed.changes.parts if mixed.changes is not None else ()))
        replay = decode(payload, BaffleOptions(K=8), 2410)
        return replay.parts if isinstance(replay, Replay) else ()

    def check_exactly_once(self) -> None:
        """What devices were told counts is in exactly one update, but for what the last came too early for."""
        counted = [name for names in self.updates() for name in names]
        assert len(counted) == len({*counted})
        accepted = [(submission.round_index, submission.slot) for _, submission in self.accepted()]
        assert len(accepted) == len({*accepted})
        assert {*counted} <= {*accepted}
        kinds = [entry.WhichOneof("kind") for entry in self.entries()]
        before = [0, *(place for place, kind in enumerate(kinds) if kind == "applied")][-2]
        assert {*accepted[: kinds[:before].count("accepted")]} <= {*counted}

    async def offer(self, host: Host, signed: Signed) -> int:
        """Attend as `host`, send one submission, and return the verdict."""

        async def words() -> AsyncIterator[bytes]:
            yield Uplink(hello=Hello()).SerializeToString()
            yield Uplink(submission=signed).SerializeToString()
            await asyncio.sleep(60.0)

        answer = host.network.stream(self.gateway.peer_id, ATTEND, words(), timeout_s=30)
        try:
            async for chunk in answer:
                word = Downlink.FromString(chunk)
                if word.HasField("receipt"):
                    return int(word.receipt.verdict)
        finally:
            await answer.aclose()  # type: ignore[attr-defined]  # it is a generator
        raise AssertionError("no verdict")

    def unknown_token(self) -> Token:
        """A token that the gateway never issued."""
        return Token(
            run_id=self.manifest.run_id,
            gateway=self.gateway.peer_id,
            certificate_hash=bytes(32),
            secret=b"unknown".ljust(32),
        )


def was_not_kept(fleet: Fleet) -> bool:
    """Whether the gateway has said of an answer that it could not write it down."""
    events = [entry.event for entry in read_events(fleet.folder.events)]
    return any(isinstance(event, PeerRefused) and "was not kept" in event.reason for event in events)
