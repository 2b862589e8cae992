"""One member's answers to the leaders of ballots: promises, and votes under what they propose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import InvalidMessage
from ...protocol.identity import verify
from .consensus import Acceptor
from .decision import VOTE_DOMAIN, Decision, decision_hash, sign_vote, vote_statement
from .place import Place

if TYPE_CHECKING:
    from .round import Round


def check_vote(place: Place, ballot: int, slot: int, encoded: bytes, signature: bytes) -> None:
    """Raises BadSignature unless this member has signed this decision in this ballot."""
    statement = vote_statement(place.lineage, place.index, ballot, place.roster, decision_hash(encoded))
    verify(place.roster.members[slot].peer, VOTE_DOMAIN, statement, signature)


class Voting:
    """Of one round. The sender's slot is proven before anything gets here."""

    def __init__(self, round_: Round) -> None:
        self._round = round_
        self.acceptor = Acceptor()
        self._signature = b""
        """Of the leader who proposed what is accepted."""

    def accept(self, ballot: int, encoded: bytes, signature: bytes) -> bool:
        """Accept what a ballot's leader proposes. False if a promise, or another value in this ballot, forbids it.

        Args: signature: the leader's own vote for it, checked.
        """
        granted = self.acceptor.accept(ballot, encoded)
        if granted:
            self._signature = signature
        return granted

    def on_prepare(self, slot: int, ballot: int) -> pb.Promise:
        self._check_leads(slot, ballot)
        granted = self.acceptor.prepare(ballot)
        if granted:
            self._round.enter(ballot)
        accepted = self.acceptor.accepted
        return pb.Promise(
            granted=granted,
            promised=self.acceptor.promised,
            has_accepted=accepted is not None,
            accepted_ballot=max(0, self.acceptor.accepted_ballot),
            accepted=accepted or b"",
            hold=self._round.reporting.hold(),
            signature=self._signature,
        )

    def on_accept(self, slot: int, message: pb.Accept) -> pb.Accepted:
        round_, place = self._round, self._round.place
        ballot, encoded, signature = message.ballot, message.decision, message.signature
        self._check_leads(slot, ballot)
        try:
            decision = self.proposed(ballot, encoded, signature)
        except InvalidMessage as error:  # no use in waiting for this leader
            round_.suspect(slot, error.code)
            raise
        is_moved = place.slot in {move.slot for move in decision.moves}
        if ballot == 0 and place.slot in decision.removed and not (is_moved or round_.is_leaving()):
            raise InvalidMessage(f"a proposal that removes {round_.network.peer_id}, which is alive: refused")
        round_.transfer.refuse(decision, ballot)
        if not self.accept(ballot, encoded, signature):
            return pb.Accepted(granted=False, promised=self.acceptor.promised)
        round_.enter(ballot)
        return pb.Accepted(granted=True, promised=ballot, vote=self.vote(ballot, encoded))

    def proposed(self, ballot: int, encoded: bytes, signature: bytes) -> Decision:
        """What a ballot's leader has proposed. Raises InvalidMessage if it has not, or may not be decided here."""
        place = self._round.place
        check_vote(place, ballot, place.leader_of(ballot), encoded, signature)
        decision = Decision.decode(encoded, place.roster)
        if (decision.lineage, decision.round_index) != (place.lineage, place.index):
            raise InvalidMessage(f"a proposal for another round than {place.index}: refused")
        if decision.base != place.base:
            raise InvalidMessage(f"a proposal that starts from another state than round {place.index}: refused")
        return decision

    def vote(self, ballot: int, encoded: bytes) -> pb.Vote:
        place = self._round.place
        signature = sign_vote(self._round.identity, place.lineage, place.index, ballot, place.roster, encoded)
        return pb.Vote(slot=place.slot, signature=signature)

    def _check_leads(self, slot: int, ballot: int) -> None:
        self._round.heard(slot)
        self._round.approach(ballot)
        if self._round.place.leader_of(ballot) != slot:
            raise InvalidMessage(
                f"ballot {ballot} of round {self._round.place.index} is not led by slot {slot}: refused"
            )
