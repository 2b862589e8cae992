"""Rounds whose answers are summed under masks: the gateway relays keys and shares and learns the sum alone.

A round is made in attempts. Each has keys of its own: a device that leaves in mid-attempt has dropped out of it, and
one that comes back takes part in the next. An attempt that falls below the threshold reveals nothing and is made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...algorithms.baffle import Baffle
from ...algorithms.device_method import Answer
from ...algorithms.errors import BadPayload
from ...algorithms.forward import Contribution, RoundKey
from ...algorithms.forward.errors import TooFewContributions
from ...algorithms.forward.residues import decode_mean, threshold
from ...algorithms.forward.secure_sum import SumRound, unmask
from ...protocol import sums
from ...protocol.devices import Submission, Task, read_submission, roster_hash, sign_task, stream_run_id
from ...protocol.edge_pb2 import (
    Downlink,
    JournalEntry,
    Receipt,
    Signed,
    Summed,
    SumShares,
    SumSurvivors,
    Uplink,
)
from ...protocol.identity import PeerId, public_key_of
from ...protocol.network import Cost, Network
from .answers import DeviceRound, Name
from .attempts import Attempt
from .attendance import Attendance
from .collecting import Collector, Way

F32 = npt.NDArray[np.float32]
HANDSHAKE_S = 15.0
"""Longest wait for what a device only has to compute a moment for."""
FLOPS_PER_KEY = 3e5


class SummingCollector(Collector):
    """Collects one sum a round in place of single answers.

    Args:
        network: for heavy maths and the wall clock, which makes attempts of one life differ from another's.
        warn: hears of attempts that were given up.
        others: of `Collector`.
    """

    def __init__(self, *, method: Baffle, network: Network, warn: Callable[[str], None], **others: Any) -> None:
        super().__init__(**others)
        self._warn = warn
        self._baffle, self._network = method, network
        self._attempt: Attempt | None = None
        self._last_number = 0
        self._behind: dict[Name, int] = {}
        """Devices behind each sum that is pending."""
        self.hall.on_sum = self._heard

    async def collect(self, index: int, standing: tuple[int, bytes], way: Way) -> tuple[Answer, ...]:
        round_ = self.answers.opened(index, standing[1])
        while (round_.seed, 0) not in self.answers.pending:
            await self._enough_devices()
            try:
                await self._sum(round_, standing, way)
            except (TooFewContributions, BadPayload) as error:
                self._attempt = None
                self._warn(f"a secure sum of round {index} was given up, nothing was revealed: {error}")
                await asyncio.sleep(self._options.patience_floor_s)
            finally:
                self._attempt = None
        if self._baffle.options.dp_clip:
            self.answers.keep_only(round_.seed)  # what privacy was spent is told by the number of rounds, a sum each
        return self.answers.take()

    def restore(self, entry: JournalEntry) -> None:
        if not entry.HasField("summed"):
            super().restore(entry)
            return
        kept, summed = self.answers.find(entry.summed.round, entry.summed.base), entry.summed
        if kept is not None and len(summed.mean) == 4 * self._baffle.options.K:
            self._keep(kept, np.frombuffer(summed.mean, "<f4").astype(np.float32), len(summed.devices))

    @property
    def n_answers(self) -> int:
        return sum(self._behind.get(name, 0) for name in self.answers.pending)

    def _needs_nobody(self) -> bool:
        return False  # what is pending is the sum of another round

    def devices_needed(self) -> int:
        return max(super().devices_needed(), self._baffle.options.secure_devices)

    # -- an attempt ------------------------------------------------------------------------------

    async def _sum(self, round_: DeviceRound, standing: tuple[int, bytes], way: Way) -> None:
        attempt = await self._open_attempt(round_, standing, way)
        options, needed = self._baffle.options, self._baffle.options.secure_devices
        await self._wait(attempt.keys, attempt.devices, HANDSHAKE_S)
        roster = tuple(sorted(attempt.keys))
        if len(roster) < needed:
            raise TooFewContributions(f"{len(roster)} devices published keys, {needed} are needed")
        least = threshold(options, len(roster))
        members = [(attempt.devices[slot], attempt.keys[slot]) for slot in roster]
        self._tell_all(attempt, roster, Downlink(sum_roster=sums.roster_message(attempt.number, members)))
        await self._wait(attempt.shares, roster, HANDSHAKE_S)
        participants = tuple(sorted(attempt.shares))
        _refuse_below(len(participants), least, "sealed shares")
        self._hand_on_shares(attempt, participants)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        most_s = await self._wait(attempt.uploads, participants, self._patience.deadline_s(1))
        self._learn(loop.time() - started_s, most_s)
        survivors = tuple(sorted(attempt.uploads))
        _refuse_below(len(survivors), least, "uploaded")
        word = SumSurvivors(attempt=attempt.number, slots=survivors)
        self._tell_all(attempt, survivors, Downlink(sum_survivors=word))
        await self._wait(attempt.reveals, survivors, HANDSHAKE_S)
        _refuse_below(len(attempt.reveals), least, "answered in the end")
        await self._conclude(attempt, roster, participants, survivors, least)

    async def _open_attempt(self, round_: DeviceRound, standing: tuple[int, bytes], way: Way) -> Attempt:
        self._last_number = max(self._last_number + 1, int(1000 * self._network.unix_time_s()))
        wanted = self._options.devices_per_round + self._options.backups if self._options.devices_per_round else None
        chosen = self._shuffled(round_, self.hall.devices())[: min(wanted or sums.DEVICES_MAX, sums.DEVICES_MAX)]
        attempt = Attempt(number=self._last_number, run_id=self._run_id, round_=round_, devices=dict(enumerate(chosen)))
        await self._open(round_, chosen)
        self._attempt = attempt
        for slot, device in attempt.devices.items():
            attendance = self.hall.present.get(device)
            if attendance is None:
                attempt.gone.add(slot)
                continue
            task = Task(
                round_index=round_.index,
                step=standing[0],
                base=round_.base,
                slot=slot,
                roster_hash=roster_hash(round_.index, chosen),
                deadline_s=self._patience.deadline_s(1) + 2 * HANDSHAKE_S,
                attempt=attempt.number,
            )
            assignment = way(attendance)
            assignment.signed.CopyFrom(sign_task(self._identity, self._run_id, device, task))
            attendance.known = standing
            attendance.send(Downlink(assignment=assignment))
        return attempt

    def _hand_on_shares(self, attempt: Attempt, participants: Sequence[int]) -> None:
        for slot in participants:
            sealed = {sender: attempt.shares[sender][slot] for sender in participants if sender != slot}
            word = SumShares(attempt=attempt.number, sealed=sums.slots_to_wire(sealed))
            self._tell_all(attempt, [slot], Downlink(sum_shares=word))

    async def _conclude(
        self,
        attempt: Attempt,
        roster: tuple[int, ...],
        participants: tuple[int, ...],
        survivors: tuple[int, ...],
        least: int,
    ) -> None:
        """Unmask the sum, put it on disk, and let those behind it know that they count."""
        round_ = attempt.round_
        terms = SumRound(run_id=stream_run_id(self._run_id), round_index=round_.index, roster=roster, threshold=least)
        peers = attempt.public_keys()

        def work() -> F32:
            total = unmask(attempt.uploads, participants, peers, attempt.reveals, terms)
            return decode_mean(total, self._baffle.options, n_roster=len(roster), n=len(survivors))

        mean = await self._network.compute(work, Cost(flops=FLOPS_PER_KEY * len(roster) ** 2))
        behind = [attempt.devices[slot] for slot in survivors]
        summed = Summed(
            round=round_.index,
            base=round_.base,
            mean=mean.astype("<f4").tobytes(),
            devices=[public_key_of(device) for device in behind],
        )
        await self._write([JournalEntry(summed=summed)])
        self._keep(round_, mean, len(survivors))
        for slot in survivors:
            receipt = Receipt(round=round_.index, slot=slot, verdict=Receipt.COUNTED)
            self._tell_all(attempt, [slot], Downlink(receipt=receipt))

    def _keep(self, round_: DeviceRound, mean: F32, n: int) -> None:
        key = RoundKey(round_index=round_.index, round_seed=round_.seed, n_slots=1)
        self.answers.pending[round_.seed, 0] = Contribution(key=key, slot=0, differences=mean)
        self._behind = {name: one for name, one in self._behind.items() if name in self.answers.pending}
        self._behind[round_.seed, 0] = n

    def _tell_all(self, attempt: Attempt, slots: Sequence[int], word: Downlink) -> None:
        for slot in slots:
            attendance = self.hall.present.get(attempt.devices[slot])
            if attendance is not None and slot not in attempt.gone:
                attendance.send(word)

    async def _wait(self, got: Mapping[int, object], wanted: Collection[int], patience_s: float) -> float | None:
        """Until all who are wanted and still here have answered, or time is up.

        Returns: after how long most had; None: they had not.
        """
        attempt, loop = self._attempt, asyncio.get_running_loop()
        assert attempt is not None
        started_s, most_s = loop.time(), None
        while loop.time() < started_s + patience_s:
            self._changed.clear()
            if most_s is None and 2 * sum(slot in got for slot in wanted) > len(wanted):
                most_s = loop.time() - started_s
            for slot, device in attempt.devices.items():
                if device not in self.hall.present:
                    attempt.gone.add(slot)  # its keys are lost with the stream
            if all(slot in got or slot in attempt.gone for slot in wanted):
                break
            await self._change(started_s + patience_s)
        return most_s

    # -- what devices say ------------------------------------------------------------------------

    async def _heard(self, attendance: Attendance, word: Uplink) -> None:
        """Keys, shares and reveals. Raises InvalidMessage, BadSignature for what no honest device sends."""
        kind = word.WhichOneof("kind")
        said = word.sum_keys if kind == "sum_keys" else word.sum_shares if kind == "sum_shares" else word.sum_reveal
        found = self._place(attendance.device, said.attempt)
        if found is not None:
            attempt, slot = found
            attempt.hear(slot, word)
            self._wake()

    async def _submitted(self, attendance: Attendance, signed: Signed) -> None:
        submission: Submission = read_submission(signed, run_id=self._run_id, device=attendance.device)
        found = self._place(attendance.device, submission.attempt)
        if found is None:
            receipt = Receipt(round=submission.round_index, slot=submission.slot, verdict=Receipt.STALE)
            attendance.send(Downlink(receipt=receipt))
            return
        attempt, slot = found
        attempt.take_upload(slot, submission, self._baffle.options.K)
        self._wake()

    def _place(self, device: PeerId, number: int) -> tuple[Attempt, int] | None:
        """The present attempt and the device's slot, if that is what it speaks of."""
        attempt = self._attempt
        slot = attempt.slot_of(device) if attempt is not None and attempt.number == number else None
        return None if attempt is None or slot is None else (attempt, slot)

    def _abandoned(self, attendance: Attendance, message: object) -> None:
        attempt = self._attempt
        slot = attempt.slot_of(attendance.device) if attempt is not None else None
        if attempt is not None and slot is not None:
            attempt.gone.add(slot)
        self._wake()


def _refuse_below(n: int, least: int, what: str) -> None:
    if n < least:
        raise TooFewContributions(f"{n} devices {what}, {least} are needed")
