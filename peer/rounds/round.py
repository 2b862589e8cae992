"""One member's part in agreeing on one round: a reactor that looks at what it knows and does what is due.

Message handlers and sends change the state and wake it; deadlines wake it too. It ends when a decision is proven.
The protocol and the argument for it: docs/design/0002-rounds.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from ...protocol import rounds_pb2 as pb
from ...protocol.errors import (
    GossamerError,
    InvalidMessage,
    NetworkClosed,
    NewLife,
    NotAdmitted,
    PeerTimeout,
    PeerUnreachable,
    StaleRound,
)
from ...protocol.identity import Identity, PeerId
from ...protocol.network import Network
from .agreement import Agreement
from .alarm import Alarm
from .backup import Quota
from .decision import Decision
from .leading import Leadership
from .ledger import Committed
from .place import Place, Report, Rules
from .reporting import RETRY_S, Reporting
from .transfer import Proposal, Transfer
from .voting import Voting
from .watching import watch_leaders

BALLOT_PATIENCE = 6.0
"""A leader that answers but does not lead is given up after this many deadlines."""
DOUBLINGS_MAX = 16
"""Of waits that get longer; a group may be paused for days."""
BACKOFF_MAX_S = 15.0
BALLOTS_AHEAD_MAX = 1 << 20
"""By so many one message brings a member on: half a year of them, so that numbers of 64 bits last."""
Draft = Callable[["Round", Proposal | None, Leadership], Decision]
"""Completes a proposal (None: a failed round) with roster changes, stop and snapshot."""


class Round:
    """Serves one round from the moment the one before was applied."""

    def __init__(
        self,
        place: Place,
        *,
        network: Network,
        identity: Identity,
        rules: Rules,
        patience_s: float,
        quota: Quota,
        passed_over: frozenset[int],
        suffices: Callable[[tuple[int, ...]], bool],
        draft: Draft,
        is_leaving: Callable[[], bool],
        note_stale: Callable[[PeerId], None],
        unadmitted: Callable[[PeerId], None],
        refused: Callable[[PeerId, str], None],
        warn: Callable[[str], None],
    ) -> None:
        self.place = place
        self.network = network
        self.identity = identity
        self.rules = rules
        self.patience_s = patience_s
        self.quota = quota
        self.passed_over = passed_over
        """Slots that are not waited for as leaders, until everybody else was tried. Others may see it otherwise."""
        self.suffices = suffices
        self.draft = draft
        self.is_leaving = is_leaving
        self.voting = Voting(self)
        self.acceptor = self.voting.acceptor
        self.ballot = 0
        self._entered = asyncio.Event()
        """Set when this ballot is over."""
        self._ballot_told = -1, b""
        """What reports are answered with in which ballot."""
        self.arrived_s: dict[int, float] = {}
        """Slot -> when its contribution was first known to be there, after the round's start."""
        self.suspects: dict[int, str] = {}
        self.refusals: dict[int, str] = {}
        self.transfer: Transfer
        self.agreement = Agreement(self)
        self.decided_s: float | None = None
        self.offered_s: float | None = None
        self.note_stale = note_stale
        self.unadmitted = unadmitted
        self.refused = refused
        self.warn = warn
        self._clock = asyncio.get_running_loop().time
        self.started_s = self._ballot_started_s = self._clock()
        self._changed = asyncio.Event()
        self._alarm = Alarm(self._changed.set)
        self._tasks: list[asyncio.Task[None]] = []
        self._spawner: asyncio.TaskGroup | None = None
        self._early: list[Coroutine[Any, Any, None]] = []
        self.over = asyncio.Event()
        """Set when this peer takes no part in it any more."""
        self.watched_by: set[int] = set()
        """Slots whose watching call stands."""
        self.reporting = Reporting(self)
        self.decided: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self.leadership = Leadership(self, 0) if place.leader_of(0) == place.slot else None

    # -- what others see -------------------------------------------------------------------------

    @property
    def leader(self) -> int:
        return self.place.leader_of(self.ballot)

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self.started_s

    def live(self) -> list[int]:
        """Slots that are not known to be out of reach, mine included."""
        return [slot for slot in range(len(self.place.roster)) if slot not in self.suspects]

    def describe(self) -> str:
        """One line on what this round is waiting for."""
        leading = self.leadership
        reports = {slot: sorted(report.items) for slot, report in leading.reports.items()} if leading else {}
        phase = leading.phase.value if leading else None
        return (
            f"round {self.place.index}, slot {self.place.slot} of {len(self.place.roster)}, {self.elapsed_s:.1f} s, "
            f"ballot {self.ballot} led by {self.leader}; holds {sorted(self.transfer.held())}, "
            f"suspects {self.suspects}, refusals {self.refusals}, leading {phase}, reports {reports}, "
            f"promised {self.acceptor.promised}, accepted {self.acceptor.accepted_ballot}"
        )

    def wake(self) -> None:
        self._changed.set()

    def note_arrival(self, slot: int) -> None:
        """A member's contribution is there."""
        self.arrived_s.setdefault(slot, self.elapsed_s)

    def offer(self, payload: bytes) -> None:
        """Put my contribution into the round."""
        self.offered_s = self._clock()
        self.note_arrival(self.place.slot)
        self.transfer.offer(payload)
        self.wake()

    def decide(self, committed: Committed) -> None:
        """A proven decision became known."""
        if not self.decided.done():
            self.decided_s = self._clock()
            self.decided.set_result(committed)
        self.wake()

    def heard(self, slot: int) -> None:
        """A member has spoken."""
        self.suspects.pop(slot, None)

    def suspect(self, slot: int, reason: str) -> None:
        """A member is out of reach, or not to be trusted in this round."""
        self.suspects[slot] = reason
        self.wake()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that ends with the round at the latest."""
        if self.over.is_set() or self.decided.done():
            work.close()
            return
        if self._spawner is None:
            self._early.append(work)
            return
        task = self._spawner.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    def close(self) -> None:
        """Drop what was never begun, and what others still wait for."""
        self.over.set()
        self.transfer.close()
        for work in self._early:
            work.close()
        self._early = []

    # -- the reactor -----------------------------------------------------------------------------

    async def conclude(self) -> Committed:
        """Take part until the round's decision is proven."""
        async with asyncio.TaskGroup() as self._spawner:
            try:
                early, self._early = self._early, []
                for work in early:
                    self.spawn(work)
                if self.leadership is not None:
                    self.leadership.watch()
                self.spawn(watch_leaders(self))
                while not self.decided.done():
                    self._act()
                    await self._wait()
            finally:
                self.over.set()
                self._alarm.set(None)
                for task in list(self._tasks):
                    task.cancel()
        return self.decided.result()

    def _act(self) -> None:
        if self._leader_is_lost():
            self.enter(self.ballot + 1)
        if self.leadership is not None:
            self.leadership.act()
        else:
            self.reporting.report()

    async def _wait(self) -> None:
        now = self._clock()
        self._alarm.set(min([time for time in self._alarms_s() if time > now], default=None))
        await self._changed.wait()
        self._changed.clear()

    def _alarms_s(self) -> list[float]:
        begun, patience = self.started_s, self.patience_s
        leading_s = self.leadership.patience_s if self.leadership is not None else patience
        alarms = [begun + patience, begun + 3 * leading_s, begun + 4 * leading_s]
        alarms.append(self._ballot_started_s + BALLOT_PATIENCE * patience)
        alarms += [begun + self.quota.not_before_s, begun + self.rules.patience_floor_s]
        alarms += self.transfer.alarms_s(leading_s)
        return [*alarms, self.reporting.due_s, self._ballot_started_s + self._backoff_s()]

    # -- ballots ---------------------------------------------------------------------------------

    def enter(self, ballot: int) -> None:
        """Go on to a later ballot, or towards it if it is far: any member may name one."""
        ballot = min(ballot, self.ballot + BALLOTS_AHEAD_MAX)
        if ballot <= self.ballot:
            return
        size = len(self.place.roster)
        if ballot // size != self.ballot // size:
            self.suspects.clear()
        self.ballot = ballot
        entered, self._entered = self._entered, asyncio.Event()
        entered.set()
        self._ballot_started_s = self._clock()
        self.reporting.enter_ballot()
        if self.leader == self.place.slot:
            self.leadership = Leadership(self, ballot)
            self.leadership.begin()
        else:
            self.leadership = None
        self.wake()

    def approach(self, ballot: int) -> None:
        """Raises InvalidMessage while a ballot is out of reach, and goes on towards it: who is there asks again."""
        if ballot > self.ballot + BALLOTS_AHEAD_MAX:
            self.enter(ballot)
            raise InvalidMessage(f"ballot {ballot} of round {self.place.index}, far from {self.ballot}: ask again")

    async def ballot_over(self, ballot: int) -> None:
        """Wait until a later one is entered."""
        while self.ballot == ballot:
            await self._entered.wait()

    def _leader_is_lost(self) -> bool:
        in_ballot_s = self._clock() - self._ballot_started_s
        if in_ballot_s < self._backoff_s():
            return False
        if self.leader in self.passed_over and self.ballot < len(self.place.roster):
            return True
        return self.leader in self.suspects or in_ballot_s >= BALLOT_PATIENCE * self.patience_s

    def _backoff_s(self) -> float:
        """At least this long in a ballot: nothing at first, then, when every leader was tried, ever longer."""
        cycle = self.ballot // len(self.place.roster)
        return 0.0 if cycle == 0 else min(BACKOFF_MAX_S, 0.25 * self.patience_s * 2.0 ** min(cycle, DOUBLINGS_MAX))

    # -- reaching the others ---------------------------------------------------------------------

    async def pause(self, n_tries: int) -> None:
        """Between tries that went unanswered: short at first, then longer."""
        await asyncio.sleep(min(self.patience_s / 2, RETRY_S * 2.0 ** min(n_tries, DOUBLINGS_MAX)))

    async def ask(self, slot: int, method: str, request: bytes) -> bytes | None:
        """Call a member; None, and the reason noted, if it does not answer or refuses."""
        peer = self.place.roster.members[slot].peer
        with self.noting(slot):
            return await self.network.call(peer, method, request, timeout_s=max(2.0, self.patience_s))
        return None

    @contextlib.contextmanager
    def refusing(self, slot: int) -> Iterator[None]:
        """Nonsense from a member costs the member, not the round."""
        try:
            yield
        except InvalidMessage as error:
            self.refused(self.place.roster.members[slot].peer, str(error))
            self.suspect(slot, error.code)

    @contextlib.contextmanager
    def noting(self, slot: int) -> Iterator[list[str]]:
        """Note why a member cannot be reached, or what it refuses; the code of what it refuses here is in the list."""
        refused: list[str] = []
        try:
            yield refused
        except PeerUnreachable:
            self.suspect(slot, "unreachable")
        except PeerTimeout:
            self.suspect(slot, "silent")
        except NewLife:
            self.suspect(slot, "restarted")
        except StaleRound:
            self.note_stale(self.place.roster.members[slot].peer)
        except NotAdmitted:
            self.unadmitted(self.place.roster.members[slot].peer)
        except NetworkClosed:
            raise
        except GossamerError as error:
            self.refusals[slot] = error.code
            refused.append(error.code)
            self.warn(f"refused: {error}")

    # -- handlers: the sender's slot is proven ---------------------------------------------------

    def on_hold(self, slot: int, report: Report) -> bytes:
        """Take in a report; the answer says which ballot we are in, lest the sender waits in an earlier one."""
        self.heard(slot)
        self.enter(report.ballot)
        if report.ready:
            self.note_arrival(slot)
        if self.leadership is not None and report.ballot == self.ballot:
            self.leadership.reports[slot] = report
            self.wake()
        if self._ballot_told[0] != self.ballot:
            answer = pb.Prepare(lineage=self.place.lineage, round=self.place.index, ballot=self.ballot)
            self._ballot_told = self.ballot, answer.SerializeToString()
        return self._ballot_told[1]
