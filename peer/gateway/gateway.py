"""A gateway: takes the place of a peer's own gradients by asking its devices, and keeps them up with the model.

To the group it is a member like any other. Its payload is what its devices measured; what the group commits goes to
the journal first and then, with the next assignment, to the devices.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...algorithms import Slots
from ...algorithms.baffle import Baffle
from ...algorithms.device_method import Answer
from ...protocol import devices
from ...protocol.atomic import write_atomically
from ...protocol.edge_pb2 import AppliedStep, Assignment, Downlink, Finish, JournalEntry, RunCard
from ...protocol.errors import StateError
from ...protocol.identity import Identity, PeerId, peer_id_of
from ...protocol.manifest import SignedManifest
from ...protocol.network import Cost, Network, Server
from ..folder import standing_from_record, standing_to_record
from ..replica import Work
from ..rounds.snapshots import Standing
from .attendance import Attendance
from .auditing import Auditor
from .book import Book, revoke
from .collecting import Collector
from .describe import describe
from .desk import Desk, Snapshot
from .history import History, Kept
from .journal import COMPACT_ABOVE_BYTES, Journal
from .options import GatewayOptions
from .replica import GatewayReplica
from .spending import privacy_spent
from .summing import SummingCollector

HISTORY_BYTES_MAX = 64 << 20
FAREWELL_S = 4.0
CHECKPOINTS_KEPT = 3


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
        self._journal = Journal(folder / "journal")
        self._unwritten: list[tuple[Sequence[JournalEntry], asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._history = History(bytes_max=HISTORY_BYTES_MAX)
        self._checkpoint_steps: list[int] = []
        self._weights = {"devices": 0.0, "peers": 0.0}
        """What each kind's contributions counted for so far, each update as one."""
        self._folder, self._refused = folder, refused
        self.privacy = privacy_spent(replica.method, 0)
        """As of the last checkpoint: what a device that took part in every round has spent."""
        self.auditor = self._open_auditor(identity, manifest) if options.audit_rate else None
        self.collector = self._open_collector(identity, manifest)
        card = devices.sign_card(identity, self._card(manifest))
        Desk(
            front,
            self.book,
            card=card,
            unix_time_s=network.unix_time_s,
            snapshot=self._snapshot,
            roster=self.collector.roster_of,
        )
        front.serve_stream(devices.ATTEND, self.collector.hall.attend)

    def _open_collector(self, identity: Identity, manifest: SignedManifest) -> Collector:
        method, options = self.replica.of_devices, self.options
        arguments: dict[str, Any] = {"identity": identity, "run_id": manifest.run_id, "options": options}
        arguments |= {"write": self._write, "tell": self._refused}
        if isinstance(method, Baffle) and method.options.secure:
            return SummingCollector(method=method, network=self._network, warn=self._warned, **arguments)
        audit = self._audit if self.auditor is not None else None
        return Collector(method=method, audit=audit, **arguments)

    # -- for the daemon --------------------------------------------------------------------------

    def recover(self, standing: Standing | None) -> Standing | None:
        """Apply the updates that an earlier life journalled after its last checkpoint, and take up its submissions.

        Args:
            standing: of the checkpoint that the replica holds; None: it holds the initial state.
        Returns: where the replica stands now.
        Raises: StateError if the journal contradicts the replica.
        """
        entries, self._journal.entries = self._journal.entries, []
        self.replica.was_restored = False
        for entry in entries:
            if not entry.HasField("applied"):
                self._take_up(entry)
                continue
            applied = entry.applied
            payloads = list(applied.step.payloads)
            if applied.step_before == self.replica.step and applied.base == self.replica.device_standing()[1]:
                standing = self._reapply(applied, payloads)
            self.collector.retire(self.replica.of_devices.counted(payloads), applied.round)
        return standing

    def _take_up(self, entry: JournalEntry) -> None:
        """Restore a round or a submission, unless its device was shut out since."""
        device = peer_id_of(entry.accepted.device) if entry.HasField("accepted") else None
        if device is None or not self.book.is_revoked(device):
            self.collector.restore(entry)

    async def work(self, round_index: int) -> Work:
        """What devices measured for a round; it is pending in the method when this returns."""
        if self.replica.was_restored:
            self._resynced()
        self.book.refresh()
        self.collector.hall.expel(self.book.is_enrolled)
        standing = await self._network.compute(self.replica.device_standing, self.replica.apply_cost())
        if self.auditor is not None:
            self.auditor.remember(standing[1])
        contributions = await self.collector.collect(round_index, standing, self._assignment)
        self.replica.of_devices.pending = contributions
        losses = self.collector.losses
        return Work(
            loss=math.fsum(losses) / len(losses) if losses else math.nan,
            samples=self.collector.n_answers * self.replica.of_devices.samples_per_answer,
            floats=self.replica.method.agree(),
        )

    async def concluded(self, standing: Standing) -> None:
        """Updates were applied: write them down, then let devices have them."""
        unpublished, self.replica.unpublished = self.replica.unpublished, []
        for one in unpublished:
            record = json.dumps(standing_to_record(standing, stopped=False))
            applied = AppliedStep(
                step_before=one.kept.before[0],
                step_after=one.kept.after[0],
                step=one.kept.step,
                contributors=one.slots.contributors,
                members=one.slots.n_members,
                base=one.kept.before[1],
                digest=one.kept.after[1],
                standing=record,
                round=standing.index - 1,
            )
            await self._write([JournalEntry(applied=applied)])
            self._publish(one.kept, standing.index)

    def _resynced(self) -> None:
        """The replica took over a state from outside: which submissions are part of it can't be known."""
        self.replica.was_restored = False
        self._history.clear()
        n_dropped = self.collector.drop_pending()
        if n_dropped:
            self._warned(f"{n_dropped} submissions of devices may be in the state that was taken over: not used again")

    async def checkpointed(self, step: int) -> None:
        """A checkpoint is on disk: what came before the oldest that is kept need not be journalled any more."""
        self.privacy = await self._network.compute(lambda: privacy_spent(self.replica.method, step), Cost())
        self._checkpoint_steps = [*self._checkpoint_steps, step][-CHECKPOINTS_KEPT:]
        if self._journal.size_bytes <= COMPACT_ABOVE_BYTES or len(self._checkpoint_steps) < CHECKPOINTS_KEPT:
            return
        oldest = self._checkpoint_steps[0]
        rounds_after = self.collector.oldest_round()

        def keep(entry: JournalEntry) -> bool:
            if entry.HasField("applied"):
                return entry.applied.step_after > oldest
            if entry.HasField("opened"):
                return entry.opened.round >= rounds_after
            if entry.HasField("summed"):
                return entry.summed.round >= rounds_after
            body = devices.read_submission_body(entry.accepted.body, PeerId(""))
            return body.round_index >= rounds_after

        try:
            await self._network.compute(lambda: self._journal.compact(keep), Cost())
        except StateError as error:
            self._warned(f"the gateway's journal stays as long as it is: {error}")

    async def finish(self) -> None:
        """The run is over: give every device the final state, and wait a little until they have it."""
        standing = await self._network.compute(self.replica.device_standing, self.replica.apply_cost())
        self.privacy = await self._network.compute(lambda: privacy_spent(self.replica.method, standing[0]), Cost())
        self._keep_final(standing[0])
        self.collector.hall.send_all(lambda attendance: self._farewell(attendance, standing))
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
            revoke(self._folder, device)
            self.book.refresh()
            self.collector.drop_device(device)
            asyncio.get_running_loop().call_soon(self.collector.hall.expel, self.book.is_enrolled)
        return wrong

    # -- the end ---------------------------------------------------------------------------------

    def _keep_final(self, step: int) -> None:
        total = sum(self._weights.values())
        shares = {kind: weight / total for kind, weight in self._weights.items()} if total else {}
        final: dict[str, Any] = {"step": step, "weights": self.replica.weights_digest()}
        final |= {"shares": shares, "updates_seen": round(total)}
        if self.privacy is not None:
            final["privacy"] = self.privacy
        if self.auditor is not None:
            final["audited"] = self.auditor.n_audited
        write_atomically(self._folder / "final.json", json.dumps(final).encode())

    async def close(self) -> None:
        """End what is being written, and close the journal."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        self.abandon()

    def abandon(self) -> None:
        """Close the journal as it is, like a kernel that cleans up after a process."""
        self._journal.close()

    # -- devices' view of the model --------------------------------------------------------------

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

    def _assignment(self, attendance: Attendance) -> Assignment:
        steps = self._history.way(
            attendance.known, self.replica.device_standing(), snapshot_bytes=self.replica.device_state_bytes
        )
        return Assignment(steps=steps or (), resync=steps is None)

    def _farewell(self, attendance: Attendance, standing: tuple[int, bytes]) -> Downlink:
        steps = self._history.way(attendance.known, standing, snapshot_bytes=self.replica.device_state_bytes)
        return Downlink(finish=Finish(step=standing[0], digest=standing[1], steps=steps or (), resync=steps is None))

    async def _snapshot(self) -> Snapshot:
        def take() -> Snapshot:
            return (*self.replica.device_standing(), self.replica.device_state())

        return await self._network.compute(take, self.replica.apply_cost())

    def _publish(self, kept: Kept, index: int) -> None:
        self._history.add(kept)
        payloads = list(kept.step.payloads)
        method = self.replica.of_devices
        for kind, share in method.credit(payloads).items():
            self._weights[kind] += share
        self.collector.retire(method.counted(payloads), index)

    # -- the journal -----------------------------------------------------------------------------

    def _reapply(self, applied: AppliedStep, payloads: Sequence[bytes]) -> Standing:
        slots = Slots(contributors=tuple(applied.contributors), n_members=applied.members)
        self.replica.apply(payloads, None, slots)
        kept = self.replica.unpublished.pop().kept
        if kept.after[1] != applied.digest:
            raise StateError(
                f"update {applied.step_before} of the gateway's journal leads to another state than it did before: "
                "move the journal away to go on from the checkpoint"
            )
        self._history.add(kept)
        return standing_from_record(json.loads(applied.standing))

    async def _write(self, entries: Sequence[JournalEntry]) -> None:
        """Put entries on disk, together with what others want written meanwhile. Raises StateError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unwritten.append((entries, done))
        if self._flushing is None or self._flushing.done():
            # A task of its own: whoever asked first may leave before the others' entries are written.
            self._flushing = asyncio.create_task(self._flush(), name="the gateway's journal")
        await done

    async def _flush(self) -> None:
        while self._unwritten:
            await self._write_all()

    async def _write_all(self) -> None:
        batch, self._unwritten = self._unwritten, []
        entries = [entry for some, _ in batch for entry in some]
        failure: StateError | None = None
        try:
            await self._network.compute(lambda: self._journal.append(entries), Cost())
        except OSError as error:
            failure = StateError(f"the gateway's journal cannot be written ({error.strerror}): make room on its disk")
        for _, done in batch:
            if done.done():
                continue
            if failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(None)
