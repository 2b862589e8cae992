"""DiLoCo: many local AdamW steps, and an outer Nesterov step on their mean (Douillard et al. 2023, arXiv:2311.08105).

    theta_i   theta, then H inner steps on samples of replica i; the inner optimizer's state is kept, never averaged
    D         mean of theta - theta_i over the contributors: the pseudo-gradient
    v         mu v + D                                        (0 at first)
    theta     theta - outer_lr (D + mu v)

With outer_lr 1 and mu 0 this is local AdamW. Algorithm 1 of the paper, with its outer rate .7 and momentum .9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .local import Local, LocalOptions
from .options import require
from .schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class DiLoCoOptions(LocalOptions):
    """Options of `diloco`; the optimizer is the inner one."""

    h: int = 30
    """Local steps in a round. The paper has 500 in runs of 88,000 steps."""
    outer_lr: float = 0.7
    outer_momentum: float = 0.9
    """mu; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.outer_lr <= 10, "outer_lr", "above 0 and at most 10", self.outer_lr)
        require(0 <= self.outer_momentum < 1, "outer_momentum", "at least 0 and below 1", self.outer_momentum)


class DiLoCo(Local):
    """Distributed low-communication training."""

    name = "diloco"
    options_type = DiLoCoOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: DiLoCoOptions, schedule: Schedule) -> None:
        super().__init__(parameters, options, schedule)
        self._outer = Nesterov(self._local.layout.dim, lr=options.outer_lr, momentum=options.outer_momentum)

    def shared_state(self) -> dict[str, torch.Tensor]:
        return {**super().shared_state(), **self._outer.state()}

    def _move(self, mean: torch.Tensor) -> torch.Tensor:
        return self._outer.move(mean)


class Nesterov:
    """The outer optimizer. It sees drifts, negative pseudo-gradients, so that its moves are added."""

    def __init__(self, dim: int, *, lr: float, momentum: float) -> None:
        self._lr, self._momentum = lr, momentum
        self._velocity = torch.zeros(dim)

    def move(self, drift: torch.Tensor) -> torch.Tensor:
        """What to add to the parameters, float32 [dim]; advances the velocity."""
        self._velocity.mul_(self._momentum).add_(drift)
        return self._lr * (drift + self._momentum * self._velocity)

    def state(self) -> dict[str, torch.Tensor]:
        return {"outer_velocity": self._velocity}
