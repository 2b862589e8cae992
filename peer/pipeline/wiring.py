"""Which replica of a stage gets the next microbatch: SWARM's stochastic wiring (arXiv:2301.11913, section 3.2).

Interleaved weighted round-robin: each trainer keeps for each stage a queue of (accumulated cost, tie-break, replica).
The least one gets the microbatch, and goes back with what that costs: the size of the pass, a backward pass counting
2.5 forward passes, divided by the replica's measured throughput. So over time every replica gets microbatches in
proportion to its throughput, one by one and not in bursts. A newcomer, or who comes back, enters at the minimum.

A replica that does not answer in time is passed over for this microbatch and found slower. One that fails in any other
way is banned, for longer each time, until it announces itself anew. Each microbatch has a budget of retries; when it is
spent, the trainer gives up and says why.

Pure: the time comes in as an argument.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ...protocol.errors import NoReplica
from ...protocol.identity import PeerId
from .backlog import Phase


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


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """A replica's word that it serves a stage."""

    peer: PeerId
    stage: int
    sequence: int
    """Grows with each announcement of this peer."""
    samples_per_s: float
    """Forward passes that it has measured, or its guess: the start of our own average."""


@dataclass(frozen=True, kw_only=True)
class Ban:
    """Why a replica gets nothing."""

    until_s: float
    reason: str
    sequence: int
    """Of the announcement that it was banned under."""


@dataclass(eq=False)
class _Replica:
    announced: Announcement
    samples_per_s: float
    tie: float
    cost: float = 0.0
    n_bans: int = 0
    ban: Ban | None = None


@dataclass(eq=False)
class Attempts:
    """What a microbatch has been through at one stage in one pass. One for each, kept until it succeeds."""

    failed: dict[PeerId, str] = field(default_factory=dict)
    """Whom we asked, and why it did not work out."""
    n_retries: int = 0


class StageWiring:
    """One trainer's choice among the replicas of one stage.

    Args:
        draw: breaks ties, so that trainers which know the same replicas don't all ask the same one first.
    """

    def __init__(self, stage: int, options: WiringOptions, draw: random.Random) -> None:
        self.stage = stage
        self._options = options
        self._draw = draw
        self._replicas: dict[PeerId, _Replica] = {}

    # -- who is there ----------------------------------------------------------------------------

    def update(self, announcements: Iterable[Announcement]) -> None:
        """Take in the replicas that are announced now; those that are not any more get nothing."""
        found = {a.peer: a for a in sorted(announcements, key=lambda a: a.sequence) if a.stage == self.stage}
        self._replicas = {peer: replica for peer, replica in self._replicas.items() if peer in found}
        for peer, announced in found.items():
            known = self._replicas.get(peer)
            if known is None:
                newcomer = _Replica(announced=announced, samples_per_s=announced.samples_per_s, tie=self._draw.random())
                newcomer.cost = self._minimum
                self._replicas[peer] = newcomer
            elif announced.sequence > known.announced.sequence:
                known.announced = announced

    @property
    def bans(self) -> Mapping[PeerId, Ban]:
        """Who gets nothing, and why; bans end when somebody is chosen."""
        return {peer: replica.ban for peer, replica in self._replicas.items() if replica.ban is not None}

    def samples_per_s(self, peer: PeerId) -> float:
        """The average throughput, in forward passes."""
        return self._replicas[peer].samples_per_s

    # -- routes ----------------------------------------------------------------------------------

    def choose(self, phase: Phase, n_samples: int, now_s: float, attempts: Attempts | None = None) -> PeerId:
        """The replica that gets this pass; it is charged for it.

        Replicas that this microbatch has failed with come last, but they come: they may be the only ones.
        Raises: NoReplica if nobody may be asked now, or the budget is spent.
        """
        failed = attempts.failed if attempts is not None else {}
        if attempts is not None and attempts.n_retries > self._options.retries_max:
            raise NoReplica(
                f"a microbatch failed {attempts.n_retries} times at stage {self.stage}, last: "
                f"{list(failed.values())[-1]}"
            )
        free = self._free(now_s)
        if not free:
            raise NoReplica(self._nobody())
        peer = min(free, key=lambda peer: (peer in failed, self._replicas[peer].cost, self._replicas[peer].tie))
        replica = self._replicas[peer]
        replica.cost += self.size(phase, n_samples) / replica.samples_per_s
        replica.tie = self._draw.random()
        return peer

    def succeeded(self, peer: PeerId, phase: Phase, n_samples: int, seconds: float) -> None:
        """A pass came back after so long: the average throughput learns from it."""
        replica = self._replicas.get(peer)
        if replica is None:
            return
        self._learn(replica, self.size(phase, n_samples) / max(seconds, 1e-9))
        replica.n_bans = 0

    def timed_out(self, peer: PeerId, phase: Phase, n_samples: int, seconds: float, attempts: Attempts) -> None:
        """No answer after so long: ask another one. The replica is at best as fast as that."""
        self._fail(peer, f"{peer} did not answer within {seconds:.3g} s", attempts)
        replica = self._replicas.get(peer)
        if replica is not None:
            self._learn(replica, min(replica.samples_per_s, self.size(phase, n_samples) / max(seconds, 1e-9)))

    def refused(self, peer: PeerId, reason: str, attempts: Attempts) -> None:
        """It answered that it has no room: ask another one, and think no worse of it."""
        self._fail(peer, reason, attempts)

    def failed(self, peer: PeerId, reason: str, now_s: float, attempts: Attempts) -> None:
        """Anything else went wrong: nobody is sent there until it has announced itself anew, or the ban is over."""
        self._fail(peer, reason, attempts)
        replica = self._replicas.get(peer)
        if replica is None:
            return
        seconds = min(self._options.ban_s * 2**replica.n_bans, self._options.ban_s_max)
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
        return [peer for peer, replica in self._replicas.items() if replica.ban is None]

    @property
    def _minimum(self) -> float:
        """The least cost of those that are asked."""
        return min((replica.cost for replica in self._replicas.values() if replica.ban is None), default=0.0)

    def size(self, phase: Phase, n_samples: int) -> float:
        """Of a pass, in samples of a forward pass."""
        return n_samples * (self._options.backward_cost if phase is Phase.BACKWARD else 1.0)

    def _learn(self, replica: _Replica, samples_per_s: float) -> None:
        share = self._options.smoothing
        replica.samples_per_s = (1 - share) * replica.samples_per_s + share * samples_per_s

    def _fail(self, peer: PeerId, reason: str, attempts: Attempts) -> None:
        attempts.failed.pop(peer, None)
        attempts.failed[peer] = reason
        attempts.n_retries += 1

    def _nobody(self) -> str:
        bans = [f"{peer}: {ban.reason}" for peer, ban in self.bans.items()]
        if not bans:
            return f"nobody serves stage {self.stage}: start a peer for it, or wait until one moves there"
        return f"all {len(bans)} replicas of stage {self.stage} failed and are left alone for a while; {bans[0]}"
