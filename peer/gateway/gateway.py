"""A gateway: takes the place of a peer's own gradients by asking its devices, and keeps them up with the model.

To the group it is a member like any other. Its payload is what its devices measured; what the group commits goes to
the journal first and then, with the next assignment, to the devices.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...algorithms.baffle import Baffle
from ...algorithms.device_method import Answer
from ...protocol import devices
from ...protocol.atomic import write_atomically
from ...protocol.edge_pb2 import JournalEntry, RunCard
from ...protocol.errors import StateError
from ...protocol.identity import Identity, PeerId, peer_id_of
from ...protocol.manifest import SignedManifest
from ...protocol.network import Cost, Network, Server
from ..replica import Work
from ..rounds.snapshots import Standing
from .answers import Answers
from .auditing import Auditor
from .book import Book, revoke
from .collecting import Collector
from .compacting import keeper
from .describe import describe
from .desk import Desk
from .following import Following
from .intake import Intake
from .journal import COMPACT_ABOVE_BYTES
from .options import GatewayOptions
from .replica import GatewayReplica
from .spending import privacy_spent
from .spool import Spool
from .streams import few_streams
from .summing import SummingCollector
from .writing import JournalWriter

FAREWELL_S = 4.0
CHECKPOINTS_KEPT = 3
CHECKPOINT_ABOVE_BYTES = 256 << 20


class Gateway:
    """One gateway in one run.

    Args:
        network: the peer's own, for heavy maths and the wall clock.
        front: what devices see.
        identity: whose name devices know; the front proves it.
        folder: for the book and the journal.
    """

    def __init__(
        self,
        *,
        network: Network,
        front: Server,
        identity: Identity,
        manifest: SignedManifest,
        replica: GatewayReplica,
        folder: Path,
        options: GatewayOptions,
        refused: Callable[[PeerId, str], None],
        warned: Callable[[str], None],
    ) -> None:
        self.replica, self.options = replica, options
        self.book = Book(folder, run_id=manifest.run_id, gateway=identity.peer_id)
        self._network, self._warned = network, warned
        self._folder, self._refused = folder, refused
        spool = Spool(folder / "answers")
        self._journal = JournalWriter(folder / "journal", network, before=spool.sync)
        self._checkpoint_steps: list[int] = []
        self.privacy = privacy_spent(replica.method, 0)
        """As of the last checkpoint: what a device that took part in every round has spent at most."""
        self.auditor = self._open_auditor(identity, manifest) if options.audit_rate else None
        self.answers = self._open_answers(identity, manifest, spool)
        self.following = Following(network, replica, self.answers, self._journal.write)
        self.collector = self._open_collector(identity, manifest)
        self._serve(front, devices.sign_card(identity, self._card(manifest)), manifest.run_id, spool)

    def _open_answers(self, identity: Identity, manifest: SignedManifest, spool: Spool) -> Answers:
        return Answers(
            gateway=identity.peer_id,
            run_id=manifest.run_id,
            method=self.replica.of_devices,
            network=self._network,
            spool=spool,
            staleness_max=self.options.staleness_max,
            write=self._journal.write,
            tell=self._refused,
            audit=self._audit if self.auditor is not None else None,
        )

    def _open_collector(self, identity: Identity, manifest: SignedManifest) -> Collector:
        method = self.replica.of_devices
        arguments: dict[str, Any] = {"identity": identity, "run_id": manifest.run_id, "options": self.options}
        arguments |= {"answers": self.answers, "write": self._journal.write}
        if isinstance(method, Baffle) and method.options.secure:
            return SummingCollector(method=method, network=self._network, warn=self._warned, **arguments)
        return Collector(**arguments)

    def _serve(self, front: Server, card: bytes, run_id: str, spool: Spool) -> None:
        Desk(
            front,
            self.book,
            card=card,
            unix_time_s=self._network.unix_time_s,
            snapshot=self.following.snapshot,
            roster=self.answers.roster_of,
        )
        if not isinstance(self.collector, SummingCollector):  # no single answer may stand for a sum
            Intake(
                front,
                run_id=run_id,
                network=self._network,
                answers=self.answers,
                spool=spool,
                is_enrolled=self.book.is_enrolled,
                heard=self.collector.heard,
            )
        front.serve_stream(devices.ATTEND, few_streams(self.collector.hall.attend))

    # -- for the daemon --------------------------------------------------------------------------

    def recover(self, standing: Standing | None) -> Standing | None:
        """Apply the updates that an earlier life journalled after its last checkpoint, and take up its submissions.

        Args:
            standing: of the checkpoint that the replica holds; None: it holds the initial state.
        Returns: where the replica stands now.
        Raises: StateError if the journal contradicts the replica.
        """
        self.replica.was_restored = False
        for entry in self._journal.entries():
            if not entry.HasField("applied"):
                self._take_up(entry)
                continue
            applied = entry.applied
            if applied.step_before == self.replica.step and applied.base == self.replica.device_standing()[1]:
                standing = self.following.reapply(applied)
            self.following.retire(applied)
        self.answers.sweep()
        return standing

    def _take_up(self, entry: JournalEntry) -> None:
        """Restore a round or a submission, unless its device was shut out since."""
        device = peer_id_of(entry.accepted.device) if entry.HasField("accepted") else None
        if device is None or not self.book.is_revoked(device):
            self.collector.restore(entry)

    async def work(self, round_index: int) -> Work:
        """What devices measured for a round; it is pending in the method when this returns."""
        if self.replica.was_restored:
            await self._resynced()
        self.book.refresh()
        self.collector.hall.expel(self.book.is_enrolled)
        standing = await self._network.compute(self.replica.device_standing, self.replica.apply_cost())
        if self.auditor is not None:
            self.auditor.remember(standing[1])
        contributions = await self.collector.collect(round_index, standing, self.following.assignment)
        self.replica.of_devices.pending = contributions
        losses = self.answers.losses
        return Work(
            loss=math.fsum(losses) / len(losses) if losses else math.nan,
            samples=self.collector.n_answers * self.replica.of_devices.samples_per_answer,
            floats=self.replica.method.agree(),
        )

    async def concluded(self, standing: Standing) -> None:
        """Updates were applied: write them down, then let devices have them."""
        unpublished, self.replica.unpublished = self.replica.unpublished, []
        for one in unpublished:
            await self.following.publish(one, standing)

    async def _resynced(self) -> None:
        """The replica took over a state from outside: which submissions are part of it can't be known."""
        self.replica.was_restored = False
        self.following.forget()
        n_dropped = self.answers.drop_pending()
        if n_dropped:
            self._warned(f"{n_dropped} submissions of devices may be in the state that was taken over: not used again")
            await self._compact(0)  # nor by a later life

    async def checkpointed(self, step: int, n_rounds: int) -> None:
        """A checkpoint is on disk: what came before the oldest that is kept need not be journalled any more.

        Args: n_rounds: that were decided so far, failed ones included.
        """
        await self._account(n_rounds)
        self._checkpoint_steps = [*self._checkpoint_steps, step][-CHECKPOINTS_KEPT:]
        if self._journal.size_bytes > COMPACT_ABOVE_BYTES and len(self._checkpoint_steps) == CHECKPOINTS_KEPT:
            await self._compact(self._checkpoint_steps[0])

    @property
    def wants_checkpoint(self) -> bool:
        """The journal is long: updates of large models fill it quickly."""
        return self._journal.size_bytes > CHECKPOINT_ABOVE_BYTES

    async def _compact(self, oldest_step: int) -> None:
        """Args: oldest_step: updates up to there are in every checkpoint that is kept."""
        keep = keeper(self.answers.rounds, self.answers.pending, oldest_step=oldest_step)
        try:
            await self._journal.compact(keep)
        except StateError as error:
            self._warned(f"the gateway's journal stays as long as it is: {error}")

    async def _account(self, n_rounds: int) -> None:
        """A round that failed may have revealed a sum, so it counts as one that did."""
        self.privacy = await self._network.compute(lambda: privacy_spent(self.replica.method, n_rounds), Cost())

    async def finish(self, n_rounds: int) -> None:
        """The run is over: give every device the final state, and wait a little until they have it."""
        standing = await self._network.compute(self.replica.device_standing, self.replica.apply_cost())
        await self._account(n_rounds)
        self._keep_final(standing[0])
        self.collector.hall.part(lambda attendance: self.following.farewell(attendance, standing))
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self.collector.hall.emptied()
        except TimeoutError:
            self._warned(f"{len(self.collector.hall.present)} devices did not confirm the end of the run in time")

    # -- auditing --------------------------------------------------------------------------------

    def _open_auditor(self, identity: Identity, manifest: SignedManifest) -> Auditor:
        return Auditor(
            rate=self.options.audit_rate,
            folder=self._folder / "audit",
            identity=identity,
            run_id=manifest.run_id,
            method=self.replica.of_devices,
            network=self._network,
            states=self.options.staleness_max + 1,
            told=self._warned,
        )

    async def _audit(self, device: PeerId, submission: devices.Submission, answer: Answer, seed: bytes) -> str | None:
        """Recompute a submission; a device that submitted something else is shut out for good."""
        assert self.auditor is not None
        wrong = await self.auditor.audit(device, submission, answer, seed)
        if wrong is not None:
            for key in {device, self.book.holder(device)}:  # it may have changed its key meanwhile
                revoke(self._folder, key)
            self.book.refresh()
            self.answers.drop_device(device)
            asyncio.get_running_loop().call_soon(self.collector.hall.expel, self.book.is_enrolled)
        return wrong

    # -- the end ---------------------------------------------------------------------------------

    def _keep_final(self, step: int) -> None:
        shares, n_updates = self.following.shares()
        final: dict[str, Any] = {"step": step, "weights": self.replica.weights_digest()}
        final |= {"shares": shares, "updates_seen": n_updates}
        if self.privacy is not None:
            final["privacy"] = self.privacy
        if self.auditor is not None:
            final["audited"] = self.auditor.n_audited
        write_atomically(self._folder / "final.json", json.dumps(final).encode())

    async def close(self) -> None:
        """End what is being written, and close the journal."""
        await self._journal.close()

    def abandon(self) -> None:
        """Close the journal as it is, like a kernel that cleans up after a process."""
        self._journal.abandon()

    def _card(self, manifest: SignedManifest) -> RunCard:
        replica = self.replica
        return RunCard(
            run_id=manifest.run_id,
            task=manifest.manifest.task.name,
            network=json.dumps(describe(replica.task, replica.model).to_dict()),
            method=replica.method.name,
            options=json.dumps(replica.of_devices.device_options()),
            steps=manifest.manifest.run.steps,
            heartbeat_s=self.options.heartbeat_s,
        )
