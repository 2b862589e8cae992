"""How many local steps make a round: a constant, or the Quadratic Synchronization Rule (arXiv:2310.14423).

    H = max(H_base, floor((alpha / eta)^2))        eta: the learning rate now; in warm-up, that of its end

H grows as the learning rate falls: near the end of training replicas may drift far without harm, which the paper
connects to generalisation. It is recomputed at every exchange and never exceeds the steps that remain, so that a run
always ends with one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from .schedule import Schedule

STEPS_MAX: Final = 1_000_000
"""Bound for a learning rate of 0."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The rule of one run.

    Args:
        base: H_base, at least 1.
        alpha: 0 for a constant H. The paper's for ViT-B: .0175 with a peak learning rate of .008 and H_base 4.
    """

    base: int
    alpha: float
    schedule: Schedule

    def steps(self, step: int) -> int:
        """Local steps in the round that begins when `step` updates are applied."""
        steps = self.base if self.alpha == 0 else max(self.base, self._quadratic(step))
        total = self.schedule.total_steps
        return steps if total == 0 else max(1, min(steps, total - step))

    def _quadratic(self, step: int) -> int:
        eta = self.schedule.rate(max(step, self.schedule.warmup_steps))
        if eta == 0:
            return STEPS_MAX
        # (.3 / .1)^2 is a hair below 9 in floats.
        return min(STEPS_MAX, math.floor((self.alpha / eta) ** 2 * (1 + 1e-9)))


def default_alpha(schedule: Schedule, base: int) -> float:
    """At the peak learning rate the rule then gives H_base."""
    return schedule.lr * math.sqrt(base)
