"""What a round comes down to: seeds, a learning rate and scalars, from which every replica takes the same step.

A replay is what the gateway sends instead of weights. Little-endian:

    u32 step | f32 learning rate | u32 K | u8 number of parts, then per part (one, or one more per round of stragglers):
    32 bytes round seed | u32 round | u32 roster size | bitmap of contributing slots | f32 [n_contributors, K]

At most 4 K C + 256 bytes for C contributors of one round and a roster of up to 1,600.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import BadPayload
from ..single_bits import bytes_of_bits, pack_bits, unpack_bits
from .stream import PERTURBATIONS_MAX, ROUNDS_MAX, SEED_BYTES, SLOTS_MAX

F32 = npt.NDArray[np.float32]

PARTS_MAX: Final = 16
SCALAR_ABS_MAX: Final = 1e30
_HEAD: Final = struct.Struct("<IfIB")
_PART: Final = struct.Struct(f"<{SEED_BYTES}sII")


@dataclass(frozen=True, kw_only=True)
class Part:
    """The contributions that were measured in one round."""

    round_seed: bytes
    round_index: int
    n_slots: int
    """Size of that round's roster (1 in shared mode)."""
    slots: tuple[int, ...]
    """Who contributed, ascending."""
    scalars: F32
    """float32 [len(slots), K]: the factor of each perturbation in the gradient, all averaging and clipping done."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One update of the weights."""

    step: int
    """Updates before this one."""
    learning_rate: float
    """Exact in float32: a cosine computed on each machine would differ in its last bit."""
    parts: tuple[Part, ...]
    """By ascending round, at least one."""

    def to_bytes(self) -> bytes:
        """For the wire, and for a signature."""
        K = self.parts[0].scalars.shape[1]
        head = _HEAD.pack(self.step, self.learning_rate, K, len(self.parts))
        return head + b"".join(_part_to_bytes(part) for part in self.parts)

    @classmethod
    def from_bytes(cls, data: bytes, *, K: int) -> Replay:
        """The replay again, from bytes that came from outside.

        Args:
            K: the run's perturbations per slot.
        Raises: BadPayload for anything that `to_bytes` could not have made.
        """
        if len(data) < _HEAD.size:
            raise BadPayload(f"a replay has at least {_HEAD.size} bytes, not {len(data)}")
        step, learning_rate, its_k, n_parts = _HEAD.unpack_from(data)
        if its_k != K or not 1 <= K <= PERTURBATIONS_MAX or not 1 <= n_parts <= PARTS_MAX:
            raise BadPayload(f"a replay of {n_parts} parts with K = {its_k}: expected 1 to {PARTS_MAX} with K = {K}")
        if not 0 <= learning_rate <= 100:
            raise BadPayload(f"learning rate {learning_rate} is outside 0 to 100")
        parts, at = [], _HEAD.size
        for _ in range(n_parts):
            part, at = _part_from_bytes(data, at, K)
            parts.append(part)
        if at != len(data) or any(a.round_index >= b.round_index for a, b in itertools.pairwise(parts)):
            raise BadPayload("a replay ends with its last part, and its rounds ascend")
        return cls(step=step, learning_rate=learning_rate, parts=tuple(parts))


def write_roster(round_seed: bytes, round_index: int, n_slots: int, slots: Sequence[int]) -> bytes:
    """What a part begins with: the round, and who of its roster contributed."""
    present = np.zeros(n_slots, np.bool_)
    present[list(slots)] = True
    return _PART.pack(round_seed, round_index, n_slots) + pack_bits(present)


def read_roster(data: bytes, at: int) -> tuple[bytes, int, int, tuple[int, ...], int]:
    """Round seed, round, roster size, contributing slots, and where the part goes on.

    Raises: BadPayload.
    """
    if len(data) - at < _PART.size:
        raise BadPayload(f"a replay ends within a part, at byte {len(data)}")
    seed, round_index, n_slots = _PART.unpack_from(data, at)
    at += _PART.size
    if not 1 <= n_slots <= SLOTS_MAX or not round_index < ROUNDS_MAX:
        raise BadPayload(f"a roster of {n_slots} in a replay: expected 1 to {SLOTS_MAX}")
    stop = at + bytes_of_bits(n_slots)
    try:
        slots = tuple(int(slot) for slot in np.flatnonzero(unpack_bits(data[at:stop], n_slots)))
    except ValueError as error:
        raise BadPayload(f"the contributors of a replay: {error}") from error
    if not slots:
        raise BadPayload("a part of a replay has no contributor")
    return seed, round_index, n_slots, slots, stop


def _part_to_bytes(part: Part) -> bytes:
    head = write_roster(part.round_seed, part.round_index, part.n_slots, part.slots)
    return head + part.scalars.astype("<f4").tobytes()


def _part_from_bytes(data: bytes, at: int, K: int) -> tuple[Part, int]:
    seed, round_index, n_slots, slots, at = read_roster(data, at)
    stop = at + 4 * K * len(slots)
    if len(data) < stop:
        raise BadPayload(f"a replay lacks scalars: {len(slots)} contributors need {4 * K * len(slots)} bytes")
    scalars = np.frombuffer(data[at:stop], "<f4").astype(np.float32).reshape(len(slots), K)
    if not np.all(np.abs(scalars) <= SCALAR_ABS_MAX):
        raise BadPayload("a replay holds scalars that are not finite")
    part = Part(round_seed=seed, round_index=round_index, n_slots=n_slots, slots=slots, scalars=scalars)
    return part, stop
