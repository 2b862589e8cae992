"""Training by sizes and costs only: payloads of the right length, time for the right work, no mathematics.

A task and a method like any others, so that the daemons run unchanged with them:

    task   = gossamer.simulator.analytic:Sized
    method = gossamer.simulator.analytic:Gather or :Reduce

The replica's state is small whatever `n_params` says, so its transfer to a newcomer, and the time to apply an update,
are cheaper than in truth; everything that is exchanged in rounds, or passed along stages, has its size.

What no memory could hold is held in part. With a *grain* of g, payloads and activations are described by a g-th of
their bytes, and the simulated lines carry g bytes for each (`session.Fabric.grains`): a transfer takes as long and
counts as much as the whole would, in chunks that are g times as large. Keep them below what a line carries in a
deadline.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..algorithms import BadPayload, Exchange, Method, OptionValue, Schedule, Slots
from ..algorithms.method import F32
from ..algorithms.options import read_options, require
from ..peer.pipeline.activations import Compression
from ..tasks import Derivatives, Indices, Stage, Staged
from .sized_tensors import Remembered, SizedCodec, constant, mean_of

N_HELD_OUT = 4
GRAINED = (
    *("round/fetch", "round/log", "round/offer", "round/offer-stream", "round/part-stream"),
    *("stage/pass", "stage/pass-stream"),
)
"""Methods whose messages are payloads or activations, of which a grain holds only a part."""


@dataclass(frozen=True, kw_only=True)
class SizedOptions:
    """Options of `Sized`."""

    n_params: int = 1_000_000
    flops_per_sample: float = 0.0
    """Forward and backward; 0: 6 per parameter (Kaplan et al. 2020, arXiv:2001.08361) and token, one token a sample."""
    n_layers: int = 1
    """Where it may be cut into stages."""
    activation_elements: int = 1
    """Between two layers, of a sample, as they are held here: the described ones divided by the grain."""

    def __post_init__(self) -> None:
        require(1 <= self.n_params <= 10**12, "n_params", "between 1 and 1e12", self.n_params)
        require(0 <= self.flops_per_sample <= 1e18, "flops_per_sample", "between 0 and 1e18", self.flops_per_sample)
        require(1 <= self.n_layers <= 1024, "n_layers", "between 1 and 1024", self.n_layers)
        fits = 1 <= self.activation_elements <= 1 << 24
        require(fits, "activation_elements", "between 1 and 2^24", self.activation_elements)


class SizedLayer(torch.nn.Module):
    """Gives out one number, as often as its size has it: the mean of what it is given, scaled by what it has learnt."""

    def __init__(self, n_elements: int) -> None:
        super().__init__()
        self.held = torch.nn.Parameter(torch.ones(1))
        self._n_elements = n_elements

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return constant(mean_of(x) * float(self.held), (x.shape[0], self._n_elements))
        return (x.to(torch.float32).mean() * self.held).expand(len(x), self._n_elements)


class Sized(Staged):
    """A model of a size. Its loss falls with the updates made, so that a curve shows progress and nothing else."""

    name = f"{__name__}:Sized"
    knows_derivatives = True

    def __init__(self, *, options: Mapping[str, OptionValue], data: Path | None = None) -> None:
        self._options = read_options(SizedOptions, options, owner="task 'analytic'")
        self._remembered = Remembered()

    @property
    def n_train(self) -> int:
        return 1 << 30

    def build_model(self, seed: int) -> torch.nn.Module:
        n_elements = self._options.activation_elements
        return torch.nn.Sequential(*(SizedLayer(n_elements) for _ in range(self._options.n_layers)))

    def inputs(self, indices: Indices) -> torch.Tensor:
        return constant(1, (len(indices), 1), torch.int64)

    def targets(self, indices: Indices) -> torch.Tensor:
        return self.inputs(indices)

    def output_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 1.0 / outputs.mean()

    def codec(self, compression: Compression) -> SizedCodec:
        return SizedCodec(compression, self._remembered)

    def derivatives(self, stage: Stage, x: torch.Tensor, arrived: torch.Tensor) -> Derivatives:
        """Each layer scales the mean of what it is given, so a stage is a product of factors."""
        factors = {name: float(parameter) for name, parameter in stage.trained.items()}
        product, mean = math.prod(factors.values()), mean_of(x)
        if stage.is_last:
            loss = 1.0 / (mean * product)
            arrived_sum = -loss * loss
        else:
            loss, arrived_sum = None, mean_of(arrived) * arrived.numel()
        gradients = {name: torch.full((1,), arrived_sum * mean * product / factor) for name, factor in factors.items()}
        input_gradient = None if stage.is_first else constant(arrived_sum * product / x.numel(), tuple(x.shape))
        return Derivatives(input_gradient=input_gradient, gradients=gradients, loss=loss)

    def held_out_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        samples = self.inputs(np.zeros(N_HELD_OUT, np.int64))
        return samples, samples

    def fingerprint(self) -> str:
        return hashlib.sha256(f"sized {self._options}".encode()).hexdigest()

    def flops_per_sample(self) -> float:
        return self._options.flops_per_sample or 6.0 * self._options.n_params


@dataclass(frozen=True, kw_only=True)
class SizedExchange:
    """Options of `Gather` and `Reduce`."""

    payload_bytes: int = 94_000
    """Of each contribution, as it is held here; `Reduce` rounds it up to whole floats."""
    local_steps: int = 1
    """Steps of one's own between exchanges."""

    def __post_init__(self) -> None:
        require(8 <= self.payload_bytes <= 1 << 30, "payload_bytes", "between 8 and 2^30", self.payload_bytes)
        require(1 <= self.local_steps <= 10**6, "local_steps", "between 1 and 1e6", self.local_steps)


class Gather(Method):
    """Everybody gets everybody's payload, as with sparse methods. The first 8 bytes count its sender's work."""

    name = "analytic-gather"
    exchange = Exchange.GATHER
    adds = True
    default_lr = 1.0
    options_type = SizedExchange

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: SizedExchange, schedule: Schedule) -> None:
        self._parameters = list(parameters.values())
        self._options = options
        self._pending = torch.zeros((), dtype=torch.int64)

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        self._pending += n_samples

    def encode(self, agreed: F32) -> bytes:
        return int(self._pending).to_bytes(8, "little") + bytes(self._options.payload_bytes - 8)

    @torch.no_grad()
    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        torch._foreach_add_(self._parameters, 0.01 * self._options.local_steps)
        if mine is not None:
            self._pending.zero_()
        return ()

    def check(self, payload: bytes) -> None:
        if len(payload) != self.payload_bytes_max():
            raise BadPayload(f"payload of {len(payload)} bytes, expected {self.payload_bytes_max()}")

    def payload_bytes_max(self) -> int:
        return self._options.payload_bytes

    def shared_state(self) -> dict[str, torch.Tensor]:
        return {}

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"pending": self._pending}

    def steps(self, step: int) -> int:
        return self._options.local_steps

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, "payload_bytes": self._options.payload_bytes}


class Reduce(Gather):
    """Payloads are vectors that are reduced part by part, as with dense methods."""

    name = "analytic-reduce"
    exchange = Exchange.REDUCE

    def encode(self, agreed: F32) -> bytes:
        vector = np.zeros(self.payload_bytes_max() // 4, "<f4")
        vector[-1] = int(self._pending)
        return vector.tobytes()

    def payload_bytes_max(self) -> int:
        return -(-self._options.payload_bytes // 4) * 4
