"""Microbatches that a replica has worked on alone: counted in a local step, and not yet in an agreed one.

Between two agreed steps what a microbatch did at a stage is in one replica's drift, and dies with it. So every replica
of every stage keeps the same list of who holds what. What nobody on the roster holds any more is *owed*: it is passed
once more, counted at that stage alone, and is then its new holder's. An agreed step settles what its contributors held.
docs/design/0004-pipelines.md, "Local steps".

The list is a tensor of fixed size within the stage's state, so that snapshots, checkpoints and digests cover it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from ..rounds.counts import Count
from ..rounds.roster import Member, Roster

ROWS_MAX = 16_384
ROW_BYTES = 4 * 8


@dataclass(frozen=True, kw_only=True, order=True)
class Owed:
    """A microbatch that a stage has lost."""

    stage: int
    step: int
    index: int
    """Within that step."""


class Unsettled:
    """Who holds what.

    Args:
        rows_max: so many at most; beyond that the oldest are given up.
    """

    def __init__(self, rows_max: int) -> None:
        self.tensor = torch.zeros((rows_max, 4), dtype=torch.int64)
        """int64 [rows_max, 4]: holder (0: no row), stage, step, index; ascending, filled from the start."""

    def owed(self, roster: Roster, n_max: int) -> tuple[Owed, ...]:
        """What nobody holds who is on the roster, the oldest first."""
        here = {key_of(member) for member in roster.members}
        lost = [one for holder, one in self._rows() if holder not in here]
        return tuple(sorted(lost, key=lambda one: (one.step, one.stage, one.index))[:n_max])

    def holders(self, roster: Roster) -> tuple[int, ...]:
        """Slots of members that hold something, ascending."""
        keys = {holder for holder, _ in self._rows()}
        return tuple(slot for slot, member in enumerate(roster.members) if key_of(member) in keys)

    def count(self, counts: Iterable[Count], roster: Roster, *, step: int, n_microbatches: int, closes: bool) -> None:
        """A step was decided.

        Args:
            step: updates before it.
            closes: whether it is an agreed one, in which all that its contributors held is settled.
        """
        owed = self.owed(roster, n_microbatches)
        rows = {one: holder for holder, one in self._rows()}
        settled = set()
        for count in counts:
            member = roster.members[count.slot]
            settled.add(key_of(member))
            for index, _ in count.names:
                fresh = Owed(stage=member.stage, step=step, index=index)
                rows[fresh if index < n_microbatches else owed[index - n_microbatches]] = key_of(member)
        left = [(holder, one) for one, holder in rows.items() if not (closes and holder in settled)]
        self._write(left)

    def clear(self) -> None:
        self.tensor.zero_()

    def __len__(self) -> int:
        return int((self.tensor[:, 0] != 0).sum())

    def to_bytes(self) -> bytes:
        """Without the empty rows."""
        data: bytes = self.tensor[: len(self)].numpy().astype("<i8").tobytes()
        return data

    def take(self, data: bytes, *, n_stages: int, n_microbatches: int, step: int) -> None:
        """What another's `to_bytes` gave after `step` updates. Raises ValueError; nothing is changed then."""
        if len(data) % ROW_BYTES or len(data) > self.tensor.numel() * 8:
            raise ValueError(f"a list of unsettled microbatches of {len(data)} bytes: not taken over")
        rows = torch.from_numpy(np.frombuffer(data, "<i8").astype(np.int64).reshape(-1, 4))
        _check(rows, n_stages=n_stages, n_microbatches=n_microbatches, step=step)
        self.clear()
        self.tensor[: len(rows)] = rows

    def check(self, *, n_stages: int, n_microbatches: int, step: int) -> None:
        """See that a list that came within a state can be that of `step` updates. Raises ValueError."""
        _check(self.tensor[: len(self)], n_stages=n_stages, n_microbatches=n_microbatches, step=step)

    def _rows(self) -> list[tuple[int, Owed]]:
        told: Sequence[Sequence[int]] = self.tensor[: len(self)].tolist()
        return [(holder, Owed(stage=stage, step=step, index=index)) for holder, stage, step, index in told]

    def _write(self, rows: list[tuple[int, Owed]]) -> None:
        newest = sorted(rows, key=lambda row: (row[1].step, row[1].stage, row[1].index))[-len(self.tensor) :]
        self.clear()
        for place, (holder, one) in enumerate(newest):
            self.tensor[place] = torch.tensor([holder, one.stage, one.step, one.index])


def _check(rows: torch.Tensor, *, n_stages: int, n_microbatches: int, step: int) -> None:
    bounds = torch.tensor([n_stages, step, n_microbatches])
    if (rows[:, 0] < 1).any() or (rows[:, 1:] < 0).any() or (rows[:, 1:] >= bounds).any():
        raise ValueError("a list of unsettled microbatches that this run has not made: not taken over")
    told = [(at, stage, index) for _, stage, at, index in rows.tolist()]
    if any(one >= following for one, following in pairwise(told)):
        raise ValueError("a list of unsettled microbatches that is not in order: not taken over")


def key_of(member: Member) -> int:
    """One life of one peer at one stage, as a positive number of 63 bits."""
    text = f"{member.peer} {member.incarnation} {member.stage}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1 | 1
