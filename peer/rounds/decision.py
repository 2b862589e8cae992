"""What a round decides, and the certificate that proves it was decided."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from google.protobuf.message import DecodeError

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import BadSignature, InvalidMessage
from ...protocol.identity import Identity, verify
from .counts import NOBODY, Count, Route
from .roster import Member, Roster
from .stage_changes import Move, Restoration, check_changes

HASH_BYTES = 32
LINEAGE_BYTES = 16
DECISION_BYTES_MAX = 64 << 10
DECISIONS_REMEMBERED = 32
"""Not parsed again: each comes with its ballot, with its commit, and with every log that holds it."""
PARTS_MAX = 64
VOTE_DOMAIN = "round-vote"
LATE = "late"
"""Why a member that is there was left out: its contribution was not."""


@dataclass(frozen=True)
class Item:
    """Bytes named by their SHA-256."""

    hash: bytes
    length: int

    @classmethod
    def of(cls, data: bytes | memoryview) -> Item:
        return cls(hashlib.sha256(data).digest(), len(data))

    def to_wire(self) -> pb.Item:
        return pb.Item(hash=self.hash, length=self.length)

    @classmethod
    def from_wire(cls, message: pb.Item) -> Item:
        if len(message.hash) != HASH_BYTES:
            raise InvalidMessage(f"an item's hash has {len(message.hash)} bytes instead of {HASH_BYTES}")
        return cls(message.hash, message.length)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The value of one round. Slots index the roster of that round.

    Without contributors the round failed: nothing is applied, everybody keeps what it had to send.
    """

    lineage: bytes
    round_index: int
    base: bytes
    """Digest of the state that the contributors started from."""
    contributors: tuple[int, ...] = ()
    items: tuple[Item, ...] = ()
    """One per contributor (gather) or per part (reduce)."""
    excluded: tuple[tuple[int, str], ...] = ()
    """(slot, reason) of the members left out."""
    removed: tuple[int, ...] = ()
    added: tuple[Member, ...] = ()
    stop: bool = False
    snapshot: bool = False
    counts: tuple[Count, ...] = ()
    """Of a pipeline: what the item of each contributor sums."""
    stage_digests: tuple[bytes, ...] = ()
    """Of a pipeline: of each stage's state before the round."""
    moves: tuple[Move, ...] = ()
    """Of a pipeline: who of those removed is to come back in another stage."""
    restored: tuple[Restoration, ...] = ()
    """Of a pipeline: stages that were lost and go on from an older state, brought by some of those added."""
    turns: tuple[int, ...] = ()
    """Of a pipeline, if the step goes on, and no update is made yet: who passes each microbatch, by slot of the next
    roster; NOBODY if that one is gone, and its route is among the following."""
    routes: tuple[Route, ...] = ()
    """Of whole microbatches, by slots of the next roster."""

    def next_roster(self, roster: Roster) -> Roster:
        """The roster of the next round. After a stop: everybody again, each in its next life."""
        if self.stop:
            return Roster(tuple(member.reborn() for member in roster.members))
        return roster.changed(self.removed, self.added)

    def encode(self) -> bytes:
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        return pb.Decision(
            lineage=self.lineage,
            round=self.round_index,
            base=self.base,
            contributors=self.contributors,
            items=[item.to_wire() for item in self.items],
            excluded=[pb.Exclusion(slot=slot, reason=reason) for slot, reason in self.excluded],
            removed=self.removed,
            added=[member.to_wire() for member in self.added],
            stop=self.stop,
            snapshot=self.snapshot,
            counts=[count.to_wire() for count in self.counts],
            stage_digests=self.stage_digests,
            moves=[move.to_wire() for move in self.moves],
            restored=[one.to_wire() for one in self.restored],
            turns=[slot + 1 for slot in self.turns],
            routes=[route.to_wire() for route in self.routes],
        ).SerializeToString(deterministic=True)

    @classmethod
    def decode(cls, data: bytes, roster: Roster) -> Decision:
        """Parse and check against the roster of its round. Raises InvalidMessage."""
        if len(data) > DECISION_BYTES_MAX:
            raise InvalidMessage(f"a decision of {len(data)} bytes: at most {DECISION_BYTES_MAX} are allowed")
        decision = cls._parsed(data)
        if roster.hash() not in decision._fits:
            decision._check(roster)
            decision._fits.add(roster.hash())
        return decision

    @cached_property
    def _fits(self) -> set[bytes]:
        """Hashes of rosters that it was checked against."""
        return set()

    @classmethod
    @lru_cache(maxsize=DECISIONS_REMEMBERED)
    def _parsed(cls, data: bytes) -> Decision:
        try:
            message = pb.Decision.FromString(data)
        except DecodeError:
            raise InvalidMessage("a decision that is no protobuf: the sender runs another version?") from None
        return cls(
            lineage=message.lineage,
            round_index=message.round,
            base=message.base,
            contributors=tuple(message.contributors),
            items=tuple(Item.from_wire(item) for item in message.items),
            excluded=tuple((entry.slot, entry.reason[:200]) for entry in message.excluded),
            removed=tuple(message.removed),
            added=tuple(Member.from_wire(member) for member in message.added),
            stop=message.stop,
            snapshot=message.snapshot,
            counts=tuple(Count.from_wire(count) for count in message.counts),
            stage_digests=tuple(message.stage_digests[:PARTS_MAX]),
            moves=tuple(Move.from_wire(move) for move in message.moves),
            restored=tuple(Restoration.from_wire(one) for one in message.restored),
            turns=tuple(slot - 1 for slot in message.turns),
            routes=tuple(Route.from_wire(route) for route in message.routes),
        )

    def _check(self, roster: Roster) -> None:
        slots = (self.contributors, tuple(slot for slot, _ in self.excluded), self.removed)
        if any(list(group) != sorted(set(group)) or any(slot >= len(roster) for slot in group) for group in slots):
            raise InvalidMessage("a decision names slots that are not in its round's roster, or not in order")
        if len(self.lineage) != LINEAGE_BYTES or len(self.base) != HASH_BYTES or len(self.items) > PARTS_MAX:
            raise InvalidMessage("a decision with a malformed lineage, base digest or item list")
        if bool(self.contributors) != bool(self.items):
            raise InvalidMessage("a decision must name both contributors and items, or neither")
        if self.counts and tuple(count.slot for count in self.counts) != self.contributors:
            raise InvalidMessage("a decision whose contributors are not those that count microbatches")
        if self.counts and len(self.items) != len(self.counts):
            raise InvalidMessage("a decision that does not name one item for each of its contributors")
        if len(self.removed) == len(roster) and not self.added:
            raise InvalidMessage("a decision that leaves nobody in the roster: it should have been a stop")
        after = self.next_roster(roster)
        check_changes(self.moves, self.restored, roster, self.removed, after)
        if self.turns or self.routes:
            self._check_going_on(after)

    def _check_going_on(self, after: Roster) -> None:
        if self.moves or self.restored or self.stop:
            raise InvalidMessage("a decision by which a step goes on, and that does more than that: refused")
        slots = [*self.turns, *(slot for route in self.routes for slot in route.slots)]
        untaken = [index for index, slot in enumerate(self.turns) if slot == NOBODY]
        if any(slot >= len(after) for slot in slots) or untaken != [route.index for route in self.routes]:
            raise InvalidMessage("a decision that leaves microbatches to members that there will not be: refused")


def decision_hash(encoded: bytes) -> bytes:
    return hashlib.sha256(encoded).digest()


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Signatures of a quorum under one decision: the proof that it was decided."""

    lineage: bytes
    round_index: int
    ballot: int
    decision_hash: bytes
    votes: tuple[tuple[int, bytes], ...]
    """(slot, signature)."""

    def verify(self, roster: Roster, encoded: bytes) -> None:
        """Check it against the roster of its round and the encoded decision. Raises BadSignature."""
        slots = [slot for slot, _ in self.votes]
        if decision_hash(encoded) != self.decision_hash:
            raise BadSignature("a certificate for another decision than the one that came with it: discarded")
        if len(set(slots)) != len(slots) or not roster.has_quorum(slots) or max(slots) >= len(roster):
            raise BadSignature(f"a certificate with {len(slots)} votes where {roster.quorum} voters must sign")
        statement = vote_statement(self.lineage, self.round_index, self.ballot, roster, self.decision_hash)
        for slot, signature in self.votes:
            verify(roster.members[slot].peer, VOTE_DOMAIN, statement, signature)

    def to_wire(self) -> pb.Certificate:
        return pb.Certificate(
            lineage=self.lineage,
            round=self.round_index,
            ballot=self.ballot,
            decision_hash=self.decision_hash,
            votes=[pb.Vote(slot=slot, signature=signature) for slot, signature in self.votes],
        )

    @classmethod
    def from_wire(cls, message: pb.Certificate) -> Certificate:
        return cls(
            lineage=message.lineage,
            round_index=message.round,
            ballot=message.ballot,
            decision_hash=message.decision_hash,
            votes=tuple((vote.slot, vote.signature) for vote in message.votes),
        )


def vote_statement(lineage: bytes, round_index: int, ballot: int, roster: Roster, value_hash: bytes) -> bytes:
    """What a member signs when it accepts a decision."""
    return lineage + struct.pack("<QQ", round_index, ballot) + roster.hash() + value_hash


def sign_vote(
    identity: Identity, lineage: bytes, round_index: int, ballot: int, roster: Roster, encoded: bytes
) -> bytes:
    statement = vote_statement(lineage, round_index, ballot, roster, decision_hash(encoded))
    return identity.sign(VOTE_DOMAIN, statement)


def certify(lineage: bytes, round_index: int, ballot: int, encoded: bytes, votes: Mapping[int, bytes]) -> Certificate:
    """Bundle the votes that were collected for a decision."""
    return Certificate(
        lineage=lineage,
        round_index=round_index,
        ballot=ballot,
        decision_hash=decision_hash(encoded),
        votes=tuple(sorted(votes.items())),
    )
