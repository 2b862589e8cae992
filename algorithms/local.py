"""Local SGD or AdamW: replicas train on their own for H steps, then average their parameters.

    theta_i   theta, then H inner steps on samples of replica i; the inner optimizer's state stays local
    theta     mean of theta_i over the contributors

H is constant, or follows the Quadratic Synchronization Rule (Gu et al. 2023, arXiv:2310.14423; see `intervals`). With
H = 1 and plain SGD this is data-parallel SGD. Per step it sends 1/H of what averaging gradients sends, and with a
`codec` of 16 or 8 bits half or a quarter of that. What the codec dropped of a drift stays in the drift, and so is sent
with a later one; the mean is coded once more, which errs alike on all replicas (see `codecs.units`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

from .dense import CODECS, FP32, N_COUNTED_MAX, dense_format
from .intervals import Interval, default_alpha
from .local_steps import LocalSteps
from .method import F32, U8, Exchange, Method, Slots
from .optimizers import OptimizerOptions
from .options import describe_options, require
from .schedule import Schedule

RULES: Final = ("constant", "qsr")
H_MAX: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class LocalOptions(OptimizerOptions):
    """Options of `local`; the optimizer is the inner one."""

    h: int = 4
    """Local steps in a round; under `qsr` the least (H_base)."""
    rule: str = "constant"
    """constant or qsr."""
    alpha: float = 0.0
    """Growth under `qsr`; 0: peak learning rate * sqrt(h), so that H leaves h as soon as the rate falls."""
    overlap: bool = False
    """Exchange one round's work while the next one's is done; averages then arrive a round late."""
    codec: str = FP32
    """What drifts travel in: fp32, fp16, bf16, int8 or dynamic8."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.h <= H_MAX, "h", f"between 1 and {H_MAX}", self.h)
        require(self.rule in RULES, "rule", f"one of {', '.join(RULES)}", self.rule)
        require(0 <= self.alpha <= 1e6, "alpha", "between 0 and 1e6", self.alpha)
        require(self.codec in CODECS, "codec", f"one of {', '.join(CODECS)}", self.codec)


class Local(Method):
    """Averaging of parameters after local steps."""

    name = "local"
    exchange = Exchange.REDUCE
    default_lr = 1e-3
    options_type = LocalOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: LocalOptions, schedule: Schedule) -> None:
        self._options = options
        self._local = LocalSteps(parameters, options, schedule)
        self.format = dense_format(options.codec, self._local.layout.dim, counted=True)
        self.format.counts = range(1, 2)
        self.unit_bytes = self.format.unit_bytes
        alpha = 0.0 if options.rule == "constant" else options.alpha or default_alpha(schedule, options.h)
        self._interval = Interval(base=options.h, alpha=alpha, schedule=schedule)
        self._n_samples: torch.Tensor | None = None
        """Behind the drift, where contributions weigh by that; None: all weigh alike."""
        self.overlaps = options.overlap

    def weigh_by_samples(self) -> None:
        """Let replicas take unequal shares of a step's samples, as those of a pipeline's stage do.

        The mean is then over samples: theta = theta + sum of n_i drift_i / sum of n_i. Before anything else is called.
        """
        self._n_samples = torch.zeros((), dtype=torch.int64)
        self.format.counts = range(N_COUNTED_MAX + 1)

    def steps(self, step: int) -> int:
        return self._interval.steps(step)

    @contextmanager
    def working(self) -> Iterator[None]:
        with self._local.working():
            yield

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        self._local.step(gradients)
        if self._n_samples is not None:
            self._n_samples += n_samples

    def encode(self, agreed: F32) -> bytes:
        drift, weight = self._local.send(), self._weight
        payload = self.format.encode(torch.cat([drift if weight == 1 else drift * weight, weight]).numpy())
        if not self.format.exact:
            sent = torch.from_numpy(self.format.decode(payload)[:-1])
            self._local.sent.copy_(sent if weight == 1 else sent / weight.clamp(min=1))
        return payload

    @property
    def _weight(self) -> torch.Tensor:
        """float32 [1]."""
        return torch.ones(1) if self._n_samples is None else self._n_samples.reshape(1).to(torch.float32)

    def reduce(self, parts: Sequence[U8], start: int) -> U8:
        return self.format.reduce(parts, start)

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        (reduced,) = payloads
        move = self._move(torch.from_numpy(self.format.mean(reduced, len(slots.contributors))))
        self._local.settle(move, sent=mine is not None, step=step, n_steps=self.steps(step))
        if mine is not None and self._n_samples is not None:
            self._n_samples.zero_()
        return ()

    def check(self, payload: bytes) -> None:
        self.format.check(payload)

    def payload_bytes_max(self) -> int:
        return self.format.n_bytes

    def shared_state(self) -> dict[str, torch.Tensor]:
        return self._local.shared_state()

    def local_state(self) -> dict[str, torch.Tensor]:
        weight = {"n_samples": self._n_samples} if self._n_samples is not None else {}
        return {**self._local.local_state(), **weight}

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self._options)}

    def _move(self, mean: torch.Tensor) -> torch.Tensor:
        """What to add to the agreed parameters, given the mean drift, float32 [dim]."""
        return mean
