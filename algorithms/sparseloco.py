"""SparseLoCo: DiLoCo whose pseudo-gradients are sparse, with error feedback (arXiv:2508.15706).

    D_i       what H inner AdamW steps moved (here with the sign of a move)
    e         decay e + D_i
    payload   the k largest |e| of every 4096 elements, quantised
    theta     theta + outer_lr * sum of payloads / number of contributors, an absent element counting as 0
    e         e - payload, where it counted

Chunks of 4096 are the 64 x 64 tiles of `tiles`, without any transform. The paper's are k 64, H 30, decay .95, 2 bits a
value, outer rates of .4 to 1, and no outer momentum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from .intervals import Interval
from .local import H_MAX
from .local_steps import LocalSteps
from .method import F32, Exchange, Method, Slots
from .optimizers import OptimizerOptions
from .options import describe_options, require
from .payload import Coefficients, PayloadFormat
from .schedule import Schedule
from .tiles import Tiling

TILE: Final = 64
VALUE_BITS: Final = (2, 8, 32)


@dataclass(frozen=True, kw_only=True)
class SparseLoCoOptions(OptimizerOptions):
    """Options of `sparseloco`; the optimizer is the inner one."""

    h: int = 30
    """Local steps in a round."""
    k: int = 64
    """Elements sent of each 4096; smaller tiles send in proportion, at least one."""
    value_bits: int = 2
    """2: four levels for each tensor; 8: linear with a scale for each tile; 32: float32."""
    decay: float = 0.95
    """Of the error feedback, each round."""
    outer_lr: float = 1.0
    overlap: bool = False
    """Exchange one round's work while the next one's is done; outer steps then come a round late."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.h <= H_MAX, "h", f"between 1 and {H_MAX}", self.h)
        require(1 <= self.k <= TILE**2, "k", f"between 1 and {TILE**2}", self.k)
        require(self.value_bits in VALUE_BITS, "value_bits", "2, 8 or 32", self.value_bits)
        require(0 <= self.decay <= 1, "decay", "between 0 and 1", self.decay)
        require(0 < self.outer_lr <= 10, "outer_lr", "above 0 and at most 10", self.outer_lr)


class SparseLoCo(Method):
    """Sparse pseudo-gradients with error feedback."""

    name = "sparseloco"
    exchange = Exchange.GATHER
    default_lr = 1e-3
    options_type = SparseLoCoOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: SparseLoCoOptions, schedule: Schedule) -> None:
        self._options = options
        self._local = LocalSteps(parameters, options, schedule)
        self._interval = Interval(base=options.h, alpha=0.0, schedule=schedule)
        self._tiling = Tiling(self._local.layout.shapes, TILE)
        self._format = PayloadFormat(self._tiling, size=TILE, k=options.k, value_bits=options.value_bits)
        # In the order of the tiled vector, and so are all sums below.
        self._error = torch.zeros(self._local.layout.dim)
        self.overlaps = options.overlap

    def steps(self, step: int) -> int:
        return self._interval.steps(step)

    @contextmanager
    def working(self) -> Iterator[None]:
        with self._local.working():
            yield

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        self._local.step(gradients)

    def encode(self, agreed: F32) -> bytes:
        self._local.send()
        return self._format.encode(self._with_feedback())

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        contributions = [self._format.decode(payload) for payload in payloads]
        if mine is not None:
            self._retire(contributions[mine])
        move = self._scattered(self._mean(contributions)) * self._options.outer_lr
        self._local.settle(move, sent=mine is not None, step=step, n_steps=self.steps(step))
        return ()

    def check(self, payload: bytes) -> None:
        self._format.check(payload)

    def payload_bytes_max(self) -> int:
        return self._format.bytes_max()

    def shared_state(self) -> dict[str, torch.Tensor]:
        return self._local.shared_state()

    def local_state(self) -> dict[str, torch.Tensor]:
        return {**self._local.local_state(), "error": self._error}

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self._options)}

    def _with_feedback(self) -> F32:
        """decay e + D, for what was sent last; tiled float32 [dim]."""
        views = [view.numpy() for view in self._local.layout.views(self._local.sent)]
        tiled = self._tiling.gather(views)
        tiled += np.float32(self._options.decay) * self._error.numpy()
        return tiled

    def _retire(self, sent: Coefficients) -> None:
        error = self._with_feedback()
        error[sent.positions] -= sent.values
        self._error.copy_(torch.from_numpy(error))

    def _mean(self, contributions: Sequence[Coefficients]) -> F32:
        """Tiled float32 [dim]."""
        total = np.zeros(self._local.layout.dim, np.float32)
        for contribution in contributions:
            total[contribution.positions] += contribution.values
        total /= len(contributions)
        return total

    def _scattered(self, tiled: F32) -> torch.Tensor:
        """The same in the parameters' order, float32 [dim]."""
        return torch.cat([torch.from_numpy(matrix).flatten() for matrix in self._tiling.scatter(tiled)])
