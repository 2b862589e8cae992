"""Who takes part in a round. A roster is committed state: the DHT's view of who is alive decides nothing."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import InvalidMessage
from ...protocol.identity import PeerId, parse_peer_id

PEERS_MAX = 64
STAGES_MAX = 64
INCARNATION_MAX = 1 << 62
"""Lives are counted from seconds since 1970."""
ORDERS_REMEMBERED = 64
"""Of leaders: daemons may share a process."""
WHOLE = -1
"""In place of a stage: the whole model."""
NO_STAGE = STAGES_MAX
"""In place of a stage: this peer serves none, and only trains."""


@dataclass(frozen=True, order=True)
class Member:
    """A peer in one of its lives. A restarted peer is a new incarnation and never votes as the old one."""

    peer: PeerId
    incarnation: int
    stage: int = WHOLE
    """Of a pipeline, that it serves; NO_STAGE: it only trains."""
    trains: bool = True
    """Whether it passes microbatches through the stages, besides serving one."""

    @property
    def serves(self) -> bool:
        """Whether it holds weights."""
        return self.stage != NO_STAGE

    def to_wire(self) -> pb.Member:
        return pb.Member(
            peer=self.peer, incarnation=self.incarnation, stage=self.stage + 1, replica_only=not self.trains
        )

    @classmethod
    def from_wire(cls, message: pb.Member) -> Member:
        if message.stage > NO_STAGE + 1:
            raise InvalidMessage(f"a member that serves stage {message.stage - 1}: there are {STAGES_MAX} at most")
        if message.stage == NO_STAGE + 1 and message.replica_only:
            raise InvalidMessage("a member that neither serves a stage nor trains: refused")
        if message.incarnation > INCARNATION_MAX:
            raise InvalidMessage(f"a member in life {message.incarnation}: there are {INCARNATION_MAX} at most")
        return cls(parse_peer_id(message.peer), message.incarnation, message.stage - 1, not message.replica_only)

    def reborn(self) -> Member:
        """In the next of its lives."""
        return replace(self, incarnation=self.incarnation + 1)

    def role(self) -> bytes:
        """What a roster's hash says of its role in a pipeline; nothing for a whole model."""
        return b"" if self.stage == WHOLE else struct.pack("<hB", self.stage, self.trains)


@dataclass(frozen=True)
class Roster:
    """Members ordered by peer id; a member's place is its slot."""

    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        peers = [member.peer for member in self.members]
        if not 1 <= len(peers) <= PEERS_MAX or peers != sorted(set(peers)):
            raise InvalidMessage(f"a roster has 1 to {PEERS_MAX} distinct peers in order of their ids, not {peers}")

    @classmethod
    def of(cls, members: Iterable[Member]) -> Roster:
        return cls(tuple(sorted(members)))

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def voters(self) -> frozenset[int]:
        """Slots whose votes decide: those that hold weights, or everybody if nobody does. Who only trains loses nothing
        by leaving, so it must not be able to stop a run by that."""
        found = frozenset(slot for slot, member in enumerate(self.members) if member.serves)
        return found or frozenset(range(len(self.members)))

    @property
    def quorum(self) -> int:
        """Votes enough to decide: any two quorums share one."""
        return len(self.voters) // 2 + 1

    def has_quorum(self, slots: Iterable[int]) -> bool:
        """Whether there are enough votes among these."""
        return len(self.voters.intersection(slots)) >= self.quorum

    @cached_property
    def peers(self) -> tuple[PeerId, ...]:
        return tuple(member.peer for member in self.members)

    @cached_property
    def trainers(self) -> tuple[int, ...]:
        """Slots that pass microbatches: of those that train, or of all if nobody does."""
        found = tuple(slot for slot, member in enumerate(self.members) if member.trains)
        return found or tuple(range(len(self.members)))

    @cached_property
    def slots(self) -> dict[PeerId, int]:
        return {peer: slot for slot, peer in enumerate(self.peers)}

    def slot_of(self, peer: PeerId) -> int | None:
        return self.slots.get(peer)

    def hash(self) -> bytes:
        return self._hash

    @cached_property
    def _hash(self) -> bytes:
        digest = hashlib.sha256()
        for member in self.members:
            digest.update(member.peer.encode() + b"\0" + struct.pack("<Q", member.incarnation) + member.role())
        return digest.digest()

    def leaders(self, lineage: bytes, round_index: int) -> tuple[int, ...]:
        """Slots of voters in the order in which they lead ballots 0, 1, 2, ... (and again from the start).

        A permutation by hash rather than an independent draw a ballot: a dead leader is not drawn twice in a row.
        """
        order = _order(lineage + struct.pack("<Q", round_index), self.peers)
        return order if len(self.voters) == len(order) else tuple(slot for slot in order if slot in self.voters)

    def changed(self, removed: Iterable[int], added: Iterable[Member]) -> Roster:
        """The roster without some slots and with new members; a new incarnation replaces the old one."""
        gone, newcomers = frozenset(removed), tuple(added)
        if not gone and not newcomers:
            return self
        by_peer = {member.peer: member for slot, member in enumerate(self.members) if slot not in gone}
        by_peer.update((member.peer, member) for member in newcomers)
        return Roster.of(by_peer.values())

    def to_wire(self) -> pb.Roster:
        return pb.Roster(members=[member.to_wire() for member in self.members])

    @classmethod
    def from_wire(cls, message: pb.Roster) -> Roster:
        if len(message.members) > PEERS_MAX:
            raise InvalidMessage(f"a roster of {len(message.members)} members: at most {PEERS_MAX} are allowed")
        return cls(tuple(Member.from_wire(member) for member in message.members))


@lru_cache(maxsize=ORDERS_REMEMBERED)
def _order(head: bytes, peers: tuple[PeerId, ...]) -> tuple[int, ...]:
    """Slots by the hash of head and peer."""
    return tuple(sorted(range(len(peers)), key=lambda slot: hashlib.sha256(head + peers[slot].encode()).digest()))
