"""Momentum SGD with gradients that come late (Kosson et al. 2021, Pipelined Backpropagation, arXiv:2003.11666).

Without waiting for others, a stage makes D updates between a microbatch's forward and backward pass. With a gradient g
that belongs to the weights of D updates ago:

    v = m v + g
    w -= lr (a v + b g)     spike compensation: a = m^D, b = (1 - m^D) / (1 - m)
    w^ = w - lr D v         linear weight prediction: forward passes use w^, a guess of what the gradient will meet

a and b are such that a gradient that comes D late has moved the weights by then as far as it would have, had it come in
time. Without compensation a = 1, b = 0. D is not a constant of the schedule: it is measured, for each gradient, as the
difference of the stage's versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..options import require


@dataclass(frozen=True, kw_only=True)
class DelayedOptions:
    """How a stage that doesn't wait makes up for the delay."""

    momentum: float = 0.9
    compensate: bool = False
    """Spike compensation."""
    predict: bool = False
    """Linear weight prediction."""
    stash: bool = False
    """Backward passes use the weights of their forward pass (PipeDream, arXiv:1806.03377), at the price of a copy of
    the weights for each version that is on its way. Otherwise they use the newest."""

    def __post_init__(self) -> None:
        require(0 <= self.momentum < 1, "momentum", "at least 0 and below 1", self.momentum)


def compensation(momentum: float, delay: float) -> tuple[float, float]:
    """a and b of spike compensation: the shares of velocity and gradient.

    Args:
        delay: D; a mean over gradients that come together is good enough between whole numbers.
    """
    a = momentum**delay
    return a, (1 - a) / (1 - momentum)


class DelayedSGD:
    """Updates parameters in place from gradients of known delay.

    Args:
        parameters: by name; any floating dtype.
    """

    def __init__(self, parameters: Mapping[str, Tensor], options: DelayedOptions) -> None:
        self._parameters = dict(parameters)
        self._options = options
        self._velocity = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], *, lr: float, delay: int) -> None:
        """Take in a gradient. Missing ones count as zero.

        Args:
            delay: D >= 0, updates made since the forward pass that it belongs to.
        """
        a, b = compensation(self._options.momentum, delay) if self._options.compensate else (1.0, 0.0)
        for name, parameter in self._parameters.items():
            velocity, gradient = self._velocity[name], gradients.get(name)
            velocity.mul_(self._options.momentum)
            if gradient is not None:
                velocity.add_(gradient)
                parameter.sub_(gradient, alpha=lr * b)
            parameter.sub_(velocity, alpha=lr * a)

    @torch.no_grad()
    def predicted(self, *, lr: float, delay: int) -> dict[str, Tensor]:
        """The weights to be expected after so many more updates, by linear prediction; copies."""
        return {name: p.detach() - lr * delay * self._velocity[name] for name, p in self._parameters.items()}

    def state(self) -> dict[str, Tensor]:
        """References to the velocities, all zero at first."""
        return self._velocity
