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

KEPT_MAX = 16
"""The oldest give way: a gateway takes nothing that is so late."""


class Outbox:
    """Signed submissions by (round, slot, base), oldest first."""

    def __init__(self, path: Path, device: PeerId) -> None:
        """A file that cannot be read is begun anew: what it held can only be lost, not counted twice."""
        self._path = path
        self._waiting: dict[tuple[int, int, bytes], Signed] = {}
        for signed in _read(path):
            try:
                self._waiting[_name(read_submission_body(signed.body, device))] = signed
            except InvalidMessage:
                continue

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> list[Signed]:
        return list(self._waiting.values())

    def find(self, round_index: int, slot: int, base: bytes) -> Signed | None:
        """What was measured there, if it was."""
        return self._waiting.get((round_index, slot, base))

    def add(self, submission: Submission, signed: Signed) -> None:
        """Keep a submission, durably. Raises OSError."""
        self._waiting[_name(submission)] = signed
        while len(self._waiting) > KEPT_MAX:
            del self._waiting[next(iter(self._waiting))]
        self._save()

    def remove(self, round_index: int, slot: int) -> bool:
        """The gateway has answered for it; False if it was not here."""
        names = [name for name in self._waiting if name[:2] == (round_index, slot)]
        for name in names:
            del self._waiting[name]
        if names:
            self._save(durable=False)  # after a crash it is offered once more, and counts once
        return bool(names)

    def _save(self, *, durable: bool = True) -> None:
        message = OutboxMessage(submissions=self._waiting.values())
        write_atomically(self._path, message.SerializeToString(), mode=0o600, durable=durable)


def _name(submission: Submission) -> tuple[int, int, bytes]:
    return submission.round_index, submission.slot, submission.base


def _read(path: Path) -> list[Signed]:
    try:
        return list(OutboxMessage.FromString(path.read_bytes()).submissions) if path.exists() else []
    except (OSError, DecodeError):
        return []
