"""How long to wait for the others: learnt from the rounds seen so far, not guessed by the user."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

from .decision import LATE
from .outcome import Outcome

WINDOW = 32
SAMPLES_MIN = 3
DEVIATIONS = 6.0
ABSENT = frozenset({"unreachable", "restarted", "silent", "dead"})
"""Reasons to be left out that say that a member was not there, rather than late."""
INITIAL_GROWS = 4.0
"""The initial deadline grows to so many times itself at most."""
MEDIANS_MIN = 1.5
"""A deadline is never less than so many medians."""


class Patience:
    """Deadline = median + 6 * MAD of recent durations, within bounds.

    The median and the median absolute deviation ignore a minority of stragglers, so that one slow peer does not
    teach everybody to wait for it. Durations count per local step, since a method may double its steps from one
    round to the next.

    Args:
        floor_s: never less; covers evaluation, checkpoints and a busy machine.
        initial_s: until three durations are known, unless one of them was longer; first steps compile kernels and warm
            caches.
    """

    def __init__(self, *, floor_s: float, initial_s: float, seen: Iterable[float] = ()) -> None:
        self.floor_s = floor_s
        self.initial_s = initial_s
        self._seen = deque(seen, maxlen=WINDOW)

    def learn(self, outcome: Outcome, *, waited_s: float, n_steps: int) -> None:
        """A round with so many local steps has ended, whose deadline was `waited_s`.

        Waiting out a deadline for somebody who was not there teaches nothing: else each such wait would make the next
        one longer. For somebody who was merely late deadlines grow, and even more for a round that failed since most
        were late; that one failed for anything else, such as a leader that calls all contributions bad, does not say
        that more time would have helped.
        """
        reasons = list(outcome.excluded.values())
        if not outcome.committed and 2 * reasons.count(LATE) <= len(reasons):
            return
        duration_s = outcome.duration_s if outcome.committed else 2 * outcome.duration_s
        in_vain = outcome.committed and any(reasons) and set(reasons) <= ABSENT
        self.record(min(duration_s, waited_s / MEDIANS_MIN) if in_vain else duration_s, n_steps)

    def record(self, duration_s: float, n_steps: int) -> None:
        """A round with so many local steps took so long."""
        self._seen.append(duration_s / n_steps)

    def deadline_s(self, n_steps: int) -> float:
        """For a round with so many local steps."""
        if len(self._seen) < SAMPLES_MIN:
            longest_s = n_steps * max(self._seen, default=0.0)
            grown_s = min(MEDIANS_MIN * longest_s, INITIAL_GROWS * self.initial_s)
            return max(self.initial_s, self.floor_s, grown_s)
        median = statistics.median(self._seen)
        spread = statistics.median(abs(value - median) for value in self._seen)
        return max(self.floor_s, n_steps * max(MEDIANS_MIN * median, median + DEVIATIONS * spread))
