"""A stage that updates its weights after each microbatch, without waiting for the other stages.

There is no bubble and no global step; instead a gradient meets weights that have moved on since its forward pass. The
delay is the difference of the stage's versions, measured for each microbatch, and `algorithms/pipeline/delayed.py`
makes up for it. For static schedules it is what the papers say: S - 1 - s at stage s of S under 1F1B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ...algorithms.pipeline.delayed import DelayedOptions, DelayedSGD
from ...algorithms.pipeline.splitting import whole_backward
from ...protocol.errors import Busy, StaleStage
from ...tasks import CannotCut, Stage
from .microbatches import Boundaries, MicrobatchId, seeded


@dataclass(frozen=True, kw_only=True)
class Updated:
    """Result of a backward pass that moved the weights."""

    input_gradient: Tensor | None
    loss: float | None
    delay: int
    """Updates that the stage made since the microbatch's forward pass."""


@dataclass(frozen=True, kw_only=True)
class _Passing:
    version: int
    weights: Mapping[str, Tensor] | None
    """Those of the forward pass, if they are kept."""


class UnsynchronisedStage:
    """A stage of one replica that steps by itself.

    Args:
        rate: the learning rate by number of updates.
        in_flight_max: microbatches between their forward and backward pass.
    Raises: CannotCut for a stage that borrows weights.
    """

    def __init__(
        self,
        stage: Stage,
        boundaries: Boundaries,
        options: DelayedOptions,
        *,
        rate: Callable[[int], float],
        run_seed: int,
        in_flight_max: int,
    ) -> None:
        self.stage = stage
        self.boundaries = boundaries
        self.version = 0
        """Updates made."""
        self._options = options
        self._optimizer = DelayedSGD(stage.owned, options)
        self._rate = rate
        self._run_seed = run_seed
        self._in_flight_max = in_flight_max
        self._passing: dict[MicrobatchId, _Passing] = {}
        self._delay = 0
        if stage.borrowed:
            name = next(iter(stage.borrowed))
            raise CannotCut(
                f"stage {stage.index} borrows {name!r} from stage {stage.lenders[name]}, which moves it between: "
                "synchronise the stages, or use a model without tied weights"
            )

    def forward(self, microbatch: MicrobatchId, x: Tensor) -> tuple[Tensor, int]:
        """The stage's output, and the version of the weights that made it. A repeated call is a new forward pass.

        Raises: Busy, BadTensor.
        """
        self.boundaries.input.check(x, "the stage's input")
        if microbatch not in self._passing and len(self._passing) >= self._in_flight_max:
            raise Busy(f"{len(self._passing)} microbatches are on their way here: ask again later")
        weights = self._weights_ahead()
        kept = weights if self._options.stash else None
        self._passing[microbatch] = _Passing(version=self.version, weights=kept)
        with torch.no_grad(), self._using(weights), seeded(self._run_seed, self.stage.index, microbatch):
            return self.stage(x), self.version

    def backward(self, microbatch: MicrobatchId, version: int, x: Tensor, arrived: Tensor) -> Updated:
        """Differentiate, and update the weights at once. The microbatch is then forgotten: a repeated call is refused.

        Args:
            version: that `forward` gave for this microbatch.
            arrived: as for `StageReplica.backward`.
        Raises: StaleStage for a microbatch that is not on its way here, or with another version; BadTensor.
        """
        passing = self._passing.get(microbatch)
        if passing is None or passing.version != version:
            raise StaleStage(
                f"microbatch {microbatch.index} of step {microbatch.step} is not on its way through stage "
                f"{self.stage.index} at version {version}: it was taken in already, or must be passed anew"
            )
        self.boundaries.input.check(x, "the stage's input")
        self.boundaries.output.check(arrived, "the targets" if self.stage.is_last else "the gradient of the output")
        x = x.detach().requires_grad_(not self.stage.is_first)
        with self._using(passing.weights), seeded(self._run_seed, self.stage.index, microbatch), torch.enable_grad():
            out = self.stage(x)
            loss = self.stage.loss(out, arrived) if self.stage.loss is not None else None
            target, gradient = (out, arrived) if loss is None else (loss, None)
            wanted = None if self.stage.is_first else x
            input_gradient, gradients = whole_backward(target, gradient, wanted, self.stage.owned)
        del self._passing[microbatch]
        self._delay = self.version - version
        self._optimizer.step(gradients, lr=self._rate(self.version), delay=self._delay)
        self.version += 1
        return Updated(
            input_gradient=input_gradient, loss=None if loss is None else float(loss.detach()), delay=self._delay
        )

    def _weights_ahead(self) -> Mapping[str, Tensor] | None:
        """Weights for a forward pass, as copies; None: those of the stage will do."""
        if self._options.predict:
            return self._optimizer.predicted(lr=self._rate(self.version), delay=self._delay)
        if self._options.stash:
            return {name: parameter.detach().clone() for name, parameter in self.stage.owned.items()}
        return None

    @contextmanager
    def _using(self, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
        """Compute with other weights; the stage's own are back afterwards."""
        own = {name: parameter.data for name, parameter in self.stage.owned.items()}
        try:
            for name, tensor in (weights or {}).items():
                self.stage.owned[name].data = tensor
            yield
        finally:
            for name, tensor in own.items():
                self.stage.owned[name].data = tensor
