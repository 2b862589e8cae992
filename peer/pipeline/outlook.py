"""What a trainer has still to send to a stage in a step, and how long that will take."""

from __future__ import annotations

import math


class Outlook:
    """Of one stage; work is counted in samples of a forward pass.

    Args:
        smoothing: weight of the newest step in the moving average of the pace.
    """

    def __init__(self, smoothing: float) -> None:
        self._smoothing = smoothing
        self._expected = 0.0
        self._begun_s = 0.0
        self._pace: float | None = None
        """Seconds for each sample, from a step's begin to its last pass; None: no step is over yet."""
        self.to_come = 0.0

    def begin(self, work: float, now_s: float) -> None:
        """A step begins, in which so much is to be sent."""
        self.to_come = self._expected = work
        self._begun_s = now_s

    def sent(self, work: float, now_s: float) -> None:
        """So much less is to come; with the last of it the pace of this step is known."""
        if self.to_come == 0:
            return
        self.to_come = max(0.0, self.to_come - work)
        if self.to_come == 0:
            pace = (now_s - self._begun_s) / self._expected
            share = 1.0 if self._pace is None else self._smoothing
            self._pace = (1 - share) * (self._pace or 0.0) + share * pace

    def rest_s(self, work: float) -> float:
        """When everything but this work will have been sent, in seconds from now; infinite before it is known."""
        return max(0.0, self.to_come - work) * self._pace if self._pace is not None else math.inf
