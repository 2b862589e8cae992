"""DeMo, decoupled momentum (Peng, Quesnelle, Kingma 2024, arXiv:2411.19870): send what is fast, keep what is slow.

    every step     m = beta * m + lr * g                     my own momentum, never averaged
    contribution   q = the k largest |coefficients| of each tile of DCT(m)
    update         p = (1 - lr * weight_decay) * p;  p = p - lr * sign(IDCT(sum of all q))
    once counted   m = m - IDCT(q)                           what was sent leaves the momentum (error feedback)

The transform is linear, so the momentum lives in the DCT domain: one forward transform a step, none for the residual.
On purpose unlike the published code: `q` is what the others decode and not what I would have liked to send, so rounding
errors are fed back as well; absent coefficients count as 0 in the sum, and no contribution outweighs the group's median
(see `sparse_sum`); remainder tiles are transformed at their own size. With 1 bit only signs travel, and the
coefficients that they stand for leave the momentum entirely.

Signs near 0 depend on the transform's implementation: the replicas of a run use the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from . import dct
from .clipping import clip_by_global_norm, refuse_unusable
from .layout import Layout
from .method import F32, Exchange, Method, Slots
from .options import describe_options, require
from .payload import Coefficients, PayloadFormat
from .quantize import VALUE_BITS
from .schedule import Schedule
from .sparse_sum import COMBINES, mean_of_senders, sum_clipped
from .tiles import Tiling

TILE_MAX: Final = 64
"""A tile's indices fit into 12 bits."""


@dataclass(frozen=True, kw_only=True)
class DeMoOptions:
    """Options of `demo`."""

    k: int = 32
    """Coefficients sent of each whole tile; smaller tiles send in proportion, at least one."""
    tile: int = 64
    """Side of a tile."""
    beta: float = 0.99
    """Decay of the local momentum. The paper's .999 is for long runs: within hundreds of steps .95 to .99 do better."""
    value_bits: int = 8
    """32: float32; 8: linear with a scale for each tile; 1: signs."""
    combine: str = "normclip"
    """normclip or senders."""
    weight_decay: float = 0.0
    """Decoupled: parameters shrink by 1 - lr * weight_decay each update; 0: not at all."""
    clip: float = 1.0
    """Bound of the local gradient's global norm; 0: none."""

    def __post_init__(self) -> None:
        require(1 <= self.tile <= TILE_MAX, "tile", f"between 1 and {TILE_MAX}", self.tile)
        require(1 <= self.k <= self.tile**2, "k", f"between 1 and tile * tile = {self.tile**2}", self.k)
        require(0 <= self.beta < 1, "beta", "at least 0 and below 1", self.beta)
        require(self.value_bits in VALUE_BITS, "value_bits", "1, 8 or 32", self.value_bits)
        require(self.combine in COMBINES, "combine", f"one of {', '.join(COMBINES)}", self.combine)
        require(0 <= self.weight_decay <= 10, "weight_decay", "between 0 and 10", self.weight_decay)
        require(0 <= self.clip <= 1e6, "clip", "between 0 and 1e6", self.clip)


class DeMo(Method):
    """Decoupled momentum."""

    name = "demo"
    exchange = Exchange.GATHER
    default_lr = 2e-3
    options_type = DeMoOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: DeMoOptions, schedule: Schedule) -> None:
        self._parameters = dict(parameters)
        self._options = options
        self._schedule = schedule
        self._layout = Layout.of(parameters)
        self._tiling = Tiling(self._layout.shapes, options.tile)
        self._format = PayloadFormat(self._tiling, size=options.tile, k=options.k, value_bits=options.value_bits)
        self._momentum = torch.zeros(self._layout.dim)
        # The rate of a gradient that comes in is that of the update it will be part of.
        self._n_updates = torch.zeros((), dtype=torch.int64)

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        flat = self._layout.pack(gradients)
        refuse_unusable(flat)
        clip_by_global_norm(flat, self._options.clip)
        tiled = self._tiling.gather([view.numpy() for view in self._layout.views(flat)])
        coefficients = torch.from_numpy(dct.forward(tiled, self._tiling))
        lr = self._schedule.rate(int(self._n_updates))
        self._momentum.mul_(self._options.beta).add_(coefficients, alpha=lr)

    def encode(self, agreed: F32) -> bytes:
        return self._format.encode(self._momentum.numpy())

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        contributions = [self._format.decode(payload) for payload in payloads]
        self._descend(dct.inverse(self._sum(contributions), self._tiling), self._schedule.rate(step))
        if mine is not None:
            self._retire(contributions[mine])
        self._n_updates.fill_(step + 1)
        return ()

    def check(self, payload: bytes) -> None:
        self._format.decode(payload)

    def payload_bytes_max(self) -> int:
        return self._format.bytes_max()

    def shared_state(self) -> dict[str, torch.Tensor]:
        return {"n_updates": self._n_updates}

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"momentum": self._momentum}

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self._options)}

    def _sum(self, contributions: Sequence[Coefficients]) -> F32:
        if self._options.combine == "senders":
            return mean_of_senders(contributions, self._layout.dim)
        return sum_clipped(contributions, self._layout.dim, len(self._layout.names))

    @torch.no_grad()
    def _descend(self, tiled: F32, lr: float) -> None:
        signs = self._tiling.scatter(np.sign(tiled))
        for parameter, sign in zip(self._parameters.values(), signs, strict=True):
            parameter.mul_(1 - lr * self._options.weight_decay)
            step = torch.from_numpy(sign).view(parameter.shape)
            parameter.sub_(step.to(parameter.device), alpha=lr)

    def _retire(self, sent: Coefficients) -> None:
        momentum = self._momentum.numpy()
        if self._options.value_bits == 1:
            momentum[sent.positions] = 0
        else:
            momentum[sent.positions] -= sent.values
