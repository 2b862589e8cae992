"""What was measured and is not known to have arrived: on disk before it is sent, lest a crash lose or double it."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError

from ..protocol.atomic import write_atomically
from ..protocol.devices import Submission, read_submission_body
from ..protocol.edge_pb2 import Outbox as OutboxMessage
from ..protocol.edge_pb2 import Signed
from ..protocol.errors import InvalidMessage
from ..protocol.identity import PeerId
from .long_answers import LongAnswers

KEPT_MAX = 16
"""The oldest give way: a gateway takes nothing that is so late."""
LONG_KEPT_MAX = 2
"""Of long ones, which take room."""

Name = tuple[int, int, bytes]
"""Round, slot, base."""


class Outbox:
    """Signed submissions by (round, slot, base), oldest first; of long ones the scalars are in a folder beside it."""

    def __init__(self, path: Path, device: PeerId) -> None:
        """A file that cannot be read is begun anew: what it held can only be lost, not counted twice."""
        self.long = LongAnswers(path.with_name(path.name + ".long"))
        self._path = path
        self._waiting: dict[Name, tuple[Submission, Signed]] = {}
        for signed in _read(path):
            try:
                submission = read_submission_body(signed.body, device)
            except InvalidMessage:
                continue
            if not submission.is_long or self.long.has(submission):
                self._waiting[_name(submission)] = (submission, signed)
        self.long.keep_only(submission for submission, _ in self.waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> list[tuple[Submission, Signed]]:
        return list(self._waiting.values())

    def find(self, round_index: int, slot: int, base: bytes) -> tuple[Submission, Signed] | None:
        """What was measured there, if it was."""
        return self._waiting.get((round_index, slot, base))

    def add(self, submission: Submission, signed: Signed, scalars: bytes | memoryview = b"") -> None:
        """Keep a submission, durably unless it is a long one. Raises StateError, DiskFull.

        Args: scalars: of a long one.
        """
        self._forget(_name(submission))
        if submission.is_long:
            self.long.keep(submission, scalars)
        self._waiting[_name(submission)] = (submission, signed)
        self._give_way([name for name, (one, _) in self._waiting.items() if one.is_long], LONG_KEPT_MAX)
        self._give_way(list(self._waiting), KEPT_MAX)
        self._save(durable=not submission.is_long)

    def remove(self, round_index: int, slot: int) -> bool:
        """The gateway has answered for it; False if it was not here."""
        names = [name for name in self._waiting if name[:2] == (round_index, slot)]
        gone = [self._waiting.pop(name)[0] for name in names]
        if names:
            self._save(durable=False)  # after a crash it is offered once more, and counts once
        for submission in gone:
            self.long.remove(submission)
        return bool(names)

    def _give_way(self, names: list[Name], kept_max: int) -> None:
        for name in names[: max(0, len(names) - kept_max)]:
            self._forget(name)

    def _forget(self, name: Name) -> None:
        before = self._waiting.pop(name, None)
        if before is not None:
            self.long.remove(before[0])

    def _save(self, *, durable: bool = True) -> None:
        message = OutboxMessage(submissions=[signed for _, signed in self.waiting])
        write_atomically(self._path, message.SerializeToString(), mode=0o600, durable=durable)


def _name(submission: Submission) -> Name:
    return submission.round_index, submission.slot, submission.base


def _read(path: Path) -> list[Signed]:
    try:
        return list(OutboxMessage.FromString(path.read_bytes()).submissions) if path.exists() else []
    except (OSError, DecodeError):
        return []
