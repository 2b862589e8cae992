"""What devices answered: what counts, what waits for an update, and what an earlier life wrote down.

A submission counts if that device was asked for that slot at that state, once, and is on disk before the device hears
so. One that comes late waits for the next update, unless it is too old.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from ...algorithms.device_method import Answer, DeviceMethod
from ...algorithms.errors import BadPayload
from ...algorithms.forward import RoundKey
from ...algorithms.forward.exchange import DEVICES_MAX
from ...protocol.devices import Submission, read_submission_body, roster_message, round_seed
from ...protocol.edge_pb2 import Accepted, JournalEntry, Receipt, Signed
from ...protocol.errors import InvalidMessage, StateError
from ...protocol.identity import PeerId, peer_id_of, public_key_of
from ...protocol.network import Cost, Network
from .options import STALENESS_LIMIT
from .spool import Spool, name_of

REFUSALS_TOLD_MAX = 100
"""Of one device: the log is not a device's to fill."""

Name = tuple[bytes, int]
"""Of an answer: its round's seed, and its slot."""
Write = Callable[[Sequence[JournalEntry]], Awaitable[None]]
"""Puts journal entries on disk; raises StateError if it cannot."""
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


class Answers:
    """The recent rounds, and what was answered in them.

    Args:
        gateway: whose rounds they are.
        network: for maths.
        spool: holds long answers.
        tell: hears, in one line, what was refused and from whom.
        audit: looks a submission over before it counts, and says what is wrong with it.
    """

    def __init__(
        self,
        *,
        gateway: PeerId,
        run_id: str,
        method: DeviceMethod,
        network: Network,
        spool: Spool,
        staleness_max: int,
        write: Write,
        tell: Callable[[PeerId, str], None],
        audit: Audit | None = None,
    ) -> None:
        self.pending: dict[Name, Answer] = {}
        """Accepted, and not yet part of an update."""
        self.taken: frozenset[Name] = frozenset()
        """What the last payload was made of."""
        self.losses: list[float] = []
        """Of the contributions that came since the last round closed."""
        self.open: DeviceRound | None = None
        """The round that is under way."""
        self._gateway, self._run_id, self._method, self._network = gateway, run_id, method, network
        self._staleness_max, self._write, self._tell, self._audit = staleness_max, write, tell, audit
        self._rounds: dict[tuple[int, bytes], DeviceRound] = {}
        self._spool = spool
        self._files: dict[Name, str] = {}
        """Where the long ones of those that are pending are kept."""
        self.held: dict[object, str] = {}
        """Files of long ones that are being looked at, by who does."""
        self._keeping: dict[Name, asyncio.Task[Receipt.Verdict]] = {}
        """What is on its way to the disk."""
        self._n_refused: Counter[PeerId] = Counter()

    # -- rounds ----------------------------------------------------------------------------------

    def opened(self, index: int, base: bytes) -> DeviceRound:
        """The round at this state; made if it is new."""
        if (index, base) not in self._rounds:
            seed = round_seed(self._run_id, self._gateway, index, base)
            # Contributions name their round by its index alone: of another state with this index nothing can stay.
            self._rounds = {name: one for name, one in self._rounds.items() if name[0] != index}
            self.pending = {name: one for name, one in self.pending.items() if one.key.round_index != index}
            self._rounds[index, base] = DeviceRound(index=index, base=base, seed=seed)
        return self._rounds[index, base]

    @property
    def rounds(self) -> Collection[DeviceRound]:
        """Those of which something can still be said."""
        return self._rounds.values()

    def find(self, index: int, base: bytes) -> DeviceRound | None:
        return self._rounds.get((index, base))

    def roster_of(self, index: int) -> bytes:
        """The DeviceRoster of a recent round. Raises InvalidMessage."""
        for round_ in reversed(self._rounds.values()):
            if round_.index == index:
                return roster_message(index, round_.roster)
        raise InvalidMessage(f"the roster of round {index} is not kept any more")

    # -- one answer ------------------------------------------------------------------------------

    def first_look(self, device: PeerId, submission: Submission) -> Receipt.Verdict | None:
        """The verdict that needs no look at the scalars, if there is one."""
        round_, slot = self.find(submission.round_index, submission.base), submission.slot
        if round_ is None:
            known = submission.round_index <= self._newest()
            return Receipt.STALE if known else self._refuse(device, f"round {submission.round_index} was never opened")
        if slot >= len(round_.roster) or round_.roster[slot] != device:
            return self._refuse(device, f"slot {slot} of round {round_.index} is another device's")
        if slot in round_.counted:
            return Receipt.COUNTED
        if submission.length > self._method.answer_bytes_max:
            return self._refuse(device, f"{submission.length} bytes are more than any answer in this run has")
        return Receipt.STALE if round_ is not self.open and self.is_past(round_.index) else None

    async def judge(self, device: PeerId, signed: Signed, submission: Submission) -> Receipt.Verdict | None:
        """What becomes of a submission; None if it could not be written down: the device will offer it again.

        Args: submission: if it is long, its scalars are in the spool.
        """
        verdict, round_ = self.first_look(device, submission), self.find(submission.round_index, submission.base)
        if verdict is not None or round_ is None:
            return verdict
        try:
            answer = await self._read(round_, submission)
            wrong = await self._audit(device, submission, answer, round_.seed) if self._audit is not None else None
            if wrong is not None:
                return self._refuse(device, wrong)
            entry = JournalEntry(accepted=Accepted(device=public_key_of(device), body=signed.body))
            # Its device may leave meanwhile: what is in the journal counts nevertheless.
            return await asyncio.shield(self._begin_to_keep(round_, submission, answer, entry))
        except BadPayload as error:
            return self._refuse(device, str(error))
        except StateError as error:
            self._tell(device, f"its submission was not kept: {error}")
            return None

    def _begin_to_keep(
        self, round_: DeviceRound, submission: Submission, answer: Answer, entry: JournalEntry
    ) -> asyncio.Task[Receipt.Verdict]:
        """One answer a slot is on its way to the disk, however often it is offered."""
        name = round_.seed, submission.slot
        if name not in self._keeping:
            keeping = self._keep(round_, submission, answer, entry)
            task = self._keeping[name] = asyncio.create_task(keeping, name="an answer's way to the journal")
            task.add_done_callback(lambda _: self._keeping.pop(name))
        return self._keeping[name]

    async def _keep(
        self, round_: DeviceRound, submission: Submission, answer: Answer, entry: JournalEntry
    ) -> Receipt.Verdict:
        keeper = object()
        if submission.is_long:
            self.held[keeper] = name_of(submission)
        try:
            await self._write([entry])
        finally:
            self.held.pop(keeper, None)
        if self.find(round_.index, round_.base) is not round_:
            return Receipt.STALE  # the group has gone over to another state meanwhile
        if submission.slot not in round_.counted:
            self._count(round_, submission, answer)
        return Receipt.COUNTED

    async def _read(self, round_: DeviceRound, submission: Submission) -> Answer:
        if not submission.is_long:
            return self._method.read(round_.key, submission.slot, submission.scalars)
        return await self._network.compute(lambda: self._read_long(round_, submission), Cost())

    def _read_long(self, round_: DeviceRound, submission: Submission) -> Answer:
        # Methods read payloads as buffers.
        scalars: bytes = self._spool.view(name_of(submission))  # type: ignore[assignment]
        return self._method.read(round_.key, submission.slot, scalars)

    def _count(self, round_: DeviceRound, submission: Submission, answer: Answer) -> None:
        round_.counted[submission.slot] = submission.loss
        self.pending[round_.seed, submission.slot] = answer
        if submission.is_long:
            self._files[round_.seed, submission.slot] = name_of(submission)
        self.losses.append(submission.loss)

    def is_past(self, index: int) -> bool:
        """Whether a round is so old that no answer to it counts."""
        return self._newest() - index > self._staleness_max

    def _newest(self) -> int:
        return max((index for index, _ in self._rounds), default=0)

    def _refuse(self, device: PeerId, reason: str) -> Receipt.Verdict:
        self._n_refused[device] += 1
        if self._n_refused[device] <= REFUSALS_TOLD_MAX:
            self._tell(device, f"submission refused: {reason}")
        return Receipt.REFUSED

    # -- updates ---------------------------------------------------------------------------------

    def take(self) -> tuple[Answer, ...]:
        """What is pending, for a payload; the oldest, where one cannot hold all."""
        ordered = sorted(self.pending, key=lambda name: (self.pending[name].key.round_index, name))[:DEVICES_MAX]
        self.taken = frozenset(ordered)
        return tuple(self.pending[name] for name in ordered)

    def part_of(self, counted: frozenset[Name]) -> frozenset[Name]:
        """What of that which is pending is part of an update.

        Args: counted: what its payloads say, by slots of the perturbation stream.
        Where a slot of the stream is all devices', what came too late for the payload is told apart by what was taken.
        """
        seeds = {seed for seed, _ in self.taken}
        said = (name for name in self.pending if (name[0], self._method.stream_slot(name[1])) in counted)
        return frozenset(name for name in said if name in self.taken or name[0] not in seeds)

    def retire(self, spent: Collection[Name], index: int) -> None:
        """Forget what has become part of an update, and what can never become part of one any more.

        Its files stay until the next `sweep`.
        """
        self.losses.clear()
        self.pending = {
            name: one
            for name, one in self.pending.items()
            if name not in spent and index - one.key.round_index < STALENESS_LIMIT
        }
        for name in [name for name in self._rounds if name[0] < index - 2 * STALENESS_LIMIT]:
            del self._rounds[name]

    # -- what is of no use any more --------------------------------------------------------------

    def drop_device(self, device: PeerId) -> None:
        """Forget what a device submitted and what is not yet part of an update."""
        for round_ in self._rounds.values():
            if device in round_.roster:
                self.pending.pop((round_.seed, round_.roster.index(device)), None)
        self.sweep()

    def drop_pending(self) -> int:
        """Forget what was accepted: whether it is part of an update can't be known any more."""
        n_dropped = len(self.pending)
        self.pending.clear()
        self.sweep()
        return n_dropped

    def keep_only(self, seed: bytes) -> None:
        """Forget what is pending of all rounds but one."""
        self.pending = {name: one for name, one in self.pending.items() if name[0] == seed}

    def sweep(self) -> None:
        """Remove the files of answers that are not pending."""
        self._files = {name: file for name, file in self._files.items() if name in self.pending}
        self._spool.keep_only({*self._files.values(), *self.held.values()})

    # -- the journal -----------------------------------------------------------------------------

    def restore(self, entry: JournalEntry) -> None:
        """Take in what an earlier life wrote down."""
        if entry.HasField("opened"):
            round_ = self.opened(entry.opened.round, entry.opened.base)
            round_.roster = [peer_id_of(key) for key in entry.opened.devices]
        elif entry.HasField("accepted"):
            self._restore_answer(entry.accepted)

    def _restore_answer(self, accepted: Accepted) -> None:
        submission = read_submission_body(accepted.body, peer_id_of(accepted.device))
        kept, slot = self.find(submission.round_index, submission.base), submission.slot
        if kept is None or slot >= len(kept.roster) or slot in kept.counted:
            return
        if accepted.spent or (submission.is_long and not self._spool.has(name_of(submission))):
            kept.counted[slot] = submission.loss  # a file is removed only when what it held is part of an update
        elif submission.is_long:
            self._count(kept, submission, self._read_long(kept, submission))
        else:
            self._count(kept, submission, self._method.read(kept.key, slot, submission.scalars))
