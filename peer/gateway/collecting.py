"""Rounds among a gateway's devices: who is asked, what counts, and when it is enough.

A round has a roster that only grows: a device's slot is its place there, and stays its own when it comes back in
mid-round. A submission counts if that device was asked for that slot at that state, once, and is on disk before the
device hears so. One that comes late waits for the next update, unless it is too old.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ...algorithms.device_method import Answer, DeviceMethod
from ...algorithms.errors import BadPayload
from ...algorithms.forward import RoundKey
from ...protocol.devices import (
    Submission,
    Task,
    read_submission,
    read_submission_body,
    roster_hash,
    roster_message,
    round_seed,
    sign_task,
)
from ...protocol.edge_pb2 import (
    Abandonment,
    Accepted,
    Assignment,
    Downlink,
    JournalEntry,
    OpenedRound,
    Receipt,
    Signed,
)
from ...protocol.errors import InvalidMessage, StateError
from ...protocol.identity import Identity, PeerId, peer_id_of, public_key_of
from ..rounds.patience import Patience
from .attendance import Attendance, Hall
from .options import STALENESS_LIMIT, GatewayOptions

Way = Callable[[Attendance], Assignment]
"""An assignment with what a device needs to get to the present state."""
Audit = Callable[[PeerId, Submission, Answer, bytes], Awaitable[str | None]]
"""What is wrong with a submission of the round with this seed; None: nothing that was found."""


@dataclass(kw_only=True)
class DeviceRound:
    """One round among devices."""

    index: int
    base: bytes
    seed: bytes
    roster: list[PeerId] = field(default_factory=list)
    counted: dict[int, float] = field(default_factory=dict)
    """Slot -> loss."""
    given_up: set[int] = field(default_factory=set)

    @property
    def key(self) -> RoundKey:
        """What fixes its perturbations."""
        return RoundKey(round_index=self.index, round_seed=self.seed, n_slots=len(self.roster))


class Collector:
    """Asks devices and takes in their answers.

    Args:
        write: puts journal entries on disk; raises StateError if it cannot.
        tell: hears, in one line, what was refused and from whom.
        audit: looks a submission over before it counts, and says what is wrong with it.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        run_id: str,
        method: DeviceMethod,
        options: GatewayOptions,
        write: Callable[[Sequence[JournalEntry]], Awaitable[None]],
        tell: Callable[[PeerId, str], None],
        audit: Audit | None = None,
    ) -> None:
        self.hall = Hall(
            heartbeat_s=options.heartbeat_s,
            on_submission=self._submitted,
            on_abandonment=self._abandoned,
            on_change=self._wake,
        )
        self.pending: dict[tuple[bytes, int], Answer] = {}
        """Accepted, and not yet part of an update; by seed and slot."""
        self.losses: list[float] = []
        """Of the contributions that came since the last round closed."""
        self._identity, self._run_id = identity, run_id
        self._method, self._options, self._audit = method, options, audit
        self._write, self._tell = write, tell
        self._rounds: dict[tuple[int, bytes], DeviceRound] = {}
        self._open: DeviceRound | None = None
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
        round_ = self._opened(index, standing[1])
        self._way = way
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._began_s + self._options.round_every_s - loop.time())
        await self._enough_devices()
        self._began_s = loop.time()
        started_s = loop.time()
        target = self._options.devices_per_round or max(1, self._n_free(round_), len(round_.roster))
        deadline_s = started_s + self._patience.deadline_s(1)
        grace_s = started_s + self._options.patience_floor_s
        self._open = round_
        try:
            while True:
                self._changed.clear()
                now_s = loop.time()
                if self._enough(round_, target, late=now_s >= deadline_s, gone=now_s >= grace_s):
                    break
                await self._invite(round_, standing, target, deadline_s - now_s)
                await self._change(next((time_s for time_s in (grace_s, deadline_s) if time_s > now_s), None))
        finally:
            self._open = None
        self._patience.record(loop.time() - started_s, 1)
        return tuple(self.pending[name] for name in sorted(self.pending))

    def retire(self, counted: frozenset[tuple[bytes, int]], index: int) -> None:
        """Forget what has become part of an update, and what can never become part of one any more."""
        self.losses.clear()
        self.pending = {
            name: one
            for name, one in self.pending.items()
            if not self._is_counted(name, counted) and index - one.key.round_index < STALENESS_LIMIT
        }
        for name in [name for name in self._rounds if name[0] < index - 2 * STALENESS_LIMIT]:
            del self._rounds[name]

    def _is_counted(self, name: tuple[bytes, int], counted: frozenset[tuple[bytes, int]]) -> bool:
        return (name[0], self._method.stream_slot(name[1])) in counted

    def drop_device(self, device: PeerId) -> None:
        """Forget what a device submitted and what is not yet part of an update."""
        for round_ in self._rounds.values():
            if device in round_.roster:
                self.pending.pop((round_.seed, round_.roster.index(device)), None)

    def drop_pending(self) -> int:
        """Forget what was accepted: whether it is part of an update can't be known any more."""
        n_dropped = len(self.pending)
        self.pending.clear()
        return n_dropped

    def restore(self, entry: JournalEntry) -> None:
        """Take in what an earlier life wrote down."""
        if entry.HasField("opened"):
            round_ = self._opened(entry.opened.round, entry.opened.base)
            round_.roster = [peer_id_of(key) for key in entry.opened.devices]
        elif entry.HasField("accepted"):
            body = read_submission_body(entry.accepted.body, peer_id_of(entry.accepted.device))
            kept = self._rounds.get((body.round_index, body.base))
            if kept is not None and body.slot < len(kept.roster) and body.slot not in kept.counted:
                self._count(kept, body, self._method.read(kept.key, body.slot, body.scalars))

    @property
    def n_answers(self) -> int:
        """Devices behind what is pending."""
        return len(self.pending)

    def roster_of(self, index: int) -> bytes:
        """The DeviceRoster of a recent round. Raises InvalidMessage."""
        for round_ in reversed(self._rounds.values()):
            if round_.index == index:
                return roster_message(index, round_.roster)
        raise InvalidMessage(f"the roster of round {index} is not kept any more")

    def oldest_round(self) -> int:
        """The index of the oldest round of which something is kept here."""
        return min((index for index, _ in self._rounds), default=0)

    def _opened(self, index: int, base: bytes) -> DeviceRound:
        if (index, base) not in self._rounds:
            seed = round_seed(self._run_id, self._identity.peer_id, index, base)
            self._rounds[index, base] = DeviceRound(index=index, base=base, seed=seed)
            # Contributions name their round by its index alone: those of another state with this index cannot stay.
            stale = [name for name, one in self.pending.items() if one.key.round_index == index and name[0] != seed]
            for name in stale:
                del self.pending[name]
        return self._rounds[index, base]

    def _enough(self, round_: DeviceRound, target: int, *, late: bool, gone: bool) -> bool:
        """Args: gone: devices that have left had the time to come back."""
        if not self.pending:
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
            round_.roster += fresh
            keys = [public_key_of(device) for device in round_.roster]
            opened = OpenedRound(round=round_.index, base=round_.base, devices=keys)
            await self._write([JournalEntry(opened=opened)])
        for slot in self._awaited(round_):
            attendance = self.hall.present.get(round_.roster[slot])
            if attendance is not None and attendance.assigned is not round_:
                attendance.assigned, attendance.busy_since = round_, round_.index
                attendance.send(self._assignment(attendance, round_, standing, slot, max(1.0, left_s)))

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
        verdict = await self._judge(attendance.device, signed, submission)
        if attendance.busy_since == submission.round_index:
            attendance.busy_since = None
            self._wake()
        if verdict is not None:
            receipt = Receipt(round=submission.round_index, slot=submission.slot, verdict=verdict)
            attendance.send(Downlink(receipt=receipt))

    async def _judge(self, device: PeerId, signed: Signed, submission: Submission) -> Receipt.Verdict | None:
        """What becomes of a submission; None if it could not be written down: the device will offer it again."""
        round_ = self._rounds.get((submission.round_index, submission.base))
        if round_ is None:
            known = submission.round_index <= self._newest()
            return Receipt.STALE if known else self._refuse(device, f"round {submission.round_index} was never opened")
        verdict = self._first_look(round_, device, submission)
        if verdict is not None:
            return verdict
        try:
            answer = self._method.read(round_.key, submission.slot, submission.scalars)
            wrong = await self._audit(device, submission, answer, round_.seed) if self._audit is not None else None
            if wrong is not None:
                return self._refuse(device, wrong)
            accepted = Accepted(device=public_key_of(device), body=signed.body)
            await self._write([JournalEntry(accepted=accepted)])
        except BadPayload as error:
            return self._refuse(device, str(error))
        except StateError as error:
            self._tell(device, f"its submission was not kept: {error}")
            return None
        if submission.slot not in round_.counted:
            self._count(round_, submission, answer)
        return Receipt.COUNTED

    def _first_look(self, round_: DeviceRound, device: PeerId, submission: Submission) -> Receipt.Verdict | None:
        """The verdict that needs no look at the scalars, if there is one."""
        slot = submission.slot
        if slot >= len(round_.roster) or round_.roster[slot] != device:
            return self._refuse(device, f"slot {slot} of round {round_.index} is another device's")
        if slot in round_.counted:
            return Receipt.COUNTED
        too_late = round_ is not self._open and self._newest() - round_.index > self._options.staleness_max
        return Receipt.STALE if too_late else None

    def _newest(self) -> int:
        return max((index for index, _ in self._rounds), default=0)

    def _count(self, round_: DeviceRound, submission: Submission, answer: Answer) -> None:
        round_.counted[submission.slot] = submission.loss
        self.pending[round_.seed, submission.slot] = answer
        self.losses.append(submission.loss)
        self._wake()

    def _refuse(self, device: PeerId, reason: str) -> Receipt.Verdict:
        self._tell(device, f"submission refused: {reason}")
        return Receipt.REFUSED

    def _abandoned(self, attendance: Attendance, message: Abandonment) -> None:
        attendance.busy_since = None
        self._wake()
        round_ = self._open
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
        while len(self.hall.present) < self.devices_needed() and not self.pending:
            self._changed.clear()
            await self._change(None)

    async def _change(self, until_s: float | None) -> None:
        """Wait for something to happen, or for a time of the loop's clock."""
        try:
            async with asyncio.timeout_at(until_s):
                await self._changed.wait()
        except TimeoutError:
            return
