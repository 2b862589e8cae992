"""What of a gateway's journal is still of use when it is rewritten."""

from __future__ import annotations

from collections.abc import Collection

from ...protocol.edge_pb2 import Accepted, JournalEntry, SubmissionBody
from .answers import DeviceRound, Name
from .journal import Keep


def keeper(rounds: Collection[DeviceRound], pending: Collection[Name], *, oldest_step: int) -> Keep:
    """What to keep, as of now.

    Args:
        rounds: those of which something can still be said.
        pending: answers that are in no update.
        oldest_step: updates up to there are in every checkpoint that is kept.
    """
    oldest_round = min((round_.index for round_ in rounds), default=0)
    spent = {
        (round_.index, round_.base, slot)
        for round_ in rounds
        for slot in round_.counted
        if (round_.seed, slot) not in pending
    }

    def keep(entry: JournalEntry) -> JournalEntry | None:
        match entry.WhichOneof("kind"):
            case "applied":
                return entry if entry.applied.step_after > oldest_step else None
            case "accepted":
                body = SubmissionBody.FromString(entry.accepted.body)
                kept = entry if (body.round, body.base, body.slot) not in spent else _spent(entry.accepted, body)
                return kept if body.round >= oldest_round else None
            case kind:
                return entry if getattr(entry, kind or "").round >= oldest_round else None

    return keep


def _spent(accepted: Accepted, body: SubmissionBody) -> JournalEntry:
    """What is left of an answer that is part of an update: that it must not count again."""
    body.ClearField("scalars")
    return JournalEntry(accepted=Accepted(device=accepted.device, body=body.SerializeToString(), spent=True))
