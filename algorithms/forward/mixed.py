"""Contributions to a federated round of devices that backpropagate and of those that cannot, as one payload.

    u8 kinds: 1 forward, 2 changes, 3 both
    forward   u32 length | a replay (seeds and scalars)
    changes   u8 parts, and per part the round's seed, index, roster size and bitmap of contributors
              u32 samples | f32 [n] mean change of the weights

What one device answers: u32 kind | f32 [K] differences (1) or f32 [n] its change (2).

A device that can backpropagate does some local steps and sends how its weights changed. A forward gradient g stands for
the change that such steps would make to first order, -local_lr * local_steps * g. The update is the weighted mean of
the changes, in roster order: a change counts by the samples behind it, a forward gradient from d directions in n
dimensions for d / (d + n) of its samples (see `exchange`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import BadPayload
from ..options import require
from .baffle import BaffleOptions
from .exchange import DEVICES_MAX
from .federated import RULES, FederatedOptions, is_bounded
from .replay import PARTS_MAX, Replay, read_roster, write_roster
from .replica import gradient_of

F32 = npt.NDArray[np.float32]

FORWARD: Final = 1
CHANGES: Final = 2
SAMPLES_MAX: Final = 2**24
KIND_BYTES: Final = 4
"""Of an answer's kind: a whole word, so that the floats behind it are aligned."""
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, kw_only=True)
class MixedOptions:
    """Options of a federated run. The server's learning rate and its schedule are the run's."""

    rule: str = "fedavg"
    """fedavg, fedprox, fedadam or fedyogi. With fedavg and fedprox a learning rate of 1 is plain averaging."""
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    """fedadam and fedyogi: floor of the root of the second moment."""
    mu: float = 0.01
    """fedprox: pull towards the round's first weights."""
    local_steps: int = 5
    local_lr: float = 0.1
    batch_size: int = 32
    """Of a local step, and of a forward-only device's round."""
    K: int = 100
    """Perturbations of a device that cannot backpropagate."""
    sigma: float = 1e-3
    clip_median: float = 3.0
    """A change whose L2 norm exceeds so many medians of the round's is scaled down to that; a loss difference is cut
    likewise. 0: no bound."""

    def __post_init__(self) -> None:
        require(self.rule in RULES, "rule", f"one of {', '.join(RULES)}", self.rule)
        require(1 <= self.local_steps <= 10_000, "local_steps", "between 1 and 10000", self.local_steps)
        require(1e-8 <= self.local_lr <= 100, "local_lr", "between 1e-8 and 100", self.local_lr)
        self.server()
        self.forward()

    def server(self) -> FederatedOptions:
        """What the rule needs."""
        return FederatedOptions(rule=self.rule, beta1=self.beta1, beta2=self.beta2, tau=self.tau, mu=self.mu)

    def forward(self) -> BaffleOptions:
        """What a device that cannot backpropagate does."""
        return BaffleOptions(K=self.K, sigma=self.sigma, batch_size=self.batch_size, clip_median=self.clip_median)

    @property
    def reach(self) -> float:
        """Length of the local steps together: what turns a gradient into a change."""
        return self.local_lr * self.local_steps


@dataclass(frozen=True, kw_only=True)
class RosterPart:
    """Whose changes of one round are in a mean."""

    round_seed: bytes
    round_index: int
    n_slots: int
    slots: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The mean change of those that backpropagated."""

    samples: int
    change: F32
    parts: tuple[RosterPart, ...] = ()
    """Empty: a peer's own."""


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """One payload. At least one of both is there."""

    replay: Replay | None = None
    changes: Changes | None = field(default=None)

    def to_bytes(self) -> bytes:
        pieces: list[bytes | memoryview] = [bytes([(FORWARD if self.replay else 0) | (CHANGES if self.changes else 0)])]
        if self.replay is not None:
            replay = self.replay.to_bytes()
            pieces += [_LENGTH.pack(len(replay)), replay]
        if self.changes is not None:
            one = self.changes
            rosters = (write_roster(p.round_seed, p.round_index, p.n_slots, p.slots) for p in one.parts)
            pieces += [bytes([len(one.parts)]), *rosters]
            pieces += [_LENGTH.pack(one.samples), np.ascontiguousarray(one.change, "<f4").data.cast("B")]
        return b"".join(pieces)

    @classmethod
    def from_bytes(cls, data: bytes, options: MixedOptions, n: int) -> Mixed:
        """Raises BadPayload for anything that `to_bytes` could not have made."""
        kinds = data[0] if data else 0
        if not 1 <= kinds <= 3:
            raise BadPayload(f"a payload of kinds {kinds}: expected 1 (forward), 2 (changes) or 3")
        at, replay = 1, None
        if kinds & FORWARD:
            length, at = _read_u32(data, at)
            if len(data) < at + length:
                raise BadPayload("a payload ends within its replay")
            replay = Replay.from_bytes(data[at : at + length], K=options.K)
            if sum(len(part.slots) for part in replay.parts) > DEVICES_MAX:
                raise BadPayload(f"a payload with more than {DEVICES_MAX} devices")
            at += length
        changes = _read_changes(data, at, n) if kinds & CHANGES else None
        if changes is None and at != len(data):
            raise BadPayload("a payload ends with its last part")
        return cls(replay=replay, changes=changes)

    def names(self) -> frozenset[tuple[bytes, int]]:
        """Seed and slot of every device behind it."""
        forward = self.replay.parts if self.replay is not None else ()
        changes = self.changes.parts if self.changes is not None else ()
        names = [(part.round_seed, slot) for part in forward for slot in part.slots]
        return frozenset(names + [(part.round_seed, slot) for part in changes for slot in part.slots])

    def weights(self, options: MixedOptions, n: int) -> tuple[float, float]:
        """What the forward gradient and the changes count for, in samples."""
        forward = 0.0
        if self.replay is not None:
            devices = sum(len(part.slots) for part in self.replay.parts)
            directions = options.K * devices
            forward = devices * options.batch_size * options.local_steps * directions / (directions + n)
        return forward, float(self.changes.samples) if self.changes is not None else 0.0


def combined_change(payloads: Sequence[Mixed], options: MixedOptions, run_id: bytes, n: int) -> F32:
    """The mean change of an update, float32 [n], bit for bit the same wherever it is computed."""
    total = sum(sum(one.weights(options, n)) for one in payloads)
    change = np.zeros(n, np.float32)
    for one in payloads:
        forward, dense = one.weights(options, n)
        if one.replay is not None:
            change -= np.float32(forward / total * options.reach) * gradient_of(one.replay, run_id, n)
        if one.changes is not None:
            change += np.float32(dense / total) * one.changes.change
    return change


def mixed_bytes_max(options: MixedOptions, n: int) -> int:
    """No honest payload is longer."""
    return 128 + 4 * n + 4 * options.K * DEVICES_MAX + 2 * PARTS_MAX * (64 + 2**13)


def answer_bytes(options: MixedOptions, n: int, kind: int) -> int:
    """The exact length of one device's answer."""
    return KIND_BYTES + 4 * (options.K if kind == FORWARD else n)


def read_kind(answer: bytes | memoryview) -> int:
    """Of one device's answer; 0 for one that is none."""
    return int.from_bytes(answer[:KIND_BYTES], "little") if len(answer) >= KIND_BYTES else 0


def read_change(payload: bytes | memoryview, n: int) -> F32:
    """A change as it comes from outside, float32 [n]: a view of the payload, read-only. Raises BadPayload."""
    if len(payload) != 4 * n:
        raise BadPayload(f"a change of {len(payload)} bytes: expected {4 * n}")
    change = np.frombuffer(payload, "<f4").astype(np.float32, copy=False)
    if not is_bounded(change):
        raise BadPayload("a change with NaN, infinity or values above 2^60")
    return change


def _read_changes(data: bytes, at: int, n: int) -> Changes:
    n_parts = data[at] if at < len(data) else PARTS_MAX + 1
    if n_parts > PARTS_MAX:
        raise BadPayload(f"changes of {n_parts} rounds: at most {PARTS_MAX} fit")
    at, parts = at + 1, list[RosterPart]()
    for _ in range(n_parts):
        seed, round_index, n_slots, slots, at = read_roster(data, at)
        if parts and parts[-1].round_index >= round_index:
            raise BadPayload("the rounds of changes ascend")
        parts.append(RosterPart(round_seed=seed, round_index=round_index, n_slots=n_slots, slots=slots))
    samples, at = _read_u32(data, at)
    if not 1 <= samples <= SAMPLES_MAX or sum(len(part.slots) for part in parts) > DEVICES_MAX:
        raise BadPayload(f"changes over {samples} samples: expected 1 to {SAMPLES_MAX}")
    return Changes(samples=samples, change=read_change(memoryview(data)[at:], n), parts=tuple(parts))


def _read_u32(data: bytes, at: int) -> tuple[int, int]:
    if len(data) < at + _LENGTH.size:
        raise BadPayload(f"a payload ends at byte {len(data)}, in mid-number")
    return int(_LENGTH.unpack_from(data, at)[0]), at + _LENGTH.size
