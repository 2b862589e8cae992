"""Where a round stands and under which rules it is run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import InvalidMessage
from ...protocol.network import MAX_MESSAGE_BYTES
from ...protocol.wire import parse
from .counts import MICROBATCHES_MAX, Route
from .decision import HASH_BYTES, LINEAGE_BYTES, PARTS_MAX, Item
from .roster import PEERS_MAX, Roster

RATE_MAX = 1e12
"""Bytes per second; also keeps infinity and NaN out."""
PATIENCE_S_MAX = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How the rounds of a group are run; from the run's manifest."""

    payload_bytes_max: int
    quorum_fraction: float = 0.5
    """Least part of the roster that must contribute for a round to count."""
    strict: bool = False
    """Wait for every living member in every round: slower under stragglers, exactly repeatable."""
    fork: bool | None = None
    """Whether a part without quorum goes on by itself; None: only where the roster has two members or fewer."""
    backup: Literal["none", "fixed", "dynamic"] = "none"
    """Whether rounds go on without the slowest: without `n_backup` of them, or as many as pays."""
    n_backup: int = 0
    patience_floor_s: float = 3.0
    patience_initial_s: float = 30.0

    def contributions_min(self, n_members: int) -> int:
        return max(1, math.ceil(self.quorum_fraction * n_members))

    def may_fork(self, n_members: int) -> bool:
        return n_members <= 2 if self.fork is None else self.fork


@dataclass(frozen=True, kw_only=True)
class Place:
    """One member's place in one round."""

    lineage: bytes
    index: int
    """Number of the round."""
    roster: Roster
    base: bytes
    """Digest of the state that the round starts from."""
    slot: int

    @property
    def others(self) -> tuple[int, ...]:
        return tuple(slot for slot in range(len(self.roster)) if slot != self.slot)

    def leader_of(self, ballot: int) -> int:
        return self._leaders[ballot % len(self._leaders)]

    @cached_property
    def _leaders(self) -> tuple[int, ...]:
        return self.roster.leaders(self.lineage, self.index)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a member told the leader: a checked `Hold`."""

    ballot: int
    base: bytes
    items: Mapping[int, Item]
    """Contributor's slot (gather) or part (reduce) -> what is held of it."""
    ready: bool
    attempt: int
    leaving: bool
    refused: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    """Contributors of the plan that it cannot reach (reduce)."""
    bytes_per_s: float | None = None
    """How fast it can send, if it knows (reduce)."""
    routes: tuple[Route, ...] = ()
    """Its microbatches that are whole (pipelines)."""
    state: bytes = b""
    """Digest of its stage's state before the round (pipelines)."""
    patience_s: float = 0.0
    """Its deadline for the step (pipelines); 0: not told."""

    @classmethod
    def from_wire(cls, message: pb.Hold) -> Report:
        if len(message.lineage) != LINEAGE_BYTES or len(message.base) != HASH_BYTES:
            raise InvalidMessage("a hold report with a malformed lineage or digest")
        keys = [held.key for held in message.items]
        if len(set(keys)) != len(keys) or len(keys) > max(PEERS_MAX, PARTS_MAX):
            raise InvalidMessage(f"a hold report lists {len(keys)} items, some twice or too many")
        if len(message.routes) > MICROBATCHES_MAX or len(message.state) not in (0, HASH_BYTES):
            raise InvalidMessage("a hold report with too many routes, or a malformed digest of a stage")
        return cls(
            ballot=message.ballot,
            base=message.base,
            items={held.key: Item.from_wire(held.item) for held in message.items},
            ready=message.ready,
            attempt=message.attempt,
            leaving=message.leaving,
            refused=tuple(message.refused[:PEERS_MAX]),
            lost=tuple(message.lost[:PEERS_MAX]),
            bytes_per_s=message.bytes_per_s if 1.0 <= message.bytes_per_s <= RATE_MAX else None,
            routes=tuple(Route.from_wire(route) for route in message.routes),
            state=message.state,
            patience_s=message.patience_s if 0.0 < message.patience_s <= PATIENCE_S_MAX else 0.0,
        )


def read_report(data: bytes) -> tuple[bytes, int, Report]:
    """(lineage, round, report) of a `Hold` that came from outside. Raises MessageTooLarge, InvalidMessage."""
    message = parse(pb.Hold, data, bytes_max=MAX_MESSAGE_BYTES, what="a hold message")
    return message.lineage, message.round, Report.from_wire(message)
