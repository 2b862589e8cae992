"""TernGrad (Wen et al. 2017, arXiv:1705.07878): gradients of -1, 0 and 1, right on average.

    pending        sum over my samples of their gradient, per tensor; clipped to 2.5 rms about zero when it is sent
    scaler         s = max |clipped|, per tensor: the largest of all peers' (`agree`)
    contribution   s, and sign(g) * Bernoulli(|g| / s)
    update         mean = s * (sum of the contributions, in integers) / samples; then SGD, momentum or AdamW

Tensors under 64 elements travel as they are, and so may the last layer (`dense_last`) and everything in the first
rounds (`warmup_rounds`). A payload carries the scalers that it was made with: where they differ (somebody missed the
agreement), contributions are scaled one by one, which is as right. On purpose unlike the paper: clipping is about zero
and by the rms, since by the standard deviation a constant tensor would vanish. What clipping cuts is not fed back.

Probabilities are multiples of 2^-23. Random bits are a function of the run's `seed`, the number of updates, the slot
that this replica last contributed from, the tensor and the element: a resumed run repeats them. A newcomer counts as
slot 0 until its first contribution; sharing another's bits costs variance for a round, and no bias.

One liar can agree to a huge scaler and so turn everybody's contribution into noise: use it among peers that you trust.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from . import ternary
from .clipping import GRADIENT_ABS_MAX, clip_by_global_norm, refuse_unusable
from .errors import BadPayload
from .layout import Layout
from .method import F32, Exchange, Method, Slots
from .optimizers import OptimizerOptions
from .options import describe_options, require
from .schedule import Schedule

VERSION: Final = 1
HEADER: Final = struct.Struct("<BBHII")
"""version, whether all is dense, 0, number of tensors, number of samples."""
DENSE_BELOW: Final = 64
N_SAMPLES_MAX: Final = 2**24
SLOT_BITS: Final = 12


@dataclass(frozen=True, kw_only=True)
class TernGradOptions(OptimizerOptions):
    """Options of `terngrad`, besides those of its optimizer."""

    packing: str = "base3"
    """base3: five elements a byte; 2bit: four."""
    shared_scaler: bool = True
    """Agree on scalers before each round, so that contributions add up as integers; False saves that exchange."""
    dense_last: bool = False
    """Send the last layer in full precision, as the paper does."""
    warmup_rounds: int = 0
    """Rounds in which everything travels in full precision; 0: none."""
    seed: int = 0
    """Of the random rounding; the same on all replicas."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.packing in ternary.PACKINGS, "packing", "base3 or 2bit", self.packing)
        require(self.warmup_rounds >= 0, "warmup_rounds", "at least 0", self.warmup_rounds)
        require(0 <= self.seed < 2**32, "seed", "between 0 and 2^32 - 1", self.seed)


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """A payload taken apart."""

    n_samples: int
    scalers: F32 | None
    """Of the ternary tensors; None if everything is dense."""
    packed: list[npt.NDArray[np.uint8]]
    dense: list[F32]


class TernGrad(Method):
    """Stochastic ternary gradients."""

    name = "terngrad"
    exchange = Exchange.GATHER
    default_lr = 3e-4
    options_type = TernGradOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: TernGradOptions, schedule: Schedule) -> None:
        self._parameters = dict(parameters)
        self._options = options
        self._schedule = schedule
        self._layout = Layout.of(parameters)
        self._is_ternary = [
            parameter.numel() >= DENSE_BELOW and not (options.dense_last and is_last)
            for parameter, is_last in zip(parameters.values(), _of_last_layer(self._layout.names), strict=True)
        ]
        self._sizes = [parameter.numel() for parameter in parameters.values()]
        self._optimizer = options.build(self._layout.dim)
        self._pending = torch.zeros(self._layout.dim)
        self._n_samples = torch.zeros((), dtype=torch.int64)
        self._slot = torch.zeros((), dtype=torch.int64)
        self._n_rounds = torch.zeros((), dtype=torch.int64)

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        pending = self._layout.pack(gradients).mul_(n_samples).add_(self._pending)
        refuse_unusable(pending)
        self._pending.copy_(pending)
        self._n_samples += n_samples

    def agree(self) -> F32:
        if not self._options.shared_scaler or self._is_warming_up():
            return np.empty(0, np.float32)
        return np.array([ternary.scaler_of(part)[0] for part in self._ternary_parts()], np.float32)

    def encode(self, agreed: F32) -> bytes:
        parts = self._split(self._pending.numpy())
        if self._is_warming_up():
            return self._header(all_dense=True) + b"".join(part.astype("<f4").tobytes() for part in parts)
        own = [ternary.scaler_of(part) for part in self._ternary_parts()]
        scalers = _at_least(np.array([scaler for scaler, _ in own], np.float32), agreed)
        key = (self._options.seed, int(self._n_rounds) % 2**32)
        slot = int(self._slot) % 2**SLOT_BITS
        packed = [
            ternary.encode(
                part,
                bound=bound,
                scaler=float(scaler),
                packing=self._options.packing,
                key=key,
                stream=slot | tensor << SLOT_BITS,
            )
            for tensor, (part, (_, bound), scaler) in enumerate(zip(self._ternary_parts(), own, scalers, strict=True))
        ]
        dense = [part.astype("<f4").tobytes() for part, is_ternary in self._marked(parts) if not is_ternary]
        return self._header(all_dense=False) + scalers.astype("<f4").tobytes() + b"".join(packed + dense)

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        contributions = [self._read(payload) for payload in payloads]
        total = torch.zeros(self._layout.dim)
        self._add_dense(self._split(total.numpy()), contributions)
        self._add_ternary(self._split(total.numpy()), [c for c in contributions if c.scalers is not None])
        mean = total.div_(max(1, sum(c.n_samples for c in contributions)))
        clip_by_global_norm(mean, self._options.clip)
        self._descend(self._optimizer.direction(mean), self._schedule.rate(step))
        if mine is not None:
            self._pending.zero_()
            self._n_samples.zero_()
            self._slot.fill_(slots.contributors[mine])
        self._n_rounds += 1
        return ()

    def check(self, payload: bytes) -> None:
        contribution = self._read(payload)
        sizes = [n for n, is_ternary in self._marked(self._sizes) if is_ternary]
        for packed, n in zip(contribution.packed, sizes, strict=False):
            ternary.check(packed, n, self._options.packing)
        for values in [*contribution.dense, contribution.scalers]:
            # NaN makes the comparison false.
            if values is not None and not float(np.abs(values).max(initial=0.0)) <= GRADIENT_ABS_MAX:
                raise BadPayload("payload holds NaN, infinity or values above 2^100")
        if contribution.scalers is not None and np.signbit(contribution.scalers).any():
            raise BadPayload("a scaler is negative")

    def payload_bytes_max(self) -> int:
        return self._bytes(all_dense=self._options.warmup_rounds > 0)

    def shared_state(self) -> dict[str, torch.Tensor]:
        return {**self._optimizer.state(), "n_rounds": self._n_rounds}

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"pending": self._pending, "n_samples": self._n_samples, "slot": self._slot}

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self._options)}

    def _is_warming_up(self) -> bool:
        return int(self._n_rounds) < self._options.warmup_rounds

    def _split(self, flat: F32) -> list[F32]:
        return np.split(flat, np.cumsum(self._sizes)[:-1]) if self._sizes else []

    def _marked(self, of_tensors: Sequence[Any]) -> list[tuple[Any, bool]]:
        """Something of each tensor, with whether that is ternary."""
        return list(zip(of_tensors, self._is_ternary, strict=True))

    def _ternary_parts(self) -> list[F32]:
        return [part for part, is_ternary in self._marked(self._split(self._pending.numpy())) if is_ternary]

    def _header(self, *, all_dense: bool) -> bytes:
        return HEADER.pack(VERSION, all_dense, 0, len(self._sizes), int(self._n_samples))

    def _bytes(self, *, all_dense: bool) -> int:
        if all_dense:
            return HEADER.size + 4 * self._layout.dim
        packing = self._options.packing
        lengths = [
            4 + ternary.packed_bytes(n, packing) if is_ternary else 4 * n for n, is_ternary in self._marked(self._sizes)
        ]
        return HEADER.size + sum(lengths)

    def _read(self, payload: bytes) -> Contribution:
        """Take a payload of the right length apart. Raises BadPayload."""
        if len(payload) < HEADER.size:
            raise BadPayload(f"payload of {len(payload)} bytes is shorter than its header of {HEADER.size}")
        version, all_dense, nothing, n_tensors, n_samples = HEADER.unpack_from(payload)
        if (version, nothing, n_tensors) != (VERSION, 0, len(self._sizes)) or all_dense > 1:
            raise BadPayload(f"payload has (version, dense, tensors) = {version, all_dense, n_tensors}, not ours")
        if n_samples > N_SAMPLES_MAX:
            raise BadPayload(f"payload counts {n_samples} samples, at most {N_SAMPLES_MAX} are possible")
        if all_dense and not self._options.warmup_rounds:
            raise BadPayload("a dense payload in a run without warm-up")
        if len(payload) != self._bytes(all_dense=bool(all_dense)):
            raise BadPayload(f"payload of {len(payload)} bytes, expected {self._bytes(all_dense=bool(all_dense))}")
        return self._take_apart(payload, n_samples, all_dense=bool(all_dense))

    def _take_apart(self, payload: bytes, n_samples: int, *, all_dense: bool) -> Contribution:
        at, scalers = HEADER.size, None
        packed: list[npt.NDArray[np.uint8]] = []
        dense: list[F32] = []
        if not all_dense:
            scalers = np.frombuffer(payload, "<f4", sum(self._is_ternary), at).astype(np.float32)
            at += scalers.nbytes
            for n, is_ternary in self._marked(self._sizes):
                if is_ternary:
                    packed.append(np.frombuffer(payload, np.uint8, ternary.packed_bytes(n, self._options.packing), at))
                    at += len(packed[-1])
        for n, is_ternary in self._marked(self._sizes):
            if all_dense or not is_ternary:
                dense.append(np.frombuffer(payload, "<f4", n, at).astype(np.float32))
                at += dense[-1].nbytes
        return Contribution(n_samples=n_samples, scalers=scalers, packed=packed, dense=dense)

    def _add_dense(self, totals: Sequence[F32], contributions: Sequence[Contribution]) -> None:
        for contribution in contributions:
            of_dense = [t for t, is_ternary in self._marked(totals) if contribution.scalers is None or not is_ternary]
            for total, values in zip(of_dense, contribution.dense, strict=True):
                np.add(total, values, out=total)

    def _add_ternary(self, totals: Sequence[F32], contributions: Sequence[Contribution]) -> None:
        packing = self._options.packing
        of_ternary = [total for total, is_ternary in self._marked(totals) if is_ternary]
        for tensor, total in enumerate(of_ternary if contributions else []):
            scalers = [float(c.scalers[tensor]) for c in contributions if c.scalers is not None]
            rows = [c.packed[tensor] for c in contributions]
            if len(set(scalers)) == 1:
                ternary.add(total, rows, scaler=scalers[0], packing=packing)
                continue
            for row, scaler in zip(rows, scalers, strict=True):
                ternary.add(total, [row], scaler=scaler, packing=packing)

    @torch.no_grad()
    def _descend(self, direction: torch.Tensor, lr: float) -> None:
        for parameter, part in zip(self._parameters.values(), self._layout.views(direction), strict=True):
            parameter.mul_(1 - lr * self._options.weight_decay)
            parameter.sub_(part.to(parameter.device), alpha=lr)


def _at_least(own: F32, agreed: F32) -> F32:
    """The agreed scalers where they can be used: never below one's own, or probabilities would exceed 1."""
    if agreed.shape != own.shape or not np.isfinite(agreed).all():
        return own
    return np.maximum(own, np.minimum(agreed, np.float32(GRADIENT_ABS_MAX)))


def _of_last_layer(names: Sequence[str]) -> list[bool]:
    """Which tensors belong to the module of the last one, e.g. both head.weight and head.bias."""
    if not names:
        return []
    module = names[-1].rpartition(".")[0]
    return [name == names[-1] or (module != "" and name.rpartition(".")[0] == module) for name in names]
