"""Data-parallel training by averaging gradients: the dense baseline.

    payload   sum over my pending samples of their gradient, and how many they are
    reduce    sum over the contributors, in roster order
    update    mean = sum / number of samples; clip its global norm; AdamW or SGD

Since sums travel and not means, n peers with b samples each make the step that one peer with n * b samples makes, up
to rounding; how far apart rounding drives two such runs depends on the optimizer. The defaults are stable in that
sense: Adam divides by sqrt(square) + eps, so a tiny eps turns noise in tiny gradients into full steps.

With a robust rule (`aggregate`, see `robust`) each peer sends the mean over its samples instead, and every contributor
counts once: how many samples a peer claims to have is then no lever, since it is not even said. What that costs is
the weight of an honest peer that brings samples of several rounds. A peer without samples brings zeros. Where peers
may lie, they must not reduce parts on behalf of others either, so whole vectors go to everybody: n / 2 times the
traffic. `exchange = "reduce"` spares that for rules that act by coordinate, and then only *contributions* may be bad.

`codec` makes the payload smaller: 16 bits a value are half of it, 8 bits a quarter. What the codec dropped of a
contribution that counted stays pending, so that over the rounds everything is sent (error feedback). The reduced
vector is coded once more, on its way back; how much that errs says `codecs.units`, and it is the same on all peers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from .clipping import refuse_unusable
from .dense import CODECS, FP32, Aggregate, dense_format
from .descent import Descent
from .errors import TooFewContributions
from .method import F32, U8, Exchange, Method, Slots
from .optimizers import OptimizerOptions
from .options import BadOption, describe_options, require
from .robust import DENSE_RULES, Aggregated, Rule, build_rule
from .robust.choice import refuse_sparse_rule
from .schedule import Schedule
from .stragglers import NoiseScale

AGGREGATES: Final = ("mean", *DENSE_RULES)
EXCHANGES: Final = ("auto", "reduce", "gather")
N_LIARS_MAX: Final = 15


@dataclass(frozen=True, kw_only=True)
class AllReduceOptions(OptimizerOptions):
    """Options of `allreduce`."""

    aggregate: str = "mean"
    """mean, or a robust rule: trimmed, median, krum, multikrum, clip, centered."""
    n_liars: int = 1
    """Arbitrary contributions that a robust rule must withstand."""
    radius: float = 0.0
    """centered only: the longest step one contribution can ask for; 0: the median of their distances."""
    repeats: int = 1
    """centered only: steps a round."""
    exchange: str = "auto"
    """auto: reduce for mean, gather for robust rules; reduce: part by part, where the reducers are trusted; gather."""
    codec: str = FP32
    """What vectors travel in: fp32, fp16, bf16, int8 or dynamic8."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_sparse_rule(self.aggregate)
        require(self.aggregate in AGGREGATES, "aggregate", f"one of {', '.join(AGGREGATES)}", self.aggregate)
        require(1 <= self.n_liars <= N_LIARS_MAX, "n_liars", f"between 1 and {N_LIARS_MAX}", self.n_liars)
        require(0 <= self.radius <= 1e6, "radius", "between 0 and 1e6", self.radius)
        require(1 <= self.repeats <= 10, "repeats", "between 1 and 10", self.repeats)
        require(self.exchange in EXCHANGES, "exchange", f"one of {', '.join(EXCHANGES)}", self.exchange)
        require(self.codec in CODECS, "codec", f"one of {', '.join(CODECS)}", self.codec)
        self._check_exchange()

    def _check_exchange(self) -> None:
        rule = self.rule()
        if rule is None and self.exchange == "gather":
            raise BadOption("option 'exchange' cannot be 'gather' for the mean, which is reduced: leave it out")
        if rule is not None and self.exchange == "reduce" and not rule.per_coordinate:
            raise BadOption(
                f"option 'exchange' cannot be 'reduce': {self.aggregate!r} needs whole vectors, so 'gather'"
            )

    def rule(self) -> Rule | None:
        """The robust rule; None for the mean."""
        if self.aggregate == "mean":
            return None
        return build_rule(self.aggregate, n_liars=self.n_liars, radius=self.radius, n_repeats=self.repeats)


class AllReduce(Method):
    """Dense averaging of gradients."""

    name = "allreduce"
    default_lr = 3e-4
    options_type = AllReduceOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: AllReduceOptions, schedule: Schedule) -> None:
        self._options = options
        self.descent = Descent(parameters, options, schedule)
        """What moves the parameters along the mean."""
        self._layout = self.descent.layout
        self._rule = options.rule()
        self._noise = NoiseScale()
        reduced = options.exchange == "reduce" or self._rule is None
        self.exchange = Exchange.REDUCE if reduced else Exchange.GATHER
        self.format = dense_format(options.codec, self._layout.dim, counted=self._rule is None)
        self.unit_bytes = self.format.unit_bytes
        self.adds = self._rule is None and self.format.exact
        # Sum of sample gradients, and behind it the number of samples: without a rule what the payload holds.
        self._pending = torch.zeros(self._layout.dim + 1)
        keeps_reference = self._rule is not None and self._rule.keeps_reference
        self._reference = torch.zeros(self._layout.dim if keeps_reference else 0)

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        pending = self._pending.clone()
        pending[:-1].add_(self._layout.pack(gradients), alpha=n_samples)
        pending[-1] += n_samples
        refuse_unusable(pending)
        self._pending.copy_(pending)

    def encode(self, agreed: F32) -> bytes:
        vector = self._pending if self._rule is None else _mean_of_samples(self._pending)
        return self.format.encode(vector.numpy())

    def reduce(self, parts: Sequence[U8], start: int) -> U8:
        return self.format.reduce(parts, start, self._part_aggregate())

    def _part_aggregate(self) -> Aggregate | None:
        rule = self._rule
        if rule is None:
            return None

        def aggregate(parts: Sequence[F32]) -> F32:
            if len(parts) < rule.n_min:
                return np.zeros_like(parts[0])  # `combine` refuses this round
            return rule.aggregate(parts, self._reference.numpy()).vector

        return aggregate

    def noise_scale(self) -> float:
        return self._noise.value

    def suffices(self, slots: Slots) -> bool:
        return self._rule is None or len(slots.contributors) >= self._rule.n_min

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        if not self.suffices(slots):
            raise TooFewContributions(
                f"{len(slots.contributors)} contributions: {self._options.aggregate} with n_liars = "
                f"{self._options.n_liars} needs {self._rule.n_min if self._rule else 1}"
            )
        aggregated = self._aggregate(payloads, len(slots.contributors))
        if mine is not None:
            own = _mean_of_samples(self._pending)
            self._noise.observe(_square(own), _square(torch.from_numpy(aggregated.vector)), len(slots.contributors))
        self.descent.update(torch.from_numpy(aggregated.vector), step)
        if mine is not None:
            self._retire()
        return aggregated.dropped

    def _aggregate(self, payloads: Sequence[bytes], n_contributors: int) -> Aggregated:
        if self._rule is not None and self.exchange is Exchange.GATHER:
            vectors = [self.format.decode(payload) for payload in payloads]
            aggregated = self._rule.aggregate(vectors, self._reference.numpy())
            if self._rule.keeps_reference:
                self._reference.copy_(torch.from_numpy(aggregated.vector))
            return aggregated
        (reduced,) = payloads
        return Aggregated(vector=self.format.mean(reduced, n_contributors))

    def _retire(self) -> None:
        """Take off what is pending what was sent of it: all, but for what the codec dropped."""
        if self.format.exact:
            self._pending.zero_()
            return
        sent = torch.from_numpy(self.format.decode(self.encode(np.empty(0, np.float32))))
        weight = 1.0 if self._rule is None else float(self._pending[-1].clamp(min=1))
        self._pending[:-1].sub_(sent[: self._layout.dim], alpha=weight)
        self._pending[-1] = 0

    def check(self, payload: bytes) -> None:
        self.format.check(payload)

    def payload_bytes_max(self) -> int:
        return self.format.n_bytes

    def shared_state(self) -> dict[str, torch.Tensor]:
        reference = {"reference": self._reference} if len(self._reference) else {}
        return {**self.descent.state(), **reference}

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"pending": self._pending}

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self._options)}


def _square(vector: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64)) ** 2


def _mean_of_samples(vector: torch.Tensor) -> torch.Tensor:
    """Of a sum with the number of samples behind it; zeros if there are none."""
    return vector[:-1] / vector[-1].clamp(min=1)
