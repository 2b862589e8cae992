"""How votes travel: five to a byte, as digits of base 3; and the replay of a fixed-point round.

u32 step | u8 m | u8 number of parts, then per part:
32 bytes round seed | u32 round | u32 roster size | bitmap of contributing slots | votes of all, in slot order
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ...errors import BadPayload
from ..replay import PARTS_MAX, read_roster, write_roster

I8 = npt.NDArray[np.int8]

_HEAD: Final = struct.Struct("<IBB")
_PLACES: Final = np.array([1, 3, 9, 27, 81], np.int64)


def votes_bytes(n: int) -> int:
    """Length of `n` packed votes."""
    return (n + 4) // 5


def encode_votes(votes: I8) -> bytes:
    """Pack votes of -1, 0 and 1, int8 [n]."""
    digits = np.zeros(5 * votes_bytes(votes.size), np.int64)
    digits[: votes.size] = votes.reshape(-1) + 1
    return (digits.reshape(-1, 5) @ _PLACES).astype(np.uint8).tobytes()


def decode_votes(payload: bytes, n: int) -> I8:
    """The `n` votes again, int8 [n].

    Raises: BadPayload for anything that `encode_votes` could not have made.
    """
    packed = np.frombuffer(payload, np.uint8).astype(np.int64)
    if len(packed) != votes_bytes(n) or packed.max(initial=0) >= 3**5:
        raise BadPayload(f"{len(packed)} bytes are not {n} votes: expected {votes_bytes(n)} bytes below {3**5}")
    digits = (packed[:, None] // _PLACES % 3).reshape(-1)
    if digits[n:].any():
        raise BadPayload("padding votes are set")
    return (digits[:n] - 1).astype(np.int8)


@dataclass(frozen=True, kw_only=True)
class VotePart:
    """The votes that were cast in one round."""

    round_seed: bytes
    round_index: int
    n_slots: int
    slots: tuple[int, ...]
    """Who voted, ascending."""
    votes: I8
    """int8 [len(slots), m]."""


@dataclass(frozen=True, kw_only=True)
class VoteReplay:
    """One update of the weights."""

    step: int
    """Updates before this one: it fixes how far a vote moves a weight."""
    parts: tuple[VotePart, ...]
    """By ascending round, at least one."""

    def to_bytes(self) -> bytes:
        """For the wire, and for a signature."""
        data = _HEAD.pack(self.step, self.parts[0].votes.shape[1], len(self.parts))
        for part in self.parts:
            data += write_roster(part.round_seed, part.round_index, part.n_slots, part.slots)
            data += encode_votes(part.votes)
        return data

    @classmethod
    def from_bytes(cls, data: bytes, *, n_votes: int) -> VoteReplay:
        """The replay again, from bytes that came from outside.

        Args:
            n_votes: the run's m.
        Raises: BadPayload for anything that `to_bytes` could not have made.
        """
        if len(data) < _HEAD.size:
            raise BadPayload(f"a replay has at least {_HEAD.size} bytes, not {len(data)}")
        step, its_votes, n_parts = _HEAD.unpack_from(data)
        if its_votes != n_votes or n_votes < 1 or not 1 <= n_parts <= PARTS_MAX:
            raise BadPayload(f"a replay of {n_parts} parts with m = {its_votes}: expected 1 to {PARTS_MAX}, {n_votes}")
        parts: list[VotePart] = []
        at = _HEAD.size
        for _ in range(n_parts):
            seed, round_index, n_slots, slots, at = read_roster(data, at)
            stop = at + votes_bytes(len(slots) * n_votes)
            votes = decode_votes(data[at:stop], len(slots) * n_votes).reshape(len(slots), n_votes)
            if parts and parts[-1].round_index >= round_index:
                raise BadPayload("the rounds of a replay ascend")
            part = VotePart(round_seed=seed, round_index=round_index, n_slots=n_slots, slots=slots, votes=votes)
            parts.append(part)
            at = stop
        if at != len(data):
            raise BadPayload("a replay ends with its last part")
        return cls(step=step, parts=tuple(parts))
