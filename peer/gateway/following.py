"""How a gateway's devices follow the model: by the updates since the state that they hold, or by a snapshot of now."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from ...algorithms import Slots
from ...protocol.edge_pb2 import AnsweredSlots, AppliedStep, Assignment, Downlink, Finish, JournalEntry, Step
from ...protocol.errors import StateError
from ...protocol.network import Network
from ..folder import standing_from_record, standing_to_record
from ..rounds.snapshots import Standing
from .answers import Answers, Name, Write
from .attendance import Attendance
from .history import History, Kept
from .replica import GatewayReplica, Unpublished
from .snapshots import Snapshot

HISTORY_BYTES_MAX = 64 << 20


class Following:
    """What devices may know of the model: what is in the journal, and nothing before it is there.

    Args:
        write: puts journal entries on disk.
        answers: hears what has become part of an update.
    """

    def __init__(self, network: Network, replica: GatewayReplica, answers: Answers, write: Write) -> None:
        self._network, self._replica, self._answers, self._write = network, replica, answers, write
        self._history = History(bytes_max=HISTORY_BYTES_MAX)
        self._weights = {"devices": 0.0, "peers": 0.0}

    # -- updates ---------------------------------------------------------------------------------

    async def publish(self, one: Unpublished, standing: Standing) -> None:
        """An update was applied: write it down, then let devices have it."""
        spent = self._answers.part_of(self._replica.of_devices.counted(one.kept.step.payloads))
        await self._write([JournalEntry(applied=_applied(one, standing, spent))])
        self._add(one.kept, spent, standing.index)

    def reapply(self, applied: AppliedStep) -> Standing:
        """Do again what an earlier life did. Raises StateError if it does not lead where it led then."""
        slots = Slots(contributors=tuple(applied.contributors), n_members=applied.members)
        self._replica.apply(list(applied.step.payloads), None, slots)
        kept = self._replica.unpublished.pop().kept
        if kept.after[1] != applied.digest:
            raise StateError(
                f"update {applied.step_before} of the gateway's journal leads to another state than it did before: "
                "move the journal away to go on from the checkpoint"
            )
        self._history.add(kept)
        return standing_from_record(json.loads(applied.standing))

    def forget(self) -> None:
        """The model was taken over from outside: no update leads to it."""
        self._history.clear()

    def retire(self, applied: AppliedStep) -> None:
        """What counted in an update that an earlier life wrote down waits no more."""
        answered = frozenset((one.round_seed, slot) for one in applied.answered for slot in one.slots)
        spent = answered or self._answers.part_of(self._replica.of_devices.counted(applied.step.payloads))
        self._answers.retire(spent, applied.round)

    def shares(self) -> tuple[dict[str, float], int]:
        """How much of the updates that were seen came from devices and from peers, and how many updates those were."""
        total = sum(self._weights.values())
        return {kind: weight / total for kind, weight in self._weights.items()} if total else {}, round(total)

    def _add(self, kept: Kept, spent: Collection[Name], index: int) -> None:
        self._history.add(kept)
        for kind, share in self._replica.of_devices.credit(kept.step.payloads).items():
            self._weights[kind] += share
        self._answers.retire(spent, index)
        self._answers.sweep()

    # -- for devices -----------------------------------------------------------------------------

    def assignment(self, attendance: Attendance) -> Assignment:
        """Without the task: with what this device needs to get to the present state."""
        steps = self._way(attendance, self._replica.device_standing())
        return Assignment(steps=steps or (), resync=steps is None)

    def farewell(self, attendance: Attendance, standing: tuple[int, bytes]) -> Downlink:
        """The end of the run, for one device."""
        steps = self._way(attendance, standing)
        return Downlink(finish=Finish(step=standing[0], digest=standing[1], steps=steps or (), resync=steps is None))

    async def snapshot(self) -> Snapshot:
        return await self._network.compute(self._replica.device_snapshot, self._replica.apply_cost())

    def _way(self, attendance: Attendance, standing: tuple[int, bytes]) -> Sequence[Step] | None:
        return self._history.way(attendance.known, standing, snapshot_bytes=self._replica.device_state_bytes)


def _applied(one: Unpublished, standing: Standing, spent: Collection[Name]) -> AppliedStep:
    slots = {seed: sorted(slot for its, slot in spent if its == seed) for seed in sorted({seed for seed, _ in spent})}
    return AppliedStep(
        step_before=one.kept.before[0],
        step_after=one.kept.after[0],
        step=one.kept.step,
        contributors=one.slots.contributors,
        members=one.slots.n_members,
        base=one.kept.before[1],
        digest=one.kept.after[1],
        standing=json.dumps(standing_to_record(standing, stopped=False)),
        round=standing.index - 1,
        answered=[AnsweredSlots(round_seed=seed, slots=its) for seed, its in slots.items()],
    )
