"""Which replica of a stage gets the next microbatch: SWARM's stochastic wiring (arXiv:2301.11913, section 3.2).

Interleaved weighted round-robin: each trainer keeps for each stage a queue of (accumulated cost, tie-break, replica).
The least one gets the microbatch, and goes back with what that costs: the size of the pass, a backward pass counting
2.5 forward passes, divided by the replica's throughput (`speed.py`: by its word, as far as round trips bear it out). So
over time every replica gets microbatches in proportion to its throughput, one by one and not in bursts. A newcomer, or
who comes back, enters at the minimum.

A step waits for its last microbatch, so a replica whose turn it is gets nothing when it would be back later than all
that is still to come, given to its fellows. Its turn is kept: it is first when the next step begins.

A replica that does not answer in time is passed over for this microbatch and found slower. One that fails in any other
way is banned, for longer each time, until it announces itself anew. Each microbatch has a budget of retries; when it is
spent, the trainer gives up and says why.

Pure: the time comes in as an argument.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...protocol.errors import NoReplica
from ...protocol.identity import PeerId
from .backlog import Phase
from .candidates import Announcement, Attempts, Ban, Candidate
from .outlook import Outlook
from .speed import Speed, believed, is_late
from .spreading import owner

TURNS_AHEAD = 2.0
"""By so many passes a replica may be ahead of its turn for the sake of positions."""


@dataclass(frozen=True, kw_only=True)
class WiringOptions:
    """How routes are found."""

    smoothing: float = 0.1
    """Weight of the newest throughput in its moving average."""
    backward_cost: float = 2.5
    """Of a backward pass, in forward passes: it recomputes, and differentiates twice."""
    ban_s: float = 5.0
    """Of the first ban in a row; each further one is twice as long."""
    ban_s_max: float = 300.0
    retries_max: int = 8
    """Of one pass of one microbatch."""
    crowded_max: int = 64
    """So often one pass waits for room; a full queue is no failure, and what has come so far would be lost."""
    word_max: float = 4.0
    """A replica may be loaded by others so many times more than its fellows are, by its word; what is above that is
    not believed."""
    late_min: float = 2.0
    """A replica can be late only if it is seen so many times slower than its fastest fellow: less is noise."""
    skips_max: int = 32
    """In so many steps in a row a replica is passed over for being late; then it is tried once more."""
    overdue: float = 3.0
    """A pass that takes so many times longer than expected is asked of a fellow, too."""


class StageWiring:
    """One trainer's choice among the replicas of one stage.

    Args:
        draw: breaks ties, so that trainers which know the same replicas don't all ask the same one first.
    """

    def __init__(self, stage: int, options: WiringOptions, draw: random.Random) -> None:
        self.stage = stage
        self._options = options
        self._draw = draw
        self._replicas: dict[PeerId, Candidate] = {}
        self._outlook = Outlook(options.smoothing)
        self.given_up: frozenset[PeerId] = frozenset()
        """Replicas that get nothing, by the word of the round's leader."""

    # -- who is there ----------------------------------------------------------------------------

    def update(self, announcements: Iterable[Announcement]) -> None:
        """Take in the replicas that are announced now; those that are not any more get nothing."""
        found = {a.peer: a for a in sorted(announcements, key=lambda a: a.sequence) if a.stage == self.stage}
        self._replicas = {peer: replica for peer, replica in self._replicas.items() if peer in found}
        for peer, announced in found.items():
            known = self._replicas.get(peer)
            if known is None:
                speed = Speed(announced=announced.samples_per_s, smoothing=self._options.smoothing)
                newcomer = Candidate(announced=announced, speed=speed, tie=self._draw.random())
                newcomer.cost = self._minimum
                self._replicas[peer] = newcomer
            elif announced.sequence > known.announced.sequence:
                known.announced = announced

    @property
    def n_replicas(self) -> int:
        """That are announced."""
        return len(self._replicas)

    def life(self, peer: PeerId) -> int:
        """In which of its lives a replica is announced; 0: in none."""
        replica = self._replicas.get(peer)
        return replica.announced.sequence if replica is not None else 0

    @property
    def bans(self) -> Mapping[PeerId, Ban]:
        """Who gets nothing, and why; bans end when somebody is chosen."""
        return {peer: replica.ban for peer, replica in self._replicas.items() if replica.ban is not None}

    def samples_per_s(self, peer: PeerId) -> float:
        """The throughput that it gets work by, in forward passes."""
        return self._rates()[peer]

    def finish_s(self, peer: PeerId, phase: Phase, n_samples: int) -> float:
        """When a pass would be back that is sent there now, in seconds from now."""
        replica = self._replicas.get(peer)
        return replica.speed.finish_s(self.size(phase, n_samples)) if replica is not None else 0.0

    # -- what is to come -------------------------------------------------------------------------

    def expect(self, size: float, now_s: float) -> None:
        """A step begins: so much is to be sent to this stage, in samples of a forward pass."""
        self._outlook.begin(size, now_s)
        rates = self._rates()
        for peer, replica in self._replicas.items():
            if replica.is_skipped:
                replica.n_skips += 1
                replica.is_skipped = False
                replica.speed.forgive(rates[peer])

    # -- routes ----------------------------------------------------------------------------------

    def choose(
        self,
        phase: Phase,
        n_samples: int,
        now_s: float,
        attempts: Attempts | None = None,
        position: float | None = None,
    ) -> PeerId:
        """The replica that gets this pass; it is charged for it.

        Replicas that this microbatch has failed with come last, but they come: they may be the only ones.

        Args:
            position: the microbatch's (`spreading.py`); None: the trainer has enough of them to go round by itself.
        Raises: NoReplica if nobody may be asked now, or the budget is spent.
        """
        failed = attempts.failed if attempts is not None else {}
        if attempts is not None and self._is_spent(attempts):
            room = f" and found no room {attempts.n_crowded} times" if attempts.n_crowded else ""
            raise NoReplica(
                f"a microbatch failed {attempts.n_retries} times at stage {self.stage}{room}, last: "
                f"{list(failed.values())[-1]}"
            )
        free = self._free(now_s)
        if not free:
            raise NoReplica(self._nobody())
        size, replicas, rates = self.size(phase, n_samples), self._replicas, self._rates()
        owning = self._owner(position, free, size, rates) if position is not None else None
        turns = sorted(free, key=lambda peer: (peer in failed, peer != owning, replicas[peer].cost, replicas[peer].tie))
        hopeful = [one for one in free if one not in failed]
        peer = next(one for one in turns if not self._skips(one, size, hopeful))
        self._keep_turns(turns[: turns.index(peer)], peer, size, rates)
        self._charge(peer, size, rates)
        if not failed and phase is not Phase.EVALUATE:
            self._outlook.sent(size, now_s)
        return peer

    def sooner(self, than: PeerId, phase: Phase, n_samples: int, now_s: float) -> PeerId | None:
        """Who else gets a pass that is overdue elsewhere, and is charged for it; None: nobody, or not before
        everything that is still to come has been sent."""
        size = self.size(phase, n_samples)
        fellows = [peer for peer in self._free(now_s) if peer != than and self._replicas[peer].speed.is_measured]
        if self._outlook.to_come > 0 or not fellows:
            return None
        peer = min(fellows, key=lambda peer: (self._replicas[peer].speed.finish_s(size), self._replicas[peer].tie))
        self._charge(peer, size, self._rates())
        return peer

    def patience_s(self, peer: PeerId, phase: Phase, n_samples: int) -> float | None:
        """How long a pass may take before somebody else is asked as well, as soon as everything is sent; None: nothing
        to compare it with yet. With a replica that is much slower than others it is they who say what is long."""
        size = self.size(phase, n_samples)
        speeds = [replica.speed for replica in self._replicas.values() if replica.speed.is_measured]
        mine = self._replicas[peer].speed
        if not mine.is_measured or len(speeds) < 2:
            return None
        others = [speed for speed in speeds if speed is not mine]
        is_slow = self._options.late_min * mine.seen <= max(speed.seen for speed in others)
        others_s = min(speed.finish_s(size) for speed in others)
        return self._options.overdue * (others_s if is_slow else max(mine.finish_s(size), others_s))

    # -- what became of them ---------------------------------------------------------------------

    def begin(self, peer: PeerId, phase: Phase, n_samples: int) -> float:
        """A pass is sent. Returns: all our work there; one of the following is told when it has ended."""
        size, replica = self.size(phase, n_samples), self._replicas.get(peer)
        return replica.speed.begin(size) if replica is not None else size

    def end(self, peer: PeerId, phase: Phase, n_samples: int) -> None:
        """A pass is not awaited any more, whatever became of it."""
        if peer in self._replicas:
            self._replicas[peer].speed.end(self.size(phase, n_samples))

    def succeeded(
        self,
        peer: PeerId,
        phase: Phase,
        n_samples: int,
        seconds: float,
        *,
        told_s: float = 0.0,
        work: float | None = None,
    ) -> None:
        """A pass came back after so long.

        Args:
            told_s: seconds of computing, by the replica's word; 0: it says nothing.
            work: what `begin` said; None: this pass was all that we had there.
        """
        replica = self._replicas.get(peer)
        if replica is None:
            return
        size, told = self.size(phase, n_samples), replica.speed.told
        replica.speed.learn(size, size if work is None else work, seconds, told_s)
        # What it was charged in advance is so many turns, whatever a turn was thought to take.
        ahead = max(0.0, replica.cost - self._minimum)
        replica.cost += ahead * (told / replica.speed.told - 1)
        replica.n_bans = 0

    def overtaken(self, peer: PeerId, phase: Phase, n_samples: int, seconds: float) -> None:
        """Somebody else answered first: the replica is at best as fast as that."""
        replica = self._replicas.get(peer)
        if replica is not None:
            replica.speed.overdue(max(self.size(phase, n_samples), replica.speed.outstanding), seconds)

    def timed_out(self, peer: PeerId, phase: Phase, n_samples: int, seconds: float, attempts: Attempts) -> None:
        """No answer after so long: ask another one, and think of it as overtaken."""
        self._fail(peer, f"{peer} did not answer within {seconds:.3g} s", attempts)
        self.overtaken(peer, phase, n_samples, seconds)
        if peer in self._replicas:
            self._replicas[peer].speed.lost(self.size(phase, n_samples), seconds)

    def crowded(self, peer: PeerId, reason: str, attempts: Attempts) -> None:
        """It answered that it has no room: ask another one, and think no worse of it."""
        self._note_failed(peer, reason, attempts)
        attempts.n_crowded += 1

    def refused(self, peer: PeerId, reason: str, attempts: Attempts) -> None:
        """It answered that it is not ready for this pass: ask another one, and think no worse of it."""
        self._fail(peer, reason, attempts)

    def failed(self, peer: PeerId, reason: str, now_s: float, attempts: Attempts) -> None:
        """Anything else went wrong: nobody is sent there until it has announced itself anew, or the ban is over."""
        self._fail(peer, reason, attempts)
        replica = self._replicas.get(peer)
        if replica is None:
            return
        seconds = min(self._options.ban_s * 2 ** min(replica.n_bans, 16), self._options.ban_s_max)
        replica.n_bans += 1
        replica.ban = Ban(until_s=now_s + seconds, reason=reason, sequence=replica.announced.sequence)

    def next_chance_s(self, now_s: float) -> float | None:
        """When somebody may be asked: now, at the end of the first ban, or None if nobody is announced."""
        if self._free(now_s):
            return now_s
        return min((ban.until_s for ban in self.bans.values()), default=None)

    # -- within ----------------------------------------------------------------------------------

    def _free(self, now_s: float) -> list[PeerId]:
        """Who may be asked; bans that are over end here."""
        for replica in self._replicas.values():
            ban = replica.ban
            if ban is not None and (replica.announced.sequence > ban.sequence or now_s >= ban.until_s):
                # It was not charged meanwhile; at its old cost it would now get everything until it has caught up.
                replica.cost = max(replica.cost, self._minimum)
                replica.ban = None
        return [peer for peer, replica in self._replicas.items() if replica.ban is None and peer not in self.given_up]

    @property
    def _minimum(self) -> float:
        """The least cost of those that are asked."""
        return min((replica.cost for replica in self._replicas.values() if replica.ban is None), default=0.0)

    def size(self, phase: Phase, n_samples: int) -> float:
        """Of a pass, in samples of a forward pass."""
        return n_samples * (self._options.backward_cost if phase is Phase.BACKWARD else 1.0)

    def _rates(self) -> dict[PeerId, float]:
        """What each replica is charged by, in samples/s."""
        speeds = {peer: replica.speed for peer, replica in self._replicas.items()}
        return believed(speeds, word_max=self._options.word_max)

    def _skips(self, peer: PeerId, size: float, free: Sequence[PeerId]) -> bool:
        """Whether a replica gets nothing this time, although it is its turn."""
        replica = self._replicas[peer]
        if replica.n_skips >= self._options.skips_max:
            return False
        fellows = [self._replicas[one].speed for one in free if one != peer]
        rest_s = self._outlook.rest_s(size)
        return is_late(replica.speed, fellows, size, rest_s, late_min=self._options.late_min)

    def _owner(
        self, position: float, free: Sequence[PeerId], size: float, rates: Mapping[PeerId, float]
    ) -> PeerId | None:
        """Whose arc this is; None if it is ahead of its fellows by more than its turns allow."""
        peer = owner(position, {one: rates[one] for one in free})
        return peer if self._replicas[peer].cost <= self._minimum + TURNS_AHEAD * size / rates[peer] else None

    def _keep_turns(self, skipped: Sequence[PeerId], peer: PeerId, size: float, rates: Mapping[PeerId, float]) -> None:
        """Who was passed over stays first, but gathers no more than one turn."""
        for one in skipped:
            replica = self._replicas[one]
            replica.is_skipped = True
            replica.cost = max(replica.cost, self._replicas[peer].cost - size / rates[one])

    def _charge(self, peer: PeerId, size: float, rates: Mapping[PeerId, float]) -> None:
        replica = self._replicas[peer]
        replica.cost += size / rates[peer]
        replica.tie = self._draw.random()
        replica.n_skips, replica.is_skipped = 0, False

    def _is_spent(self, attempts: Attempts) -> bool:
        return attempts.n_retries > self._options.retries_max or attempts.n_crowded > self._options.crowded_max

    def _fail(self, peer: PeerId, reason: str, attempts: Attempts) -> None:
        self._note_failed(peer, reason, attempts)
        attempts.n_retries += 1

    def _note_failed(self, peer: PeerId, reason: str, attempts: Attempts) -> None:
        attempts.failed.pop(peer, None)
        attempts.failed[peer] = reason

    def _nobody(self) -> str:
        bans = [f"{peer}: {ban.reason}" for peer, ban in self.bans.items()]
        if not bans:
            return f"nobody serves stage {self.stage}: start a peer for it, or wait until one moves there"
        return f"all {len(bans)} replicas of stage {self.stage} failed and are left alone for a while; {bans[0]}"
