"""Rounds among a gateway's devices: who is asked, and when it is enough.

A round has a roster that only grows: a device's slot is its place there, and stays its own when it comes back in
mid-round. What becomes of an answer is in `answers`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence

from ...algorithms.device_method import Answer
from ...algorithms.forward.exchange import DEVICES_MAX
from ...protocol.devices import Task, read_submission, roster_hash, sign_task
from ...protocol.edge_pb2 import Abandonment, Assignment, Downlink, JournalEntry, OpenedRound, Receipt, Signed
from ...protocol.errors import StateError
from ...protocol.identity import Identity, PeerId, public_key_of
from ..rounds.patience import Patience
from .answers import Answers, DeviceRound, Write
from .attendance import Attendance, Hall
from .options import GatewayOptions

SLOWEST = 4.0
"""A device that takes so many times as long as most does not teach its gateway to wait longer still: else one that
always answers at the last moment, or never, would lengthen rounds without bound."""

Way = Callable[[Attendance], Assignment]
"""An assignment with what a device needs to get to the present state."""


class Collector:
    """Asks devices.

    Args:
        answers: takes in what they answer.
        write: puts journal entries on disk; raises StateError if it cannot.
    """

    def __init__(
        self, *, identity: Identity, run_id: str, options: GatewayOptions, answers: Answers, write: Write
    ) -> None:
        self.hall = Hall(
            heartbeat_s=options.heartbeat_s,
            on_submission=self._submitted,
            on_abandonment=self._abandoned,
            on_change=self._wake,
        )
        self.answers = answers
        self._identity, self._run_id, self._options, self._write = identity, run_id, options, write
        self._way: Way = lambda attendance: Assignment()
        self._patience = Patience(floor_s=options.patience_floor_s, initial_s=options.patience_initial_s)
        self._changed = asyncio.Event()
        self._began_s = -math.inf
        """When the last round opened; what round_every_s counts from."""

    # -- a round ---------------------------------------------------------------------------------

    async def collect(self, index: int, standing: tuple[int, bytes], way: Way) -> tuple[Answer, ...]:
        """Everything that counts in the next update. Cancel it to give the round up: nothing is lost.

        Args:
            standing: step and digest of the state to measure at.
        """
        round_ = self.answers.opened(index, standing[1])
        self._way = way
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._began_s + self._options.round_every_s - loop.time())
        await self._enough_devices()
        self._began_s = loop.time()
        started_s = loop.time()
        target = self._options.devices_per_round or max(1, self._n_free(round_), len(round_.roster))
        target = min(target, DEVICES_MAX)
        deadline_s = started_s + self._patience.deadline_s(1)
        grace_s = started_s + self._options.patience_floor_s
        self.answers.open = round_
        most_s: float | None = None
        try:
            while True:
                self._changed.clear()
                now_s = loop.time()
                if most_s is None and 2 * len(round_.counted) > len(round_.roster):
                    most_s = now_s - started_s
                if self._enough(round_, target, late=now_s >= deadline_s, gone=now_s >= grace_s):
                    break
                await self._invite(round_, standing, target, deadline_s - now_s)
                await self._change(next((time_s for time_s in (grace_s, deadline_s) if time_s > now_s), None))
        finally:
            self.answers.open = None
        self._learn(loop.time() - started_s, most_s)
        return self.answers.take()

    def restore(self, entry: JournalEntry) -> None:
        """Take in what an earlier life wrote down."""
        self.answers.restore(entry)

    @property
    def n_answers(self) -> int:
        """Devices behind the last payload."""
        return len(self.answers.taken)

    def _learn(self, took_s: float, most_s: float | None) -> None:
        """A round is over. Args: most_s: after so long most devices had answered; None: most had not."""
        self._patience.record(took_s if most_s is None else min(took_s, SLOWEST * most_s), 1)

    def _enough(self, round_: DeviceRound, target: int, *, late: bool, gone: bool) -> bool:
        """Args: gone: devices that have left had the time to come back."""
        if not self.answers.pending:
            return False
        awaited = [slot for slot in self._awaited(round_) if not gone or round_.roster[slot] in self.hall.present]
        return late or len(round_.counted) >= target or not (awaited or self._candidates(round_))

    def _awaited(self, round_: DeviceRound) -> list[int]:
        slots = range(len(round_.roster))
        return [slot for slot in slots if slot not in round_.counted and slot not in round_.given_up]

    def _candidates(self, round_: DeviceRound) -> list[PeerId]:
        """Devices that are here and were not asked, in an order that differs from round to round."""
        free = [device for device in self.hall.devices() if not self._is_busy(self.hall.present[device], round_)]
        return self._shuffled(round_, [device for device in free if device not in round_.roster])

    def _shuffled(self, round_: DeviceRound, devices: Sequence[PeerId]) -> list[PeerId]:
        return sorted(devices, key=lambda device: hashlib.sha256(round_.seed + device.encode()).digest())

    def _is_busy(self, attendance: Attendance, round_: DeviceRound) -> bool:
        """A slow device finishes what it was asked before, as long as that can still count."""
        since = attendance.busy_since
        return since is not None and 0 < round_.index - since <= self._options.staleness_max

    def _n_free(self, round_: DeviceRound) -> int:
        return sum(not self._is_busy(attendance, round_) for attendance in self.hall.present.values())

    async def _invite(self, round_: DeviceRound, standing: tuple[int, bytes], target: int, left_s: float) -> None:
        """Fill the roster up, and ask whoever is on it and here and was not asked on this stream."""
        here = [slot for slot in self._awaited(round_) if round_.roster[slot] in self.hall.present]
        n_wanted = target + self._options.backups - len(round_.counted) - len(here)
        fresh = self._candidates(round_)[: max(0, n_wanted)]
        if fresh:
            await self._open(round_, [*round_.roster, *fresh])
        for slot in self._awaited(round_):
            attendance = self.hall.present.get(round_.roster[slot])
            if attendance is not None and attendance.assigned is not round_:
                attendance.assigned, attendance.busy_since = round_, round_.index
                attendance.send(self._assignment(attendance, round_, standing, slot, max(1.0, left_s)))

    async def _open(self, round_: DeviceRound, roster: list[PeerId]) -> None:
        """Let a round have this roster: on disk first, for what its devices answer counts by their slots there."""
        keys = [public_key_of(device) for device in roster]
        await self._write([JournalEntry(opened=OpenedRound(round=round_.index, base=round_.base, devices=keys))])
        round_.roster = roster

    def _assignment(
        self, attendance: Attendance, round_: DeviceRound, standing: tuple[int, bytes], slot: int, left_s: float
    ) -> Downlink:
        task = Task(
            round_index=round_.index,
            step=standing[0],
            base=round_.base,
            slot=slot,
            roster_hash=roster_hash(round_.index, round_.roster),
            deadline_s=left_s,
        )
        assignment = self._way(attendance)
        assignment.signed.CopyFrom(sign_task(self._identity, self._run_id, attendance.device, task))
        attendance.known = standing
        return Downlink(assignment=assignment)

    # -- answers ---------------------------------------------------------------------------------

    async def _submitted(self, attendance: Attendance, signed: Signed) -> None:
        submission = read_submission(signed, run_id=self._run_id, device=attendance.device)
        verdict = await self.answers.judge(attendance.device, signed, submission)
        self.heard(attendance.device, submission.round_index)
        if verdict is None:
            # A device offers what is in its outbox whenever it connects, and at no other time.
            raise StateError(f"the answer of {attendance.device} could not be kept here: connect and offer it again")
        receipt = Receipt(round=submission.round_index, slot=submission.slot, verdict=verdict)
        attendance.send(Downlink(receipt=receipt))

    def heard(self, device: PeerId, index: int) -> None:
        """A device has answered in round `index`."""
        attendance = self.hall.present.get(device)
        if attendance is not None and attendance.busy_since == index:
            attendance.busy_since = None
        self._wake()

    def _abandoned(self, attendance: Attendance, message: Abandonment) -> None:
        attendance.busy_since = None
        self._wake()
        round_ = self.answers.open
        if round_ is not None and message.round == round_.index and attendance.device in round_.roster:
            round_.given_up.add(round_.roster.index(attendance.device))
            self._wake()

    # -- waiting ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._changed.set()

    def devices_needed(self) -> int:
        """A round waits until so many are here."""
        return self._options.devices_min

    async def _enough_devices(self) -> None:
        while len(self.hall.present) < self.devices_needed() and not self._needs_nobody():
            self._changed.clear()
            await self._change(None)

    def _needs_nobody(self) -> bool:
        """Late answers make a round by themselves."""
        return bool(self.answers.pending)

    async def _change(self, until_s: float | None) -> None:
        """Wait for something to happen, or for a time of the loop's clock."""
        try:
            async with asyncio.timeout_at(until_s):
                await self._changed.wait()
        except TimeoutError:
            return
