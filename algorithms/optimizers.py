"""AdamW and SGD on one flat vector: a mean gradient in, a direction out.

Every replica feeds them the same averaged gradient and so holds the same state, which is therefore shared state.
Weight decay is decoupled and belongs to whoever applies the direction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch


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
        self._mean.mul_(self._beta1).add_(gradient, alpha=1 - self._beta1)
        self._square.mul_(self._beta2).addcmul_(gradient, gradient, value=1 - self._beta2)
        denominator = (self._square / (1 - self._beta2**t)).sqrt_().add_(self._eps)
        return (self._mean / (1 - self._beta1**t)).div_(denominator)

    def state(self) -> dict[str, torch.Tensor]:
        return {"adam_mean": self._mean, "adam_square": self._square, "adam_n_updates": self._n_updates}


class SGD(Optimizer):
    """v = momentum * v + g; the direction is v. Momentum 0 is plain SGD."""

    def __init__(self, dim: int, *, momentum: float) -> None:
        self._momentum = momentum
        self._velocity = torch.zeros(dim)

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        self._velocity.mul_(self._momentum).add_(gradient)
        return self._velocity

    def state(self) -> dict[str, torch.Tensor]:
        return {"sgd_velocity": self._velocity}
