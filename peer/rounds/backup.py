"""How many contributions the leader of a round waits for, when some members only back the others up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...algorithms.stragglers import WINDOW, Arrivals, best_k, progress
from ...protocol.identity import PeerId
from .place import Rules

EXPLORE_EVERY: Final = 16
"""In such a round the leader waits a little longer, lest a peer that became fast again is never noticed."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """When a leader may propose before everybody has contributed."""

    wanted: int
    """So many contributions suffice; more than there are members: never."""
    not_before_s: float = 0.0
    """After the round's start, unless everybody is there."""

    def met(self, n: int, elapsed_s: float) -> bool:
        return n >= self.wanted and elapsed_s >= self.not_before_s


class Backup:
    """One member's knowledge of how fast the others are, and what follows from it.

    It is not agreed on: whoever leads a round goes by what it saw itself, and what it proposes is as good as any other
    proposal.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._arrivals: Arrivals[PeerId] = Arrivals()
        self._overheads_s: deque[float] = deque(maxlen=WINDOW)
        self._n_members: deque[int] = deque(maxlen=WINDOW)
        self.late: frozenset[PeerId] = frozenset()
        """Members that the round before went on without: they are likely to be slow leaders, too."""

    def quota(self, round_index: int, peers: Sequence[PeerId], n_steps: int, noise: float) -> Quota:
        """For a round with so many local steps.

        Args:
            noise: variance of one contribution over the squared mean, infinite if unknown.
        """
        n, least = len(peers), self._rules.contributions_min(len(peers))
        self._n_members.append(n)
        if self._rules.backup == "fixed":
            # A straggler may have lost its place for being silent: then it is the one that is done without.
            return Quota(wanted=max(least, min(n, max(self._n_members) - self._rules.n_backup)))
        if self._rules.backup == "none" or not len(self._arrivals):
            return Quota(wanted=n + 1)
        times_s = n_steps * self._arrivals.times_s(peers)
        overhead_s = sum(self._overheads_s) / len(self._overheads_s)
        k = best_k(times_s, noise=noise, overhead_s=overhead_s, k_min=least)
        if k == n or round_index % EXPLORE_EVERY:
            return Quota(wanted=k)
        # To wait for longer than this cannot pay, even if everybody came.
        gain = progress(n, noise) / progress(k, noise)
        return Quota(wanted=k, not_before_s=gain * (float(times_s[k - 1]) + overhead_s) - overhead_s)

    def concluded(self, late: Iterable[PeerId]) -> None:
        """A round was decided that left these out for being late."""
        self.late = frozenset(late) if self._rules.backup != "none" else frozenset()

    def saw(
        self,
        peers: Sequence[PeerId],
        arrived_s: Mapping[PeerId, float],
        contributors: Sequence[PeerId],
        *,
        waited_s: float,
        duration_s: float,
        n_steps: int,
    ) -> None:
        """A round was applied. It teaches something only if I saw all its contributions come in."""
        if not contributors or any(peer not in arrived_s for peer in contributors):
            return
        self._arrivals.record(peers, {peer: time_s / n_steps for peer, time_s in arrived_s.items()}, waited_s / n_steps)
        self._overheads_s.append(duration_s - max(arrived_s[peer] for peer in contributors))
