"""The learning rate as a function of the number of updates applied before."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from .options import require

KINDS: Final = ("constant", "linear", "cosine")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up to `lr`, then constant, or down to `floor * lr` along a line or half a cosine."""

    lr: float
    kind: str = "constant"
    """constant, linear or cosine."""
    warmup_steps: int = 0
    """Updates until `lr` is reached; 0: none. The first update already has a rate above zero."""
    total_steps: int = 0
    """Updates until the floor is reached and kept; must exceed the warm-up unless the kind is constant."""
    floor: float = 0.0
    """Last rate as a fraction of `lr`."""

    def __post_init__(self) -> None:
        require(self.kind in KINDS, "kind", f"one of {', '.join(KINDS)}", self.kind)
        require(math.isfinite(self.lr) and 0 <= self.lr <= 100, "lr", "between 0 and 100", self.lr)
        require(self.warmup_steps >= 0, "warmup_steps", "at least 0", self.warmup_steps)
        require(0 <= self.floor <= 1, "floor", "between 0 and 1", self.floor)
        fits = self.kind == "constant" or self.total_steps > self.warmup_steps
        require(fits, "total_steps", f"above warmup_steps = {self.warmup_steps}", self.total_steps)

    def rate(self, step: int) -> float:
        """The learning rate of the update that `step` updates came before."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        return self.lr * (self.floor + (1 - self.floor) * self._remaining(step))

    def _remaining(self, step: int) -> float:
        if self.kind == "constant":
            return 1.0
        done = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        if self.kind == "linear":
            return 1.0 - done
        return 0.5 * (1.0 + math.cos(math.pi * done))
