"""A peer's daemon: finds its place in a run, takes part until the run ends or it is asked to leave, and says so.

It knows the world through `Network` and its folder only, so that the simulator runs it unchanged.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..protocol import rounds_pb2 as pb
from ..protocol.admission import Admission
from ..protocol.devices import stream_run_id
from ..protocol.errors import GossamerError, InvalidManifest, NetworkClosed
from ..protocol.identity import Identity, PeerId
from ..protocol.manifest import SignedManifest
from ..protocol.network import Cost, Network, Server
from ..tasks import Task
from .event_kinds import Ended, Left, Resynced, Started, short_id
from .events import EventLog
from .folder import PeerFolder, standing_of
from .gateway.gateway import Gateway
from .gateway.options import GatewayOptions
from .gateway.replica import GatewayReplica
from .joining import (
    GENESIS_KEY,
    GENESIS_TTL_S,
    best_lineage,
    find_genesis,
    resume_from_log,
    resync,
    standing_of_genesis,
)
from .membership import Announcement, InviteDesk, Membership
from .replica import Replica
from .rounds.group import Group
from .rounds.outcome import Ending
from .rounds.place import Rules
from .rounds.roster import Member, Roster
from .rounds.service import GroupService
from .rounds.snapshots import Standing
from .trainer import Trainer, peak_memory_bytes

SEEK_EVERY_S = 0.3
OWNER_PATIENCE_S = 5.0
"""An owner that finds no living group waits so long before it starts the run anew."""
STATUS_EVERY_S = 1.0
AHEAD_ROUNDS = 3
"""A peer that announces a round so much later than ours knows something that we missed."""


@dataclass(frozen=True, kw_only=True)
class Devices:
    """What makes a peer a gateway."""

    front: Server
    """What devices see."""
    identity: Identity
    """Whose name they know."""
    options: GatewayOptions


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a daemon's life ended."""

    outcome: Literal["finished", "stopped"]
    step: int
    round_index: int
    digest: bytes
    samples: int


class Daemon:
    """One peer of one run.

    Args:
        owner: the run's owner's key, on the machine that has it.
        stop_at: updates after which the run stops, if sooner than the manifest says.
        devices: makes this peer a gateway.
    Raises: InvalidManifest if the installed task is not the one that the manifest pins, or options do not fit.
    """

    def __init__(
        self,
        *,
        network: Network,
        identity: Identity,
        manifest: SignedManifest,
        task: Task,
        folder: PeerFolder,
        owner: Identity | None = None,
        stop_at: int | None = None,
        rules: Rules | None = None,
        devices: Devices | None = None,
    ) -> None:
        self._libraries_bytes = peak_memory_bytes()
        check_task(manifest, task)
        self.network, self.identity, self.signed, self.folder = network, identity, manifest, folder
        self.manifest = manifest.manifest
        self._kind: type[Replica] = Replica if devices is None else GatewayReplica
        self.replica = build_replica(manifest, task, self._kind)
        self.stop_at = min(stop_at or self.manifest.run.steps, self.manifest.run.steps)
        self.rules = rules or rules_of(manifest, self.replica)
        self.member = Member(identity.peer_id, folder.next_incarnation())
        self.group: Group | None = None
        loop = asyncio.get_running_loop()
        self.log = EventLog(folder.events, peer=identity.peer_id, clock=loop.time, unix=network.unix_time_s)
        self.trainer = Trainer(network, self.replica, folder, self.log.emit)
        self.trainer.standing = self._standing
        self.gateway = self.trainer.gateway = self._open_gateway(devices) if devices is not None else None
        self._owner = owner
        self._leaving = asyncio.Event()
        self._checkpoint: Standing | None = None
        self._genesis: Standing | None = None
        self._published: Standing | None = None
        self._since_s = loop.time()
        GroupService(network, lambda: self.group)
        network.serve("round/status", self._status)
        if owner is not None:
            InviteDesk(network, owner, manifest.run_id, folder.invites)
        self.membership = Membership(
            network,
            admission=Admission(self.manifest.admission.policy, manifest.owner, manifest.run_id),
            ticket=folder.ticket(),
            say=self._say,
            on_view=self._on_view,
            warn=self.trainer.warned,
        )
        self.trainer.greet = self.membership.greet_anew

    def leave(self) -> None:
        """Take leave of the group, keep a checkpoint, and end."""
        self._leaving.set()
        if self.group is not None:
            self.group.leave()

    def describe(self) -> str:
        """What this peer is waiting for, for whoever asks with SIGUSR1."""
        if self.group is None:
            return f"waiting for a place in the run; sees {sorted(self.membership.view)}"
        round_ = self.group.round
        return round_.describe() if round_ is not None else f"between rounds, next is {self.group.index}"

    async def give_up(self) -> None:
        """Leaving took too long: keep a checkpoint of what was agreed, and go."""
        if self.group is not None:
            await self.trainer.checkpoint()

    def result(self, outcome: Literal["finished", "stopped"]) -> Result:
        """Where this peer stands."""
        return Result(
            outcome=outcome,
            step=self.replica.step,
            round_index=self._round_index,
            digest=self.replica.digest(),
            samples=self.replica.samples,
        )

    async def run(self, address: str = "") -> Result:
        """Take part. Returns when the run ended or this peer has left."""
        self._tell_started(address)
        background = [asyncio.create_task(self.membership.run()), asyncio.create_task(self._keep_status(address))]
        work = asyncio.create_task(self._live())
        try:
            await asyncio.wait([work, *background], return_when=asyncio.FIRST_COMPLETED)  # noqa: TID251 - a list
            for chore in background:
                if chore.done():
                    chore.result()
            return await work
        except GossamerError as error:
            self.log.emit(Ended(outcome="failed", step=self.replica.step, round=self._round_index, message=str(error)))
            raise
        finally:
            for job in (work, *background):
                job.cancel()
            await asyncio.gather(work, *background, return_exceptions=True)
            if self.gateway is not None:
                await self.gateway.close()
            self.log.close()

    # -- a life ----------------------------------------------------------------------------------

    async def _live(self) -> Result:
        self._take_up()
        standing = await self._first_standing()
        while standing is not None:
            ending = await self._take_part(standing)
            if ending in (Ending.STOPPED, Ending.LEFT):
                return await self._end(ending)
            self.trainer.warned(f"out of step with the group ({ending.value}): resynchronising")
            self.member = Member(self.identity.peer_id, self.folder.next_incarnation())
            self.group, self._checkpoint = None, None
            standing = await self._join()
        return await self._end(Ending.LEFT)

    async def _take_part(self, standing: Standing) -> Ending:
        group = self.group = Group(
            identity=self.identity,
            network=self.network,
            replica=self.replica,
            rules=self.rules,
            member=self.member,
            standing=standing,
            delegate=self.trainer,
            stop_at=self.stop_at,
            peers_max=self.manifest.group.peers_max,
        )
        group.leaving = self._leaving.is_set()
        group.shelf.add(standing, await self.network.compute(self.replica.snapshot, self.replica.apply_cost()))
        self._genesis = self._published = None
        self.membership.eager = False
        self.membership.hurry()
        try:
            return await group.run()
        finally:
            self.membership.eager = True

    async def _end(self, ending: Ending) -> Result:
        group, replica = self.group, self.replica
        finished = replica.step >= self.stop_at
        if group is not None and finished and self._speaks_last(group):
            await self.trainer.evaluate(sample=True)
        if group is not None:
            await self.trainer.checkpoint(stopped=ending is Ending.STOPPED)
        if self.gateway is not None and finished:
            await self.gateway.finish()
        if ending is Ending.LEFT:
            self.log.emit(Left(reason="asked to leave"))
        digest = await self.network.compute(replica.digest, replica.apply_cost())
        self.trainer.tell_traffic()
        self.trainer.tell_memory(libraries=self._libraries_bytes, state=replica.snapshot_bytes())
        outcome: Literal["finished", "stopped"] = "finished" if finished else "stopped"
        self.log.emit(Ended(outcome=outcome, step=replica.step, round=self._round_index, digest=digest.hex()))
        return self.result(outcome)

    def _speaks_last(self, group: Group) -> bool:
        """One peer evaluates the final model for all: the first on the roster."""
        return group.roster.peers[0] == self.network.peer_id

    # -- finding a place -------------------------------------------------------------------------

    def _open_gateway(self, devices: Devices) -> Gateway:
        assert isinstance(self.replica, GatewayReplica)
        return Gateway(
            network=self.network,
            front=devices.front,
            identity=devices.identity,
            manifest=self.signed,
            replica=self.replica,
            folder=self.folder.path / "gateway",
            options=devices.options,
            refused=self.trainer.refused,
            warned=self.trainer.warned,
        )

    def _take_up(self) -> None:
        """Go on from what is on disk."""
        self._load_checkpoint()
        if self.gateway is not None:
            self._checkpoint = self.gateway.recover(self._checkpoint)

    def _load_checkpoint(self) -> None:
        loaded = self.folder.newest_checkpoint()
        if loaded is None:
            return
        for path, reason in loaded.rejected:
            self.trainer.warned(f"checkpoint {path.name} is not used: {reason}")
        checkpoint = loaded.checkpoint
        standing = standing_of(checkpoint)
        try:
            self.replica.load(dict(checkpoint.model), dict(checkpoint.shared), dict(checkpoint.local))
        except ValueError as error:
            raise InvalidManifest(str(error)) from None
        if self.replica.digest() != standing.digest:
            self.trainer.warned("the checkpoint's state is not the one that its round agreed on: not used")
            self.replica = self.trainer.replica = build_replica(self.signed, self.replica.task, self._kind)
            if self.gateway is not None and isinstance(self.replica, GatewayReplica):
                self.gateway.replica = self.replica
            return
        self._checkpoint = standing

    async def _first_standing(self) -> Standing | None:
        """Resume where a committed stop left off, start with a genesis, or join; None if asked to leave before."""
        if self._checkpoint is not None and self.member in self._checkpoint.roster.members:
            return self._checkpoint
        return await self._join()

    async def _join(self) -> Standing | None:
        """Keep trying until there is a place for this peer."""
        self._since_s = asyncio.get_running_loop().time()
        while not self._leaving.is_set():
            standing = await self._try_genesis() or await self._try_group()
            if standing is not None:
                return standing
            if self._owner is not None:
                await self._found()
            await self._pause()
        return None

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(SEEK_EVERY_S):
                await self._leaving.wait()
        except TimeoutError:
            return

    async def _try_genesis(self) -> Standing | None:
        """Start with the roster that the owner signed, if this peer is on it and has the state to start from."""
        standing = self._published or await find_genesis(self.network, self.signed.owner, self.signed.run_id)
        self._genesis = standing
        if standing is None or self.member not in standing.roster.members:
            return None
        if await self.network.compute(self.replica.digest, self.replica.apply_cost()) == standing.digest:
            return standing
        return None  # `_try_group` downloads it

    async def _try_group(self) -> Standing | None:
        """Take over the state of a living group, by replaying what we missed or by downloading it."""
        view = self.membership.view
        if best_lineage(view.values()) is None:
            return None
        started_s = asyncio.get_running_loop().time()
        mine = self._checkpoint
        if mine is not None and mine.lineage == best_lineage(view.values()):
            donors = [peer for peer, claim in sorted(view.items()) if claim.active]
            if await resume_from_log(self.network, mine, donors):
                self.replica.method.forget_local()  # an earlier life may have sent part of it
                self._tell_resynced(mine.index, mine.index, 0, (), started_s, "own checkpoint, then replay")
                return mine
        got = await resync(self.network, self.replica, view, self._genesis)
        if got is None:
            return None
        if self.gateway is not None:
            self.gateway.resynced()
        from_round = mine.index if mine is not None else 0
        self._tell_resynced(from_round, got.standing.index, got.bytes, got.donors, started_s, got.how)
        return got.standing

    async def _found(self) -> None:
        """The owner signs the first roster once enough peers are here and nobody is training."""
        view = self.membership.view
        here = [claim for claim in view.values() if not claim.active]
        waited_s = asyncio.get_running_loop().time() - self._since_s
        anew = self._checkpoint is not None or self.member.incarnation > 1
        if self._published is not None:
            return
        if len(here) + 1 < self.manifest.group.start_peers or len(here) < len(view):
            return
        if anew and waited_s < OWNER_PATIENCE_S:
            return
        digest = await self.network.compute(self.replica.digest, self.replica.apply_cost())
        best = max([(claim.samples, claim.round_index, claim.digest) for claim in here], default=(0, 0, b""))
        index = self._checkpoint.index if self._checkpoint is not None else 0
        if best[0] > self.replica.samples:
            index, digest = best[1], best[2]
        members = [claim.member for claim in here]
        genesis = pb.Genesis(
            run_id=self.signed.run_id,
            epoch=self.member.incarnation,
            round=index,
            digest=digest,
            roster=Roster.of([self.member, *members]).to_wire(),
        )
        data = genesis.SerializeToString(deterministic=True)
        self._published = standing_of_genesis(data, self.signed.run_id)
        await self.network.publish(GENESIS_KEY, data, ttl_s=GENESIS_TTL_S)

    # -- what others hear ------------------------------------------------------------------------

    def _standing(self) -> Standing:
        if self.group is None:
            raise RuntimeError("no standing before the first round")
        return self.group.standing

    @property
    def _round_index(self) -> int:
        if self.group is not None:
            return self.group.index
        return self._checkpoint.index if self._checkpoint is not None else 0

    def _say(self) -> pb.Status:
        group, replica = self.group, self.replica
        digest = group.digest if group is not None else self._checkpoint.digest if self._checkpoint else b""
        return pb.Status(
            member=self.member.to_wire(),
            lineage=group.lineage if group is not None else b"",
            round=self._round_index,
            step=replica.step,
            samples=replica.samples,
            digest=digest,
            active=group is not None,
        )

    async def _status(self, peer: PeerId, request: bytes) -> bytes:
        status = self._say()
        if self.group is not None:
            status.roster.CopyFrom(self.group.roster.to_wire())
        return status.SerializeToString()

    def _on_view(self, view: Mapping[PeerId, Announcement]) -> None:
        """Split runs meet: the lineage with fewer samples goes over to the other."""
        group = self.group
        if group is None or group.round is None:
            return
        for peer, claim in sorted(view.items()):
            if claim.active and claim.lineage == group.lineage and claim.round_index > group.index + AHEAD_ROUNDS:
                group.catch_up.nudge(peer)
                return
        others = [claim for claim in view.values() if claim.active and claim.lineage != group.lineage]
        rivals = [claim for claim in others if (-claim.samples, claim.lineage) < (-self.replica.samples, group.lineage)]
        if rivals:
            group.spawn(self._meet(group, rivals[0]))

    async def _meet(self, group: Group, rival: Announcement) -> None:
        """Make sure that a rival lineage is alive before going over to it."""
        try:
            answer = await self.network.call(rival.member.peer, "round/status", b"", timeout_s=5.0)
            status = pb.Status.FromString(answer)
        except NetworkClosed:
            raise
        except GossamerError:
            return
        ours = (-self.replica.samples, group.lineage)
        if status.active and status.lineage != group.lineage and (-status.samples, status.lineage) < ours:
            group.end(Ending.SUPERSEDED)

    # -- telling ---------------------------------------------------------------------------------

    def _tell_started(self, address: str) -> None:
        self.log.emit(
            Started(
                run_id=self.signed.run_id,
                task=self.manifest.task.name,
                method=self.manifest.method.name,
                n_params=self.replica.n_params,
                incarnation=self.member.incarnation,
                address=address,
            )
        )

    def _tell_resynced(
        self, from_round: int, to_round: int, n_bytes: int, donors: tuple[PeerId, ...], started_s: float, how: str
    ) -> None:
        seconds = asyncio.get_running_loop().time() - started_s
        names = tuple(short_id(donor) for donor in donors)
        self.log.emit(
            Resynced(from_round=from_round, to_round=to_round, bytes=n_bytes, donors=names, seconds=seconds, how=how)
        )

    async def _keep_status(self, address: str) -> None:
        """For `gossamer status`: what this daemon is doing, in a file."""
        while True:
            await self.network.compute(lambda: self.folder.write_status(self.status(address)), Cost())
            await asyncio.sleep(STATUS_EVERY_S)

    def status(self, address: str) -> dict[str, Any]:
        group = self.group
        return {
            "run_id": self.signed.run_id,
            "pid": os.getpid(),
            "peer": self.identity.peer_id,
            "incarnation": self.member.incarnation,
            "address": address,
            "active": group is not None,
            "round": self._round_index,
            "step": self.replica.step,
            "roster": list(group.roster.peers) if group is not None else [],
            "sent_bytes": sum(self.network.traffic.sent.values()),
            "received_bytes": sum(self.network.traffic.received.values()),
        }


def build_replica(manifest: SignedManifest, task: Task, kind: type[Replica] = Replica) -> Replica:
    """Raises InvalidManifest for a method or options that do not exist."""
    try:
        replica = kind(task, manifest.manifest)
    except ValueError as error:
        raise InvalidManifest(f"[method] of the manifest: {error}") from None
    replica.method.begin(stream_run_id(manifest.run_id))
    return replica


def check_task(manifest: SignedManifest, task: Task) -> None:
    """Raises InvalidManifest if this machine's task or data is not the one that the manifest pins."""
    pinned, ours = manifest.manifest.task.fingerprint, task.fingerprint()
    if pinned != ours:
        raise InvalidManifest(
            f"task {manifest.manifest.task.name!r} is pinned to {pinned[:12]}, this machine's is {ours[:12]}: "
            "install the version of the task and the data that the run's owner uses"
        )


def rules_of(manifest: SignedManifest, replica: Replica) -> Rules:
    """The rules of the group's rounds."""
    chosen = manifest.manifest.group
    return Rules(
        payload_bytes_max=min(manifest.manifest.limits.max_payload_bytes, replica.method.payload_bytes_max()),
        quorum_fraction=chosen.quorum_fraction,
        strict=chosen.strict,
        fork=None if chosen.on_split == "auto" else chosen.on_split == "fork",
    )
