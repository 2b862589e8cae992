"""AdamW and SGD on one flat vector: a mean gradient in, a direction out.

Every replica feeds them the same averaged gradient and so holds the same state, which is therefore shared state.
Weight decay is decoupled and belongs to whoever applies the direction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from .options import require
from .pipeline.delayed import compensation

OPTIMIZERS: Final = ("adamw", "sgd")
BLOCK: Final = 1 << 16
"""Elements that go through all of an update's operations at once, while they are in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """Options of methods that step with an optimizer of the usual kind."""

    optimizer: str = "adamw"
    """adamw or sgd."""
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-5
    """Added to Adam's denominator; larger is more stable and closer to SGD."""
    momentum: float = 0.9
    """For sgd; 0: none."""
    weight_decay: float = 0.0
    """Decoupled: parameters shrink by 1 - lr * weight_decay each update; 0: not at all."""
    clip: float = 1.0
    """Bound of the gradient's global norm before the optimizer sees it; 0: none."""

    def __post_init__(self) -> None:
        require(self.optimizer in OPTIMIZERS, "optimizer", f"one of {', '.join(OPTIMIZERS)}", self.optimizer)
        require(0 <= self.beta1 < 1, "beta1", "at least 0 and below 1", self.beta1)
        require(0 <= self.beta2 < 1, "beta2", "at least 0 and below 1", self.beta2)
        require(0 < self.eps <= 1, "eps", "above 0 and at most 1", self.eps)
        require(0 <= self.momentum < 1, "momentum", "at least 0 and below 1", self.momentum)
        require(0 <= self.weight_decay <= 10, "weight_decay", "between 0 and 10", self.weight_decay)
        require(0 <= self.clip <= 1e6, "clip", "between 0 and 1e6", self.clip)

    def build(self, dim: int) -> Optimizer:
        """The optimizer for a flat vector of so many elements."""
        if self.optimizer == "adamw":
            return AdamW(dim, beta1=self.beta1, beta2=self.beta2, eps=self.eps)
        return SGD(dim, momentum=self.momentum)


class Optimizer(ABC):
    """Turns mean gradients into directions; parameters then move by `-lr * direction`."""

    @abstractmethod
    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """The direction of this update, float32 [dim]; advances the state."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """References to the state tensors, all zero at first."""


class AdamW(Optimizer):
    """Adam with bias correction (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1)."""

    def __init__(self, dim: int, *, beta1: float, beta2: float, eps: float) -> None:
        self._beta1, self._beta2, self._eps = beta1, beta2, eps
        self._mean = torch.zeros(dim)
        self._square = torch.zeros(dim)
        self._n_updates = torch.zeros((), dtype=torch.int64)

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        self._n_updates += 1
        t = int(self._n_updates)
        direction = empty(len(gradient))
        pieces = zip(*(torch.split(v, BLOCK) for v in (self._mean, self._square, gradient, direction)), strict=True)
        for mean, square, g, to in pieces:
            mean.mul_(self._beta1).add_(g, alpha=1 - self._beta1)
            square.mul_(self._beta2).addcmul_(g, g, value=1 - self._beta2)
            torch.div(square, 1 - self._beta2**t, out=to).sqrt_().add_(self._eps)
            torch.div(mean / (1 - self._beta1**t), to, out=to)
        return direction

    def state(self) -> dict[str, torch.Tensor]:
        return {"adam_mean": self._mean, "adam_square": self._square, "adam_n_updates": self._n_updates}


class SGD(Optimizer):
    """v = momentum * v + g; the direction is v. Momentum 0 is plain SGD.

    A gradient that comes D updates late moves the weights by a v + b g: spike compensation, see `pipeline.delayed`.
    """

    delay: float = 0.0
    """D of the next gradient; 0: it comes in time."""

    def __init__(self, dim: int, *, momentum: float) -> None:
        self._momentum = momentum
        self.velocity = torch.zeros(dim)

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        self.velocity.mul_(self._momentum).add_(gradient)
        if self.delay == 0:
            return self.velocity
        a, b = compensation(self._momentum, self.delay)
        return a * self.velocity + b * gradient

    def state(self) -> dict[str, torch.Tensor]:
        return {"sgd_velocity": self.velocity}


def empty(dim: int) -> torch.Tensor:
    """float32 [dim] of any values. From numpy, which asks for huge pages: fresh memory is most of a large update."""
    return torch.from_numpy(np.empty(dim, np.float32))
