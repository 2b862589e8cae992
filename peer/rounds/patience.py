"""How long to wait for the others: learnt from the rounds seen so far, not guessed by the user."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

WINDOW = 32
SAMPLES_MIN = 3
DEVIATIONS = 6.0


class Patience:
    """Deadline = median + 6 * MAD of recent durations, within bounds.

    The median and the median absolute deviation ignore a minority of stragglers, so that one slow peer does not
    teach everybody to wait for it. Durations count per local step, since a method may double its steps from one
    round to the next.

    Args:
        floor_s: never less; covers evaluation, checkpoints and a busy machine.
        initial_s: until three durations are known; first steps compile kernels and warm caches.
    """

    def __init__(self, *, floor_s: float, initial_s: float, seen: Iterable[float] = ()) -> None:
        self.floor_s = floor_s
        self.initial_s = initial_s
        self._seen = deque(seen, maxlen=WINDOW)

    def record(self, duration_s: float, n_steps: int) -> None:
        """A round with so many local steps has ended."""
        self._seen.append(duration_s / n_steps)

    def deadline_s(self, n_steps: int) -> float:
        """For a round with so many local steps."""
        if len(self._seen) < SAMPLES_MIN:
            return max(self.initial_s, self.floor_s)
        median = statistics.median(self._seen)
        spread = statistics.median(abs(value - median) for value in self._seen)
        return max(self.floor_s, n_steps * max(1.5 * median, median + DEVIATIONS * spread))
