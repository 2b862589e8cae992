"""A model's buffers: what is neither learnt nor constant, such as BatchNorm's running mean and variance.

Training steps move them on every replica differently, so they are no part of the state that a group agrees on. They
are put back after each round's local steps, and before a model is evaluated or kept, the running statistics are
estimated anew at the agreed parameters, from training samples that follow from the seed: equal parameters have equal
buffers, whoever computes them. (Izmailov et al. 2018, arXiv:1803.05407, section 3.2, do so for averaged weights.)
"""

from __future__ import annotations

from typing import Final

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..tasks import Task, round_batches

N_BATCHES: Final = 8
"""Batches over which running statistics are averaged."""


class Buffers:
    """The buffers of one model."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._persistent = {name: tensor for name, tensor in model.named_buffers() if name in model.state_dict()}
        self._at_rest = {name: tensor.clone() for name, tensor in self._persistent.items()}
        self._norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]

    @torch.no_grad()
    def restore(self) -> None:
        """Undo what training steps did to them."""
        for name, tensor in self._persistent.items():
            tensor.copy_(self._at_rest[name])

    def tensors(self) -> dict[str, torch.Tensor]:
        """As last estimated; references. Empty for models without buffers."""
        return self._at_rest

    @torch.no_grad()
    def estimate(self, task: Task, *, seed: int, batch_size: int) -> None:
        """Set running statistics to their average over some batches at the model's present parameters."""
        tracked = [norm for norm in self._norms if norm.track_running_stats]
        if not tracked:
            return
        momenta = [norm.momentum for norm in tracked]
        for norm in tracked:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
        was_training = self._model.training
        self._model.train()
        for (batch,) in round_batches(
            seed=seed, round_index=0, n_members=1, batch_size=batch_size, n_steps=N_BATCHES, n_train=task.n_train
        ):
            task.loss(self._model, batch)
        self._model.train(was_training)
        for norm, momentum in zip(tracked, momenta, strict=True):
            norm.momentum = momentum
        for name, tensor in self._persistent.items():
            self._at_rest[name].copy_(tensor)
