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

import torch

from .clipping import global_norm
from .frequency_momentum import FrequencyMomentum
from .layout import Layout
from .method import F32, Exchange, Method, Slots
from .options import describe_options, require
from .quantize import VALUE_BITS
from .robust.choice import refuse_dense_rule
from .schedule import Schedule
from .sparse_sum import COMBINES

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
    """normclip, reject, vote or senders."""
    weight_decay: float = 0.0
    """Decoupled: parameters shrink by 1 - lr * weight_decay each update; 0: not at all."""
    clip: float = 1.0
    """Bound of the local gradient's global norm; 0: none."""

    def __post_init__(self) -> None:
        require(1 <= self.tile <= TILE_MAX, "tile", f"between 1 and {TILE_MAX}", self.tile)
        require(1 <= self.k <= self.tile**2, "k", f"between 1 and tile * tile = {self.tile**2}", self.k)
        require(0 <= self.beta < 1, "beta", "at least 0 and below 1", self.beta)
        require(self.value_bits in VALUE_BITS, "value_bits", "1, 2, 8 or 32", self.value_bits)
        refuse_dense_rule(self.combine)
        require(self.combine in COMBINES, "combine", f"one of {', '.join(COMBINES)}", self.combine)
        require(0 <= self.weight_decay <= 10, "weight_decay", "between 0 and 10", self.weight_decay)
        require(0 <= self.clip <= 1e6, "clip", "between 0 and 1e6", self.clip)


class DecoupledMomentum(Method):
    """DeMo as a method of a group; `demo_optimizer.DeMo` is the same for a training loop of one's own."""

    name = "demo"
    exchange = Exchange.GATHER
    default_lr = 2e-3
    options_type = DeMoOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: DeMoOptions, schedule: Schedule) -> None:
        self._parameters = dict(parameters)
        self._options = options
        self.clip = options.clip
        """Bound of this replica's gradients."""
        self._schedule = schedule
        self._layout = Layout.of(parameters)
        self._momentum = FrequencyMomentum(
            self._layout.shapes, size=options.tile, k=options.k, value_bits=options.value_bits
        )
        # The rate of a gradient that comes in is that of the update it will be part of.
        self._n_updates = torch.zeros((), dtype=torch.int64)

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        in_order = self._layout.in_order(gradients)
        norm = global_norm(in_order)
        scale = self.clip / norm if 0 < self.clip < norm else 1.0
        rate = self._schedule.rate(int(self._n_updates)) * scale
        for tensor, gradient in enumerate(in_order):
            self._momentum.absorb(tensor, gradient, decay=self._options.beta, rate=rate)

    def encode(self, agreed: F32) -> bytes:
        return self._momentum.encode()

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        contributions = [self._momentum.format.decode(payload) for payload in payloads]
        combination, dropped = self._momentum.combine(contributions, self._options.combine)
        lr, weight_decay = self._schedule.rate(step), self._options.weight_decay
        for tensor, parameter in enumerate(self._parameters.values()):
            self._momentum.descend(tensor, parameter, combination, lr=lr, weight_decay=weight_decay)
        if mine is not None:
            self._momentum.retire(contributions[mine])
        self._n_updates.fill_(step + 1)
        return dropped

    def check(self, payload: bytes) -> None:
        self._momentum.format.check(payload)

    def payload_bytes_max(self) -> int:
        return self._momentum.format.bytes_max()

    def shared_state(self) -> dict[str, torch.Tensor]:
        return {"n_updates": self._n_updates}

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"momentum": self._momentum.tensor}

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self._options)}
