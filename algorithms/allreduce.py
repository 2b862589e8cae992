"""Data-parallel training by averaging gradients: the dense baseline.

    payload   sum over my pending samples of their gradient, and how many they are
    reduce    sum over the contributors, in roster order
    update    mean = sum / number of samples; clip its global norm; AdamW or SGD

Since sums travel and not means, n peers with b samples each make the step that one peer with n * b samples makes, up
to rounding; how far apart rounding drives two such runs depends on the optimizer. The defaults are stable in that
sense: Adam divides by sqrt(square) + eps, so a tiny eps turns noise in tiny gradients into full steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from .clipping import GRADIENT_ABS_MAX, clip_by_global_norm, refuse_unusable
from .errors import BadPayload
from .layout import Layout
from .method import F32, Exchange, Method, Slots
from .optimizers import OptimizerOptions
from .options import describe_options
from .schedule import Schedule

N_SAMPLES_MAX: Final = 2**24
"""Above this float32 cannot count one by one."""


@dataclass(frozen=True, kw_only=True)
class AllReduceOptions(OptimizerOptions):
    """Options of `allreduce`."""


class AllReduce(Method):
    """Dense averaging of gradients."""

    name = "allreduce"
    exchange = Exchange.REDUCE
    default_lr = 3e-4
    options_type = AllReduceOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: AllReduceOptions, schedule: Schedule) -> None:
        self._parameters = dict(parameters)
        self._options = options
        self._schedule = schedule
        self._layout = Layout.of(parameters)
        self._optimizer = options.build(self._layout.dim)
        # Sum of sample gradients, and behind it the number of samples: the payload as it stands.
        self._pending = torch.zeros(self._layout.dim + 1)

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        pending = self._pending.clone()
        pending[:-1].add_(self._layout.pack(gradients), alpha=n_samples)
        pending[-1] += n_samples
        refuse_unusable(pending)
        self._pending.copy_(pending)

    def encode(self, agreed: F32) -> bytes:
        return bytes(self._pending.numpy().astype("<f4", copy=False).tobytes())

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        (reduced,) = payloads
        vector = torch.from_numpy(np.frombuffer(reduced, "<f4").astype(np.float32))
        mean = vector[:-1] / vector[-1].clamp(min=1)
        clip_by_global_norm(mean, self._options.clip)
        self._descend(self._optimizer.direction(mean), self._schedule.rate(step))
        if mine is not None:
            self._pending.zero_()
        return ()

    def check(self, payload: bytes) -> None:
        if len(payload) != self.payload_bytes_max():
            raise BadPayload(f"payload of {len(payload)} bytes, expected {self.payload_bytes_max()}")
        vector = np.frombuffer(payload, "<f4")
        # NaN makes the comparison false.
        if not float(np.abs(vector).max()) <= GRADIENT_ABS_MAX:
            raise BadPayload("payload holds NaN, infinity or values above 2^100")
        n_samples = float(vector[-1])
        if not (0 <= n_samples <= N_SAMPLES_MAX and n_samples.is_integer()):
            raise BadPayload(f"payload counts {n_samples} samples, expected an integer of at most {N_SAMPLES_MAX}")

    def payload_bytes_max(self) -> int:
        return 4 * (self._layout.dim + 1)

    def shared_state(self) -> dict[str, torch.Tensor]:
        return self._optimizer.state()

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"pending": self._pending}

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self._options)}

    @torch.no_grad()
    def _descend(self, direction: torch.Tensor, lr: float) -> None:
        for parameter, part in zip(self._parameters.values(), self._layout.views(direction), strict=True):
            parameter.mul_(1 - lr * self._options.weight_decay)
            parameter.sub_(part.to(parameter.device), alpha=lr)
