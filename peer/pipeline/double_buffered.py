"""A stage that also passes the next step's microbatches, before the present step is decided (asynchronous mode).

Microbatches of step t + 1 that were begun at version t keep to it: forward and backward, at whatever replica, use the
weights that belong to version t, also after the stage has gone on to t + 1. That is weight stashing (PipeDream,
arXiv:1806.03377) with the two copies of PipeDream-2BW (arXiv:2006.09503): nothing older than one update is served. So a
pass still names the very weights that it means, and a mended one is the same function of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...protocol.errors import StaleStage
from ...tasks import Stage
from ..buffers import Buffers
from .microbatches import MicrobatchId
from .stage import Meant, Passed, StageReplica

Weights = Mapping[str, Tensor]


class DoubleBuffered(StageReplica):
    """A stage at one version, with what passes ahead of it need of this version and of the one before.

    Args:
        copies: two stages like `stage`, for the weights of passes that are a step ahead.
        ahead: the weights of such passes, by name, at the present version.
    """

    def __init__(
        self, stage: Stage, *args: Any, copies: tuple[Stage, Stage], ahead: Callable[[], Weights], **options: Any
    ):
        super().__init__(stage, *args, **options)
        self._copies = tuple(Meant(copy, Buffers(copy.body)) for copy in copies)
        self._ahead = ahead
        self._copied: dict[int, int] = {}
        """Version -> which copy has it."""
        self._versions: dict[MicrobatchId, int] = {}
        """Of gradients that were taken a step ahead."""

    def backward(self, microbatch: MicrobatchId, version: int, x: Tensor, arrived: Tensor, **options: Any) -> Passed:
        passed = super().backward(microbatch, version, x, arrived, **options)
        if microbatch.step > version:
            self._versions.setdefault(microbatch, version)
        return passed

    def _meant(self, microbatch: MicrobatchId, version: int) -> Meant:
        """Those of the pass's step, or the copy for passes that are a step ahead."""
        if microbatch.step == version:
            return super()._meant(microbatch, version)
        if microbatch.step != version + 1 or version not in self._copied:
            served = ", ".join(str(one) for one in sorted(self._copied))
            raise StaleStage(
                f"stage {self.stage.index} has the weights of version {served or 'none'} for passes ahead, not of "
                f"{version} for step {microbatch.step}: pass the microbatch anew"
            )
        return self._copies[self._copied[version]]

    def renew(self, version: int) -> None:
        """Other weights were put in place of these, by an update. What was passed ahead for the next step stays."""
        decided = max((self._version, *self._copied))
        self._keep(lambda name: name in self._versions and name.step > decided)
        self._versions = {name: at for name, at in self._versions.items() if name in self._held}
        self._version = version
        if version >= 0 and version not in self._copied:
            self._copy(version)

    def clear(self) -> None:
        """Forget all: the weights come from elsewhere."""
        self._copied, self._versions = {}, {}
        self._keep(lambda name: False)

    def forget(self, unless: Callable[[MicrobatchId], bool]) -> None:
        super().forget(unless=lambda name: name in self._versions or unless(name))

    @torch.no_grad()
    def _copy(self, version: int) -> None:
        oldest = min(self._copied, default=None) if len(self._copied) == len(self._copies) else None
        place = self._copied.pop(oldest) if oldest is not None else len(self._copied)
        self._copied[version] = place
        weights = {**self.stage.trained, **self._ahead()}
        for name, parameter in self._copies[place].stage.trained.items():
            parameter.copy_(weights[name])
