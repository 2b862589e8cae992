"""What a member tells the leader of a round's present ballot: what it holds, as soon as that is worth knowing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ...protocol import rounds_pb2 as pb
from ...protocol.wire import parse

if TYPE_CHECKING:
    from .round import Round

RETRY_S = 0.2


class Reporting:
    """Of one member, in one round."""

    def __init__(self, round_: Round) -> None:
        self._round = round_
        self._clock = asyncio.get_running_loop().time
        self._told: tuple[object, ...] | None = None
        """What the leader of this ballot knows."""
        self._is_on_the_way = False
        self.due_s = self._clock() + round_.patience_s
        """Then the leader is told even if there is no news."""

    def enter_ballot(self) -> None:
        """Another leader knows nothing yet."""
        self._told, self.due_s = None, self._clock()

    def hold(self) -> pb.Hold:
        """What I would report now."""
        round_, place, transfer = self._round, self._round.place, self._round.transfer
        held = transfer.held()
        hold = pb.Hold(
            lineage=place.lineage,
            round=place.index,
            ballot=round_.ballot,
            base=place.base,
            items=[pb.HeldItem(key=key, item=held[key].to_wire()) for key in sorted(held)],
            ready=transfer.offered is not None,
            attempt=transfer.attempt,
            leaving=round_.is_leaving(),
            refused=transfer.refused,
            lost=transfer.lost,
            bytes_per_s=transfer.bytes_per_s or 0.0,
        )
        transfer.complete_hold(hold)
        return hold

    def report(self) -> None:
        """Tell the leader, if it should know and does not."""
        overdue = self._clock() >= self.due_s
        if self._is_on_the_way or not (overdue or self._is_worth_it()):
            return
        round_, transfer = self._round, self._round.transfer
        held = (tuple(transfer.held()), tuple(transfer.refused), tuple(transfer.lost), transfer.news)
        news = (round_.ballot, transfer.attempt, transfer.offered is not None, *held, round_.is_leaving())
        if not overdue and news == self._told:
            return
        self._is_on_the_way, self._told = True, news
        round_.spawn(self._send(round_.leader))

    def _is_worth_it(self) -> bool:
        round_ = self._round
        complete = round_.transfer.complete(round_.live()) or round_.elapsed_s >= round_.patience_s
        return round_.is_leaving() or complete or self._may_be_enough()

    def _may_be_enough(self) -> bool:
        """Whether the leader could do with what I hold; it waits for as many as it thinks best, not I."""
        rules, n_members = self._round.rules, len(self._round.place.roster)
        return rules.backup != "none" and len(self._round.transfer.held()) >= rules.contributions_min(n_members)

    async def _send(self, leader: int) -> None:
        round_ = self._round
        try:
            answer = await round_.ask(leader, "round/hold", self.hold().SerializeToString())
        finally:
            self._is_on_the_way = False
        if answer is not None:
            with round_.refusing(leader):
                round_.enter(parse(pb.Prepare, answer, bytes_max=1024, what="an answer to a report").ballot)
        self.due_s = self._clock() + (RETRY_S if answer is None else max(1.0, round_.patience_s / 2))
        round_.wake()
