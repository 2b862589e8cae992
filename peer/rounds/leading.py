"""A leader's side of one ballot: hear who holds what, propose once, collect the votes."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import BadSignature, InvalidMessage
from ...protocol.wire import parse
from .consensus import Proposer
from .decision import DECISION_BYTES_MAX, Decision, certify
from .ledger import Committed
from .place import Report
from .voting import check_vote
from .watching import watch

if TYPE_CHECKING:
    from .round import Round

FAIL_PATIENCE = 4.0
"""With too few contributions after this many deadlines the leader proposes that the round failed."""
STRICT_FAIL_S = 60.0


class Phase(enum.Enum):
    PREPARING = "preparing"
    GATHERING = "gathering"
    PROPOSING = "proposing"


class Leadership:
    """Leads `ballot` of a round on behalf of one member."""

    def __init__(self, round_: Round, ballot: int) -> None:
        self.round = round_
        self.ballot = ballot
        self.reports: dict[int, Report] = {}
        self.proposer = Proposer(ballot, round_.place.roster.quorum)
        self.phase = Phase.GATHERING if ballot == 0 else Phase.PREPARING
        self._votes: dict[int, bytes] = {}
        self._began_s = round_.elapsed_s

    @property
    def current(self) -> bool:
        return self.round.leadership is self and not self.round.decided.done()

    def begin(self) -> None:
        """First phase of a ballot above 0: ask everybody for a promise."""
        acceptor = self.round.acceptor
        if not acceptor.prepare(self.ballot):
            return
        self.proposer.promise(self.round.place.slot, acceptor.accepted_ballot, acceptor.accepted)
        for slot in self.round.place.others:
            self.round.spawn(self._seek_promise(slot))
        self._end_preparing()
        self.watch()

    def watch(self) -> None:
        """Notice it when somebody dies for whom I wait, even if nobody has to do with it just then."""
        self.round.spawn(watch(self.round, self.round.place.others, lambda: self.current))

    def act(self) -> None:
        """Propose as soon as there is something to propose."""
        if self.phase is Phase.GATHERING:
            self._hear_myself()
            decision = self._settle()
            if decision is not None:
                self._propose(decision.encode())

    # -- first phase -----------------------------------------------------------------------------

    async def _seek_promise(self, slot: int) -> None:
        place = self.round.place
        request = pb.Prepare(lineage=place.lineage, round=place.index, ballot=self.ballot).SerializeToString()
        n_tries = 0
        while self.current and self.phase is not Phase.PROPOSING:
            answer = await self.round.ask(slot, "round/prepare", request)
            if answer is not None:
                with self.round.refusing(slot):
                    self._on_promise(slot, answer)
                return
            await self.round.pause(n_tries)
            n_tries += 1

    def _on_promise(self, slot: int, answer: bytes) -> None:
        promise = parse(pb.Promise, answer, bytes_max=2 * DECISION_BYTES_MAX, what="a promise")
        self.round.heard(slot)
        if not promise.granted:
            self.round.enter(promise.promised)
            return
        if self.phase is Phase.PROPOSING:
            return  # it may even have voted for that by now
        report = Report.from_wire(promise.hold)
        accepted = promise.accepted if promise.has_accepted else None
        if accepted is not None:
            self._check_accepted(promise)
        if slot in self.round.place.roster.voters:
            self.proposer.promise(slot, promise.accepted_ballot if promise.has_accepted else -1, accepted)
        self.reports.setdefault(slot, report)
        self._end_preparing()
        self.round.wake()

    def _check_accepted(self, promise: pb.Promise) -> None:
        """What a member says to have accepted binds this ballot: so it must have been proposed, and by whose turn it
        was. Raises InvalidMessage."""
        round_, ballot = self.round, promise.accepted_ballot
        if ballot >= self.ballot:
            raise InvalidMessage(f"a promise for ballot {self.ballot} by who has accepted in ballot {ballot}: refused")
        decision = round_.voting.proposed(ballot, promise.accepted, promise.signature)
        round_.transfer.refuse(decision, self.ballot)

    def _end_preparing(self) -> None:
        if self.phase is not Phase.PREPARING or not self.proposer.may_propose:
            return
        self.phase = Phase.GATHERING
        if self.proposer.bound_value is not None:
            self._propose(self.proposer.bound_value)

    # -- what to propose -------------------------------------------------------------------------

    def _hear_myself(self) -> None:
        self.reports[self.round.place.slot] = Report.from_wire(self.round.reporting.hold())

    def agreeing(self) -> dict[int, Report]:
        """Reports of the members that start from the same state as I do."""
        base = self.round.place.base
        return {slot: self.reports[slot] for slot in sorted(self.reports) if self.reports[slot].base == base}

    def _settle(self) -> Decision | None:
        round_, quorum = self.round, self.round.place.roster.quorum
        reports, live = self.agreeing(), round_.live()
        round_.transfer.oversee(reports)
        if (amendment := round_.transfer.amendment(self)) is not None:
            return amendment
        if not round_.place.roster.has_quorum(reports):
            return None
        early = self._has_enough(round_.transfer.ready(reports))
        late = early or (not round_.rules.strict and round_.elapsed_s >= round_.patience_s)
        awaited = self._awaited(live)
        round_.transfer.lead(reports, awaited, late=late)
        proposal = round_.transfer.proposal(reports, awaited, quorum, late=late)
        least = round_.rules.contributions_min(len(round_.place.roster))
        if early and (proposal is None or not self._has_enough(proposal[0])):
            return None
        if proposal is not None and len(proposal[0]) >= least and round_.suffices(proposal[0]):
            return round_.draft(round_, proposal, self)
        hopeless = proposal is not None and not late
        if hopeless and proposal is not None and len(proposal[0]) >= least:
            round_.warn(f"round {round_.place.index}: the method can do nothing with {len(proposal[0])} contributions")
        if hopeless or self._stalled_s() >= self._fail_after_s():
            return round_.draft(round_, None, self)
        return None

    def _has_enough(self, contributors: Sequence[int]) -> bool:
        """Whether the round goes on without the slowest."""
        round_ = self.round
        return (
            round_.elapsed_s < round_.patience_s
            and round_.quota.met(len(contributors), round_.elapsed_s)
            and round_.suffices(tuple(contributors))
        )

    def _awaited(self, live: list[int]) -> list[int]:
        """Living members whose contribution is worth waiting for."""
        return [
            slot
            for slot in live
            if slot not in self.round.transfer.refused
            and not (slot in self.reports and self.reports[slot].leaving and not self.reports[slot].ready)
        ]

    @property
    def patience_s(self) -> float:
        """The median of the deadlines that were told: a newcomer who leads has not seen how long steps take."""
        told = [report.patience_s for report in self.reports.values() if report.patience_s]
        return statistics.median(told) if told else self.round.patience_s

    def _stalled_s(self) -> float:
        """For how long nothing has moved. What those wasted who led before me is not held against the round."""
        elapsed_s = self.round.elapsed_s
        return min(self.round.transfer.stalled_s(elapsed_s), elapsed_s - self._began_s)

    def _fail_after_s(self) -> float:
        if self.round.transfer.stuck(self.round.live()):
            return self.round.rules.patience_floor_s
        patience_s = FAIL_PATIENCE * self.patience_s
        return max(patience_s, STRICT_FAIL_S) if self.round.rules.strict else patience_s

    # -- second phase ----------------------------------------------------------------------------

    def _propose(self, value: bytes) -> None:
        self.phase = Phase.PROPOSING
        encoded = self.proposer.propose(value)
        vote = self.round.voting.vote(self.ballot, encoded)
        if not self.round.voting.accept(self.ballot, encoded, vote.signature):
            return
        self._count(vote, encoded)
        for slot in self.round.place.others:
            if slot in self.round.place.roster.voters:
                self.round.spawn(self._seek_vote(slot, encoded, vote.signature))

    async def _seek_vote(self, slot: int, encoded: bytes, signature: bytes) -> None:
        lineage, index = self.round.place.lineage, self.round.place.index
        request = pb.Accept(lineage=lineage, round=index, ballot=self.ballot, decision=encoded, signature=signature)
        n_tries = 0
        while self.current:
            answer = await self.round.ask(slot, "round/accept", request.SerializeToString())
            if answer is not None:
                with self.round.refusing(slot):
                    self._on_accepted(slot, answer, encoded)
                return
            await self.round.pause(n_tries)
            n_tries += 1

    def _on_accepted(self, slot: int, answer: bytes, encoded: bytes) -> None:
        accepted = parse(pb.Accepted, answer, bytes_max=1024, what="a vote")
        self.round.heard(slot)
        if not accepted.granted:
            self.round.enter(accepted.promised)
        elif accepted.vote.slot != slot:
            raise InvalidMessage(f"slot {slot} voted as slot {accepted.vote.slot}: refused")
        else:
            self._count(accepted.vote, encoded)

    def _count(self, vote: pb.Vote, encoded: bytes) -> None:
        try:
            check_vote(self.round.place, self.ballot, vote.slot, encoded, vote.signature)
        except BadSignature as error:
            self.round.suspect(vote.slot, error.code)
            return
        self._votes[vote.slot] = vote.signature
        if self.proposer.vote(vote.slot):
            self._certify(encoded)

    def _certify(self, encoded: bytes) -> None:
        place = self.round.place
        quorum = dict(sorted(self._votes.items())[: place.roster.quorum])
        certificate = certify(place.lineage, place.index, self.ballot, encoded, quorum)
        decision = Decision.decode(encoded, place.roster)
        self.round.decide(Committed(decision=decision, encoded=encoded, certificate=certificate, roster=place.roster))
