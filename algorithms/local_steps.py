"""Training on one's own between two exchanges: what local SGD, DiLoCo and SparseLoCo have in common.

Replicas hold the agreed parameters theta between rounds. While it works, a replica moves on to theta + drift and takes
ordinary optimizer steps there; afterwards the parameters are put back to theta, bit for bit, and what the steps did is
kept as the drift. A contribution is the drift (the negative *pseudo-gradient* of DiLoCo). Once it was counted, what was
sent is taken off the drift: all of it, unless the replica has worked on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from .clipping import clip_by_global_norm, refuse_unusable
from .layout import Layout
from .optimizers import OptimizerOptions
from .schedule import Schedule


class LocalSteps:
    """The inner optimizer of one replica, and how far it has gone from the agreed parameters."""

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: OptimizerOptions, schedule: Schedule) -> None:
        self.layout = Layout.of(parameters)
        self.drift = torch.zeros(self.layout.dim)
        """Local minus agreed parameters, float32 [dim]."""
        self.sent = torch.zeros(self.layout.dim)
        """The drift as it was contributed last, which is what its receivers decode, float32 [dim]."""
        self._parameters = dict(parameters)
        self._options = options
        self._schedule = schedule
        self._optimizer = options.build(self.layout.dim)
        self._n_updates = torch.zeros((), dtype=torch.int64)
        self._n_ahead = torch.zeros((), dtype=torch.int64)

    @contextmanager
    @torch.no_grad()
    def working(self) -> Iterator[None]:
        """The parameters hold the local state in here, and the agreed one again afterwards."""
        agreed = self.layout.pack(self._parameters)
        self._write(agreed + self.drift)
        try:
            yield
        finally:
            torch.sub(self.layout.pack(self._parameters), agreed, out=self.drift)
            self._write(agreed)

    @torch.no_grad()
    def step(self, gradients: Mapping[str, torch.Tensor | None]) -> None:
        """One inner step. Raises BadGradient, and changes nothing then."""
        gradient = self.layout.pack(gradients)
        refuse_unusable(gradient)
        clip_by_global_norm(gradient, self._options.clip)
        lr = self._schedule.rate(int(self._n_updates + self._n_ahead))
        direction = self._optimizer.direction(gradient)
        for parameter, part in zip(self._parameters.values(), self.layout.views(direction), strict=True):
            parameter.mul_(1 - lr * self._options.weight_decay)
            parameter.sub_(part.to(parameter.device), alpha=lr)
        self._n_ahead += 1

    def send(self) -> torch.Tensor:
        """The drift to contribute, float32 [dim]; remembered as `sent`, for `settle`.

        Who sends it in a lossy codec writes there what its receivers decode.
        """
        self.sent.copy_(self.drift)
        return self.sent

    @torch.no_grad()
    def settle(self, move: torch.Tensor, *, sent: bool, step: int, n_steps: int) -> None:
        """A round is over: move the agreed parameters, and take off the drift what was sent if it counted.

        Args:
            move: float32 [dim].
            step: updates applied before the round, whose contributions took `n_steps` each.
        """
        for parameter, part in zip(self._parameters.values(), self.layout.views(move), strict=True):
            parameter.add_(part.to(parameter.device))
        if sent:
            self.drift -= self.sent
        self._n_updates.fill_(step + n_steps)
        self._n_ahead.copy_((self._n_ahead - n_steps).clamp(min=0))

    def shared_state(self) -> dict[str, torch.Tensor]:
        return {"n_updates": self._n_updates}

    def local_state(self) -> dict[str, torch.Tensor]:
        inner = {f"inner_{name}": tensor for name, tensor in self._optimizer.state().items()}
        return {"drift": self.drift, "sent": self.sent, "n_ahead": self._n_ahead, **inner}

    def _write(self, flat: torch.Tensor) -> None:
        for parameter, part in zip(self._parameters.values(), self.layout.views(flat), strict=True):
            parameter.copy_(part)
