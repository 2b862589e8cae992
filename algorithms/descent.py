"""Steps along mean gradients that all replicas hold alike: clip the norm, ask the optimizer, move."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .clipping import clip_by_global_norm
from .layout import Layout
from .optimizers import SGD, OptimizerOptions
from .schedule import Schedule


class Descent:
    """Moves parameters in place; its state is shared state."""

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: OptimizerOptions, schedule: Schedule) -> None:
        self.layout = Layout.of(parameters)
        self._parameters = dict(parameters)
        self._options = options
        self._schedule = schedule
        self._optimizer = options.build(self.layout.dim)

    @torch.no_grad()
    def update(self, gradient: torch.Tensor, step: int) -> None:
        """One update, which `step` updates came before.

        Args:
            gradient: float32 [dim], finite; it is clipped in place.
        """
        clip_by_global_norm(gradient, self._options.clip)
        direction, lr = self._optimizer.direction(gradient), self._schedule.rate(step)
        for parameter, part in zip(self._parameters.values(), self.layout.views(direction), strict=True):
            if self._options.weight_decay:
                parameter.mul_(1 - lr * self._options.weight_decay)
            parameter.sub_(part.to(parameter.device), alpha=lr)

    @property
    def momentum(self) -> SGD | None:
        """The optimizer, if it is one whose late gradients can be made up for."""
        return self._optimizer if isinstance(self._optimizer, SGD) else None

    @torch.no_grad()
    def predicted(self, step: int, delay: float) -> dict[str, torch.Tensor]:
        """The parameters after so many updates more, if they go on along the velocity: w - lr D v. Copies."""
        assert self.momentum is not None
        ahead = self._schedule.rate(step) * delay
        parts = zip(self._parameters.items(), self.layout.views(self.momentum.velocity), strict=True)
        return {name: parameter - ahead * part.to(parameter.device) for (name, parameter), part in parts}

    def state(self) -> dict[str, torch.Tensor]:
        """References."""
        return self._optimizer.state()
