"""What devices answered: what counts, what waits for an update, and what an earlier life wrote down.

A submission counts if that device was asked for that slot at that state, once, and is on disk before the device hears
so. One that comes late waits for the next update, unless it is too old.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ...algorithms.device_method import Answer, DeviceMethod
from ...algorithms.errors import BadPayload
from ...algorithms.forward import RoundKey
from ...protocol.devices import Submission, read_submission_body, roster_message, round_seed
from ...protocol.edge_pb2 import Accepted, JournalEntry, Receipt, Signed, SubmissionBody
from ...protocol.errors import InvalidMessage, StateError
from ...protocol.identity import PeerId, peer_id_of, public_key_of
from ...protocol.network import Cost, Network
from .journal import Keep
from .options import STALENESS_LIMIT
from .spool import Spool, name_of

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
        self.pending: dict[tuple[bytes, int], Answer] = {}
        """Accepted, and not yet part of an update; by seed and slot."""
        self.losses: list[float] = []
        """Of the contributions that came since the last round closed."""
        self.open: DeviceRound | None = None
        """The round that is under way."""
        self._gateway, self._run_id, self._method, self._network = gateway, run_id, method, network
        self._staleness_max, self._write, self._tell, self._audit = staleness_max, write, tell, audit
        self._rounds: dict[tuple[int, bytes], DeviceRound] = {}
        self._spool = spool
        self._files: dict[tuple[bytes, int], str] = {}
        """Where the long ones of those that are pending are kept."""
        self.held: set[str] = set()
        """Files of long ones that are being looked at."""

    # -- rounds ----------------------------------------------------------------------------------

    def opened(self, index: int, base: bytes) -> DeviceRound:
        """The round at this state; made if it is new."""
        if (index, base) not in self._rounds:
            seed = round_seed(self._run_id, self._gateway, index, base)
            self._rounds[index, base] = DeviceRound(index=index, base=base, seed=seed)
            # Contributions name their round by its index alone: those of another state with this index cannot stay.
            stale = [name for name, one in self.pending.items() if one.key.round_index == index and name[0] != seed]
            for name in stale:
                del self.pending[name]
        return self._rounds[index, base]

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
            await self._write([JournalEntry(accepted=Accepted(device=public_key_of(device), body=signed.body))])
        except BadPayload as error:
            return self._refuse(device, str(error))
        except StateError as error:
            self._tell(device, f"its submission was not kept: {error}")
            return None
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
        self._tell(device, f"submission refused: {reason}")
        return Receipt.REFUSED

    # -- what is of no use any more --------------------------------------------------------------

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
        self.sweep()

    def _is_counted(self, name: tuple[bytes, int], counted: frozenset[tuple[bytes, int]]) -> bool:
        return (name[0], self._method.stream_slot(name[1])) in counted

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

    def sweep(self) -> None:
        """Remove the files of answers that are not pending."""
        self._files = {name: file for name, file in self._files.items() if name in self.pending}
        self._spool.keep_only({*self._files.values(), *self.held})

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

    def keeper(self) -> Keep:
        """What of rounds' entries the journal has to keep, as of now."""
        oldest = min((index for index, _ in self._rounds), default=0)
        spent = {
            (round_.index, round_.base, slot)
            for round_ in self._rounds.values()
            for slot in round_.counted
            if (round_.seed, slot) not in self.pending
        }

        def keep(entry: JournalEntry) -> JournalEntry | None:
            kind = entry.WhichOneof("kind")
            if kind != "accepted":
                return entry if getattr(entry, kind or "").round >= oldest else None
            body = SubmissionBody.FromString(entry.accepted.body)
            if body.round < oldest or (body.round, body.base, body.slot) not in spent:
                return entry if body.round >= oldest else None
            body.ClearField("scalars")
            stub = Accepted(device=entry.accepted.device, body=body.SerializeToString(), spent=True)
            return JournalEntry(accepted=stub)

        return keep
