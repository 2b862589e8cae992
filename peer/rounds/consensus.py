"""Single-decree Paxos, one instance a round: pure state, no I/O, so that a model checker can walk all of it.

Lamport 2001, "Paxos Made Simple". Each ballot has one leader that is known beforehand, and it proposes at most once.
Nobody can have accepted anything below ballot 0, so its leader proposes without a first phase. The argument is in
docs/design/0002-rounds.md; `tests/peer/rounds/test_consensus_model.py` walks every interleaving of a small group.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Acceptor:
    """One member's memory of a round. It lives as long as its incarnation and is never written to disk."""

    promised: int = 0
    accepted_ballot: int = -1
    accepted: bytes | None = None
    retired: bool = False
    """Signed a fork: for this lineage it is as if dead."""

    def prepare(self, ballot: int) -> bool:
        """Promise to accept nothing below `ballot`. False if a higher one was promised."""
        if self.retired or ballot < self.promised:
            return False
        self.promised = ballot
        return True

    def accept(self, ballot: int, value: bytes) -> bool:
        """Accept a ballot's value. False below the promise, or if the ballot already had another value."""
        if self.retired or ballot < self.promised:
            return False
        if ballot == self.accepted_ballot and value != self.accepted:
            return False
        self.promised = self.accepted_ballot = ballot
        self.accepted = value
        return True


@dataclass
class Proposer:
    """A leader's side of one ballot."""

    ballot: int
    quorum: int
    promises: dict[int, tuple[int, bytes | None]] = field(default_factory=dict)
    """slot -> (ballot, value) of the highest accepted value, (-1, None) if none."""
    proposal: bytes | None = None
    votes: list[int] = field(default_factory=list)
    """Slots that accepted the proposal."""

    def promise(self, slot: int, accepted_ballot: int, accepted: bytes | None) -> None:
        if self.proposal is None:
            self.promises[slot] = (accepted_ballot, accepted)

    @property
    def may_propose(self) -> bool:
        """Whether the first phase is over (ballot 0 needs none)."""
        return self.ballot == 0 or len(self.promises) >= self.quorum

    @property
    def bound_value(self) -> bytes | None:
        """The value that an earlier ballot may have decided: the only one this ballot may propose."""
        if self.ballot == 0 or not self.promises:
            return None
        return max(self.promises.values(), key=lambda promise: promise[0])[1]

    def propose(self, value: bytes) -> bytes:
        """The value to send out: `value`, unless an earlier ballot binds us. Fixed by the first call."""
        if not self.may_propose:
            raise RuntimeError(f"ballot {self.ballot} has {len(self.promises)} promises of {self.quorum}")
        if self.proposal is None:
            self.proposal = self.bound_value or value
        return self.proposal

    def vote(self, slot: int) -> bool:
        """Count a vote for the proposal. True once a quorum has accepted it."""
        if slot not in self.votes:
            self.votes.append(slot)
        return len(self.votes) >= self.quorum
