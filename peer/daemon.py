"""A peer's daemon: finds its place in a run, takes part until the run ends or it is asked to leave, and says so.

It knows the world through `Network` and its folder only, so that the simulator runs it unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from ..protocol.admission import Admission
from ..protocol.errors import GossamerError, StateError, UsageError
from ..protocol.identity import Identity
from ..protocol.manifest import SignedManifest
from ..protocol.network import Network, Server
from ..tasks import Task
from .event_kinds import Ended, Left, Started
from .events import EventLog
from .folder import PeerFolder
from .gateway.auditing import check_auditable
from .gateway.gateway import Gateway
from .gateway.options import GatewayOptions
from .gateway.replica import GatewayReplica
from .membership import InviteDesk, Membership
from .peak_memory import peak_memory_bytes
from .replica import Replica
from .rivals import Rivals
from .rounds.group import Group
from .rounds.outcome import Ending
from .rounds.place import Rules
from .rounds.roster import Member
from .rounds.service import GroupService
from .rounds.snapshots import Standing
from .seeking import Seeker
from .terms import build_replica, check_task, rules_of
from .trainer import Trainer
from .whereabouts import Whereabouts

LEAVE_GRACE_S = 4.0
"""From being asked to leave to going without the group's consent."""


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
        seed_for_s: how long to hold the final state for latecomers once the run has ended.
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
        seed_for_s: float = 0.0,
    ) -> None:
        self._libraries_bytes = peak_memory_bytes()
        check_task(manifest, task)
        self.network, self.identity, self.signed, self.folder = network, identity, manifest, folder
        self.manifest = manifest.manifest
        self.replica = self._build_replica(task, Replica if devices is None else GatewayReplica)
        if devices is not None and devices.options.audit_rate:
            check_auditable(self.replica.method)
        self.stop_at = min(stop_at or self.manifest.run.steps, self.manifest.run.steps)
        self.rules = rules or self._rules()
        if devices is not None:
            self.rules = devices.options.rules_for(self.rules)
        self.member = self._next_life()
        self.group: Group | None = None
        loop = asyncio.get_running_loop()
        self.log = EventLog(folder.events, peer=identity.peer_id, clock=loop.time, unix=network.unix_time_s)
        self.trainer = self._build_trainer()
        self.whereabouts = self._build_whereabouts()
        self.trainer.standing = self.whereabouts.standing
        self.gateway = self.trainer.gateway = self._open_gateway(devices) if devices is not None else None
        self._leaving = asyncio.Event()
        self._seed_for_s = seed_for_s
        self.service = GroupService(network, lambda: self.group)
        network.serve("round/status", self.whereabouts.answer)
        if owner is not None:
            InviteDesk(network, owner, manifest.run_id, folder.invites, warn=self.trainer.warned)
        self.membership = Membership(
            network,
            admission=Admission(self.manifest.admission.policy, manifest.owner, manifest.run_id),
            ticket=folder.ticket(),
            say=self.whereabouts.say,
            on_view=Rivals(network, lambda: self.group, lambda: self.replica.samples).look,
            warn=self.trainer.warned,
        )
        self.seeker = self._seeker_type()(
            network=network,
            manifest=manifest,
            folder=folder,
            replica=self.replica,
            membership=self.membership,
            founds=owner is not None,
            leaving=self._leaving,
            emit=self.log.emit,
        )
        self.trainer.greet = self.membership.greet_anew

    # -- what a daemon is made of; a pipeline's has others ---------------------------------------

    def _build_replica(self, task: Task, kind: type[Replica]) -> Replica:
        replica = build_replica(self.signed, task, kind)
        if kind is Replica and not replica.method.takes_gradients:
            raise UsageError(f"only gateways' devices can contribute to {self.manifest.method.name}: add --gateway")
        return replica

    def _rules(self) -> Rules:
        return rules_of(self.signed, self.replica)

    def _build_trainer(self) -> Trainer:
        return Trainer(self.network, self.replica, self.folder, self.log.emit)

    def _seeker_type(self) -> type[Seeker]:
        return Seeker

    def _build_whereabouts(self) -> Whereabouts:
        return Whereabouts(
            network=self.network,
            replica=self.replica,
            folder=self.folder,
            run_id=self.signed.run_id,
            member=lambda: self.member,
            group=lambda: self.group,
            kept=lambda: self.seeker.checkpoint,
            more=self._more_status,
        )

    def _more_status(self) -> dict[str, Any]:
        """What `gossamer status` shows of this kind of daemon."""
        return {"privacy": self.gateway.privacy if self.gateway is not None else None}

    def _next_life(self) -> Member:
        return Member(self.identity.peer_id, self.folder.next_incarnation(self.network.unix_time_s()))

    def _chores(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the rounds for as long as the daemon does."""
        return []

    def _open_group(self, standing: Standing) -> Group:
        return Group(**self._group_options(standing))

    def _group_options(self, standing: Standing) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "network": self.network,
            "replica": self.replica,
            "rules": self.rules,
            "member": self.member,
            "standing": standing,
            "delegate": self.trainer,
            "stop_at": self.stop_at,
            "peers_max": self.manifest.group.peers_max,
        }

    async def _evaluate_last(self, group: Group) -> None:
        """The final model, by one peer for all."""
        if self._speaks_last(group):
            await self.trainer.evaluate(sample=True)

    def _agreed(self, group: Group) -> bytes:
        """Digest of the state that this peer holds between two rounds."""
        return group.digest

    # -- its life ---------------------------------------------------------------------------------

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

    def _result(self, outcome: Literal["finished", "stopped"]) -> Result:
        """Where this peer stands."""
        return Result(
            outcome=outcome,
            step=self.replica.step,
            round_index=self.whereabouts.round_index,
            digest=self.replica.digest(),
            samples=self.replica.samples,
        )

    async def run(self, address: str = "") -> Result:
        """Take part. Returns when the run ended or this peer has left."""
        self._tell_started(address)
        try:
            self._recover()  # before others hear of this peer: the owner starts a run anew from what they say they have
            return await self._live_among([self.membership.run(), self.whereabouts.keep_file(address), *self._chores()])
        except GossamerError as error:
            self.log.emit(
                Ended(outcome="failed", step=self.replica.step, round=self.whereabouts.round_index, message=str(error))
            )
            raise
        finally:
            if self.gateway is not None:
                await self.gateway.close()
            self.log.close()

    def _recover(self) -> None:
        """Take over what an earlier life left on disk."""
        self.seeker.load_checkpoint()
        if self.gateway is not None:
            self.seeker.checkpoint = self.gateway.recover(self.seeker.checkpoint)

    async def _live_among(self, chores: list[Coroutine[Any, Any, None]]) -> Result:
        """Live, with what runs beside; a chore that fails ends it."""
        background = [asyncio.create_task(chore) for chore in chores]
        work = asyncio.create_task(self._live())
        patience = asyncio.create_task(self._leaving_took_too_long())
        try:
            jobs = [work, patience, *background]
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)  # noqa: TID251 - a list
            for chore in background:
                if chore.done():
                    chore.result()
            if patience.done() and not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                return await self._give_up()
            return await work
        finally:
            for job in (work, patience, *background):
                job.cancel()
            await asyncio.gather(work, patience, *background, return_exceptions=True)

    async def _leaving_took_too_long(self) -> None:
        await self._leaving.wait()
        await asyncio.sleep(LEAVE_GRACE_S)

    async def _give_up(self) -> Result:
        """The others cannot agree that this peer leaves: keep what was agreed, and go."""
        group = self.group
        digest = await self.network.compute(self.replica.digest, self.replica.apply_cost())
        if group is not None and self._agreed(group) == digest:
            await self.trainer.checkpoint(last=True)
        elif group is not None:
            self.trainer.warned("no checkpoint: the last round was only half applied; the one before is good")
        self.log.emit(Left(reason="asked to leave; the others did not answer in time"))
        self.log.emit(
            Ended(outcome="stopped", step=self.replica.step, round=self.whereabouts.round_index, digest=digest.hex())
        )
        return self._result("stopped")

    # -- a life ----------------------------------------------------------------------------------

    async def _live(self) -> Result:
        standing = await self.seeker.first(self.member)
        while standing is not None:
            ending = await self._take_part(standing)
            if ending in (Ending.STOPPED, Ending.LEFT):
                return await self._end(ending)
            self._unplaced(ending)
            self.member = self._next_life()
            self.group = None
            self.seeker.forget()
            standing = await self.seeker.seek(self.member)
        return await self._end(Ending.LEFT)

    def _unplaced(self, ending: Ending) -> None:
        """This peer has lost its place among the members, and seeks another."""
        self.trainer.warned(f"out of step with the group ({ending.value}): resynchronising")

    async def _take_part(self, standing: Standing) -> Ending:
        group = self.group = self._open_group(standing)
        group.leaving = self._leaving.is_set()
        await group.take_snapshot()
        self.membership.eager = False
        self.membership.hurry()
        if self.replica.step >= self.stop_at:
            return Ending.STOPPED  # the run was over when this peer found it, or had ended for it in an earlier life
        try:
            return await group.run()
        finally:
            self.membership.eager = True

    async def _end(self, ending: Ending) -> Result:
        over_s = asyncio.get_running_loop().time()
        group, replica = self.group, self.replica
        finished = replica.step >= self.stop_at
        not_kept: StateError | None = None
        if group is not None:
            # First of all: an evaluation takes long, and all who hold this state may die meanwhile.
            try:
                await self.trainer.checkpoint(stopped=ending is Ending.STOPPED, last=True)
            except StateError as error:
                not_kept = error
        if group is not None and finished and group.stopped:
            await self._evaluate_last(group)
        if not_kept is not None:
            raise not_kept
        if self.gateway is not None and finished:
            await self.gateway.finish(self.whereabouts.round_index)
            self.trainer.tell_privacy()
        if ending is Ending.LEFT:
            self.log.emit(Left(reason="asked to leave"))
        digest = await self.network.compute(replica.digest, replica.apply_cost())
        self.trainer.tell_traffic()
        self.trainer.tell_memory(libraries=self._libraries_bytes, state=replica.snapshot_bytes())
        outcome: Literal["finished", "stopped"] = "finished" if finished else "stopped"
        self.log.emit(
            Ended(outcome=outcome, step=replica.step, round=self.whereabouts.round_index, digest=digest.hex())
        )
        if finished:
            await self.service.farewell.wait(
                self.whereabouts.round_index, self._leaving, over_s=over_s, stay_s=self._seed_for_s
            )
        return self._result(outcome)

    def _speaks_last(self, group: Group) -> bool:
        """One peer evaluates the final model for all: the first on the roster."""
        return group.roster.peers[0] == self.network.peer_id

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
